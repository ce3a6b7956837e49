"""One report on the forms of one detector or of several: a page that needs no other file, and Markdown."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import jinja2
from markupsafe import Markup

from samebox.coco.evaluated import EvaluatedForm
from samebox.comparing.comparison import signed
from samebox.comparing.measures import KINDS, PER_CLASS
from samebox.reporting.gallery import pictures
from samebox.reporting.machine import environment
from samebox.reporting.markdown import escaped, markdown
from samebox.reporting.overview import overview, summary
from samebox.reporting.plots import LEVELS, precision_recall, svg
from samebox.reporting.section import Section
from samebox.reporting.steps import ladders

# The parts of the time as metrics.json and as people call them
_STEPS = {"preprocess": "pre-processing", "network": "network", "postprocess": "post-processing"}

# What becomes of detections, in the order of the table
_FATES = ("matched", "moved", "rescored", "lost", "new")


def page(
    sections: Sequence[Section], title: str = "samebox report", images: int = 4, threshold: float = 0.3
) -> str:
    """The page as HTML; it loads nothing from elsewhere, and the same input gives the same page.

    `images` pictures a detector are shown, with the detections whose score is at least `threshold`.
    Raises SameboxError where one of their files is missing.
    """
    parts = [
        {**_part(section), "plots": _plots(section), "pictures": pictures(section, images, threshold)}
        for section in sections
    ]
    return _filled("page.html", title, sections, parts, threshold=threshold)


def pull_request(sections: Sequence[Section], title: str = "samebox report") -> str:
    """The same in GitHub's Markdown, without pictures."""
    parts = [{**_part(section), "table": markdown(section.comparison)} for section in sections]
    return _filled("page.md", title, sections, parts)


def _filled(
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
            fates=_FATES,
            **more,
        )
    )


@cache
def templates() -> jinja2.Environment:
    """The templates beside this module; what goes into HTML is escaped."""
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("samebox.reporting", ""),
        autoescape=jinja2.select_autoescape(["html"]),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    found.filters |= {"signed": signed, "escaped": escaped, "quantiles": _quantiles}
    return found


def _part(section: Section) -> dict[str, Any]:
    """What both say of one detector."""
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
        "ladders": ladders(section.comparison),
        "differences": {
            form.title: section.differences[form.metrics["runtime"]]
            for form in section.measured
            if form.metrics["runtime"] in section.differences
        },
        "environment": environment(section.forms),
    }


def _quantiles(values: Mapping[str, float]) -> str:
    """Differences by percent, rising."""
    return " / ".join(f"{value:.2g}" for _, value in sorted(values.items(), key=lambda one: int(one[0])))


def _milliseconds(form: EvaluatedForm) -> float:
    return sum(form.metrics["timing"][step]["median"] for step in _STEPS)


def _plots(section: Section) -> dict[str, list[Markup]]:
    """The panels of precision over recall, by kind of IoU."""
    detector = section.comparison.detector
    return {
        kind: [
            Markup(svg(precision_recall(section.forms, kind, [level]), f"{detector} {kind} {level}"))
            for level in LEVELS
        ]
        for kind in section.comparison.kinds
        if any(kind in form.curves for form in section.forms)
    }
