import xml.etree.ElementTree as ElementTree

import pytest
import report_forms

from samebox.coco.evaluated import EvaluatedForm
from samebox.comparing.comparison import Comparison
from samebox.reporting.plots import LEVELS, plot_data, precision_recall, svg

RECALL = [index / 100 for index in range(101)]


def form(title, height, kinds=("bbox",)):
    curves = {level: [height * (1 - recall) for recall in RECALL] for level in LEVELS}
    return EvaluatedForm({"title": title}, {kind: {"recall": RECALL, **curves} for kind in kinds})


@pytest.fixture
def forms():
    return [
        form("PyTorch", 1.0, ("bbox", "segm")),
        form("ONNX <b> & Runtime", 0.9),
        EvaluatedForm({"title": "engine"}),
    ]


def test_each_measured_form_is_a_line_in_each_panel(forms):
    figure = precision_recall(forms, "bbox")
    assert len(figure.axes) == 3
    for axes in figure.axes:
        assert [line.get_label() for line in axes.lines] == ["PyTorch", "ONNX <b> & Runtime"]
        assert axes.lines[1].get_ydata()[0] == 0.9
        assert len(axes.lines[0].get_xdata()) == 101


def test_a_figure_shows_the_forms_that_have_the_kind(forms):
    (axes,) = precision_recall(forms, "segm", ["precision_50"]).axes
    assert [line.get_label() for line in axes.lines] == ["PyTorch"]
    assert axes.get_title(loc="left") == "Mask precision, IoU 0.50"


def test_the_reference_is_a_broad_band():
    axes, *_ = precision_recall([form(str(index), 1.0) for index in range(10)], "bbox").axes
    widths = [line.get_linewidth() for line in axes.lines]
    assert widths[0] > 3 * max(widths[1:])
    looks = {(line.get_color(), str(line.get_linestyle())) for line in axes.lines[:7]}
    assert len(looks) == 7


def test_the_svg_is_deterministic_and_valid(forms):
    first, second = (svg(precision_recall(forms, "bbox"), "plot") for _ in range(2))
    assert first == second
    root = ElementTree.fromstring(first)
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "ONNX <b> & Runtime" in texts
    assert "recall" in texts


def test_the_svg_uses_the_colour_of_the_surrounding_text_and_has_no_group_ids(forms):
    element = svg(precision_recall(forms, "bbox"), "plot")
    assert element.startswith("<svg")
    assert "currentColor" in element
    assert '<g id="' not in element
    assert "<metadata>" not in element


def test_the_figure_of_keypoints_is_about_oks():
    (axes,) = precision_recall(
        [form("PyTorch", 1.0, ("bbox", "keypoints"))], "keypoints", ["precision_50"]
    ).axes
    assert axes.get_title(loc="left") == "Keypoint precision, OKS 0.50"


def test_points_are_those_of_measured_forms_in_order():
    forms = [report_forms.evaluated(form) for form in report_forms.all_forms()]
    points = plot_data(forms, Comparison([form.metrics for form in forms]))
    titles = [form.title for form in forms if form.measured]
    assert list(dict.fromkeys(point["form"] for point in points["curves"])) == titles
    assert len(points["curves"]) == len(titles) * 2 * len(LEVELS) * 101
    assert points["curves"][1] == {
        "form": "PyTorch", "kind": "box", "overlap": "0.50 to 0.95", "recall": 0.01, "precision": 0.99
    }  # fmt: skip
    assert len(points["scores"]) == len(titles) * 2
    assert points["scores"][1] == {"form": "PyTorch", "measure": "mask AP", "points": 47.0}
    assert [point["ms"] for point in points["times"]] == [1.25, 20.0, 2.75] * len(titles)
    assert [point["step"] for point in points["times"][:3]] == ["preprocess", "network", "postprocess"]
