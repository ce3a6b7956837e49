"""Precision over recall, for all forms of a detector; and what other programs draw such figures of."""

import io
import re
from collections.abc import Iterator, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from samebox.coco.evaluated import EvaluatedForm
from samebox.comparing.comparison import TIMES, Comparison
from samebox.comparing.measures import KINDS, main_measure, named
from samebox.reporting.values import numbers

LEVELS = {"precision_mean": "0.50 to 0.95", "precision_50": "0.50", "precision_75": "0.75"}

# Okabe and Ito's colours, told apart with any colour vision. Forms mostly coincide: the reference is a
# broad band and the others lie on it, each dashed in its own rhythm.
COLOURS = ("#b9c4cf", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_DASHES = ("-", "-", (0, (5, 3)), (0, (1, 2)), (0, (6, 2, 1, 2)), (0, (3, 5)), (0, (1, 4)))

_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))

# Stands for the colour of the surrounding text in figures, until the SVG names it.
INK = "#5a6570"


def precision_recall(
    forms: Sequence[EvaluatedForm], kind: str, levels: Sequence[str] = tuple(LEVELS)
) -> Figure:
    """Precision over recall of each measured form that has the kind of IoU, one panel a level."""
    figure = Figure(figsize=(4.2 * len(levels), 3.6), layout="constrained")
    drawn = [form for form in forms if kind in form.curves]
    for axes, level in zip(figure.subplots(1, len(levels), squeeze=False)[0], levels, strict=True):
        for index, form in enumerate(drawn):
            axes.plot(
                form.curves[kind]["recall"], form.curves[kind][level], label=form.title, **_style(index)
            )
        overlap = "OKS" if kind == "keypoints" else "IoU"
        _dress(axes, f"{KINDS[kind].capitalize()} precision, {overlap} {LEVELS[level]}")
    return figure


def plot_data(forms: Sequence[EvaluatedForm], comparison: Comparison) -> dict[str, list[dict[str, Any]]]:
    """The points of each plot that DVC draws, by the plot's name: `curves`, `scores` and `times`.

    Precision and recall are from 0 to 1, scores in points, times in milliseconds an image, as the table
    rounds them. What was not measured has no point.
    """
    return {
        "curves": list(_curve_points(forms)),
        "scores": list(_score_points(comparison)),
        "times": list(_time_points(comparison)),
    }


def _curve_points(forms: Sequence[EvaluatedForm]) -> Iterator[dict[str, Any]]:
    for form in forms:
        for kind, curve in form.curves.items():
            for level, told in LEVELS.items():
                common = {"form": form.title, "kind": KINDS[kind], "overlap": told}
                for recall, precision in zip(curve["recall"], curve[level], strict=True):
                    yield common | {"recall": recall, "precision": precision}


def _score_points(comparison: Comparison) -> Iterator[dict[str, Any]]:
    measured = numbers(comparison)
    for row in comparison.rows:
        for kind in comparison.kinds:
            value = measured[row.runtime].get(f"{kind}/{main_measure(kind)}")
            if value is not None:
                yield {"form": row.title, "measure": named(kind), "points": value}


def _time_points(comparison: Comparison) -> Iterator[dict[str, Any]]:
    measured = numbers(comparison)
    for row in comparison.rows:
        for key in TIMES:
            if key in measured[row.runtime]:
                step = key.removeprefix("ms_")
                yield {"form": row.title, "step": step, "ms": measured[row.runtime][key]}


def svg(figure: Figure, name: str) -> str:
    """The figure as an SVG element whose text and axes take the colour of the text around it.

    The same figure gives the same element. It holds no date, and no ids but those of its clipping and marks,
    which are made from `name`, so that figures of different names fit in one page.
    """
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata=_NO_METADATA)
    element = buffer.getvalue()
    element = element[element.index("<svg") :].replace(INK, "currentColor")
    return re.sub(r'<g id="[^"]*">', "<g>", element)


def _style(index: int) -> dict[str, Any]:
    turn = 1 + (index - 1) % (len(COLOURS) - 1) if index else 0
    return {"color": COLOURS[turn], "linestyle": _DASHES[turn], "linewidth": 1.6 if index else 6}


def _dress(axes: Axes, title: str) -> None:
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
    axes.set_title(title, fontsize=11, loc="left", color=INK)
    axes.tick_params(colors=INK)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    axes.grid(color=INK, alpha=0.18, linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
    axes.legend(loc="lower left", frameon=False, labelcolor=INK, handlelength=3.2)
