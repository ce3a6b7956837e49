"""Figures of precision over recall for all forms of a detector, and the points that DVC draws."""

import io
import re
from collections.abc import Iterator, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from samebox.coco.evaluated import EvaluatedForm
from samebox.comparing.comparison import TIMES, Comparison
from samebox.comparing.measures import KINDS, main_measure, measure_name
from samebox.core.text import printable
from samebox.reporting.values import numbers

LEVELS = {"precision_mean": "0.50 to 0.95", "precision_50": "0.50", "precision_75": "0.75"}

# Okabe and Ito's colours, distinguishable with any colour vision. The curves of forms mostly coincide, so the
# reference is a broad band and the others are drawn on it, each with its own dashes.
COLOURS = ("#b9c4cf", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_DASHES = ("-", "-", (0, (5, 3)), (0, (1, 2)), (0, (6, 2, 1, 2)), (0, (3, 5)), (0, (1, 4)))

_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))

# Placeholder for the colour of the surrounding text, which `svg` replaces.
INK = "#5a6570"


def precision_recall(
    forms: Sequence[EvaluatedForm], kind: str, levels: Sequence[str] = tuple(LEVELS)
) -> Figure:
    """Precision over recall of each form that has curves of the kind, one panel for each level."""
    figure = Figure(figsize=(4.2 * len(levels), 3.6), layout="constrained")
    drawn = [form for form in forms if kind in form.curves]
    for axes, level in zip(figure.subplots(1, len(levels), squeeze=False)[0], levels, strict=True):
        for index, form in enumerate(drawn):
            axes.plot(
                form.curves[kind]["recall"],
                form.curves[kind][level],
                label=plot_label(form.title),
                **_style(index),
            )
        overlap = "OKS" if kind == "keypoints" else "IoU"
        axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
        title = f"{KINDS[kind].capitalize()} precision, {overlap} {LEVELS[level]}"
        axes.set_title(title, fontsize=11, loc="left", color=INK)
        style_axes(axes)
        axes.legend(loc="lower left", frameon=False, labelcolor=INK, handlelength=3.2)
    return figure


def plot_label(text: str) -> str:
    """A text as matplotlib shows it, not as mathematics."""
    return printable(text).replace("$", r"\$")


def plot_data(forms: Sequence[EvaluatedForm], comparison: Comparison) -> dict[str, list[dict[str, Any]]]:
    """The points of each plot that DVC draws, by the name of the plot: `curves`, `scores` and `times`.

    Precision and recall are from 0 to 1, scores in points, times in milliseconds per image, rounded as in the
    table. A value that was not measured has no point.
    """
    return {
        "curves": list(_curve_points(forms)),
        "scores": list(_score_points(comparison)),
        "times": list(_time_points(comparison)),
    }


def _curve_points(forms: Sequence[EvaluatedForm]) -> Iterator[dict[str, Any]]:
    for form in forms:
        for kind, curve in form.curves.items():
            for level, overlap in LEVELS.items():
                common = {"form": form.title, "kind": KINDS[kind], "overlap": overlap}
                for recall, precision in zip(curve["recall"], curve[level], strict=True):
                    yield common | {"recall": recall, "precision": precision}


def _score_points(comparison: Comparison) -> Iterator[dict[str, Any]]:
    measured = numbers(comparison)
    for row in comparison.rows:
        for kind in comparison.kinds:
            value = measured[row.runtime].get(f"{kind}/{main_measure(kind)}")
            if value is not None:
                yield {"form": row.title, "measure": measure_name(kind), "points": value}


def _time_points(comparison: Comparison) -> Iterator[dict[str, Any]]:
    measured = numbers(comparison)
    for row in comparison.rows:
        for key in TIMES:
            if key in measured[row.runtime]:
                step = key.removeprefix("ms_")
                yield {"form": row.title, "step": step, "ms": measured[row.runtime][key]}


def svg(figure: Figure, name: str) -> str:
    """The figure as an SVG element whose text and axes have the colour of the text around it.

    Equal figures give equal elements. The element contains no date, and no ids except those of clip paths and
    markers. These are derived from `name`, so figures with different names fit in one page.
    """
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": printable(name), "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata=_NO_METADATA)
    element = buffer.getvalue()
    element = element[element.index("<svg") :].replace(INK, "currentColor")
    return re.sub(r'<g id="[^"]*">', "<g>", element)


def _style(index: int) -> dict[str, Any]:
    place = 1 + (index - 1) % (len(COLOURS) - 1) if index else 0
    return {"color": COLOURS[place], "linestyle": _DASHES[place], "linewidth": 1.6 if index else 6}


def style_axes(axes: Axes) -> None:
    """Axes and labels in INK, a faint grid, and no line at the top and the right."""
    axes.tick_params(colors=INK)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    axes.grid(color=INK, alpha=0.18, linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
