"""The report on the forms of one or more detectors, as a self-contained page and as Markdown."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import jinja2
from markupsafe import Markup

from samebox.coco.evaluated import EvaluatedForm
from samebox.comparing.comparison import signed
from samebox.comparing.difference import MOVED_IOU, RESCORED
from samebox.comparing.measures import KINDS, PER_CLASS
from samebox.core.text import printable
from samebox.media.drawing import SCORE_THRESHOLD
from samebox.reporting.gallery import pictures
from samebox.reporting.machine import hardware_and_versions
from samebox.reporting.markdown import code, code_block, escaped, escaped_line, markdown
from samebox.reporting.overview import overview, summary
from samebox.reporting.plots import LEVELS, precision_recall, svg
from samebox.reporting.section import Section
from samebox.reporting.steps import step_charts

PICTURES = 4  # per detector

# The parts of the time: their names in metrics.json and on the page
_STEPS = {"preprocess": "pre-processing", "network": "network", "postprocess": "post-processing"}

# The counts of `Difference`, in the order of the table
_COUNTS = ("matched", "moved", "rescored", "lost", "new")


def page(
    sections: Sequence[Section],
    title: str = "samebox report",
    images: int = PICTURES,
    threshold: float = SCORE_THRESHOLD,
) -> str:
    """The page as HTML. It loads nothing from elsewhere, and equal input gives an equal page.

    For each detector, `images` pictures are shown, with the detections whose score is at least `threshold`.
    Raises SameboxError if the file of a picture is missing.
    """
    parts = [
        {**_context(section), "plots": _plots(section), "pictures": pictures(section, images, threshold)}
        for section in sections
    ]
    return _rendered("page.html", title, sections, parts, threshold=threshold)


def pull_request(sections: Sequence[Section], title: str = "samebox report") -> str:
    """The report in GitHub's Markdown, without pictures."""
    parts = [{**_context(section), "table": markdown(section.comparison)} for section in sections]
    return _rendered("page.md", title, sections, parts)


def _rendered(
    template: str, title: str, sections: Sequence[Section], parts: Sequence[dict[str, Any]], **more: Any
) -> str:
    return (
        templates()
        .get_template(template)
        .render(
            title=title,
            overview=overview([section.comparison for section in sections]),
            parts=parts,
            kinds=KINDS,
            per_class=PER_CLASS,
            steps=_STEPS,
            counts=_COUNTS,
            moved_iou=MOVED_IOU,
            rescored=RESCORED,
            **more,
        )
    )


@cache
def templates() -> jinja2.Environment:
    """The templates in this folder; values in HTML are escaped, and all texts printable."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("samebox.reporting", ""),
        autoescape=jinja2.select_autoescape(["html"]),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=_printable_lines,
    )
    environment.filters |= {"signed": signed, "quantiles": _quantiles}
    environment.filters |= {filter.__name__: filter for filter in (escaped, escaped_line, code, code_block)}
    return environment


def _printable_lines(value: Any) -> Any:
    """A text without characters that act on a reader; other values and finished HTML as they are."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return "\n".join(map(printable, value.split("\n")))


def _context(section: Section) -> dict[str, Any]:
    """The values of one detector for both templates."""
    columns = section.comparison.columns
    return {
        "section": section,
        "comparison": section.comparison,
        "scores": [column for column in columns if column.kind and "_delta" not in column.keys[0]],
        "memory": [column for column in columns if column.keys[0].endswith("_mb")],
        "longest": max((_milliseconds(form) for form in section.measured), default=0),
        "invariance": {
            form.title: form.metrics["invariance"] for form in section.forms if form.metrics.get("invariance")
        },
        "summary": summary(section.comparison),
        "charts": step_charts(section.comparison),
        "differences": {
            form.title: section.differences[form.metrics["runtime"]]
            for form in section.measured
            if form.metrics["runtime"] in section.differences
        },
        "environment": hardware_and_versions(section.forms),
    }


def _quantiles(values: Mapping[str, float]) -> str:
    """The quantiles by ascending percentage."""
    return " / ".join(f"{values[percent]:.2g}" for percent in sorted(values, key=int))


def _milliseconds(form: EvaluatedForm) -> float:
    return sum(form.metrics["timing"][step]["median"] for step in _STEPS)


def _plots(section: Section) -> dict[str, list[Markup]]:
    """The panels of precision over recall, by kind of prediction."""
    detector = section.comparison.detector
    return {
        kind: [
            Markup(svg(precision_recall(section.forms, kind, [level]), f"{detector} {kind} {level}"))
            for level in LEVELS
        ]
        for kind in section.comparison.kinds
        if any(kind in form.curves for form in section.forms)
    }
