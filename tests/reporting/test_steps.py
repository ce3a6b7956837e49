import pytest
from report_forms import NOT_RUN, all_forms, metrics, not_run

from samebox.comparing.comparison import Comparison
from samebox.reporting.steps import step_charts


@pytest.fixture
def comparison():
    return Comparison(all_forms())


def differences(chart):
    return {
        step.title: (step.before, round(step.delta, 6), round(step.total, 6))
        for step in chart.steps
        if step.measured
    }


def test_each_form_is_compared_with_the_form_it_was_made_from(comparison):
    assert differences(step_charts(comparison)["bbox"]) == {
        "ONNX Runtime": ("PyTorch", 0.0, 0.0),
        "ONNX Runtime, simplified": ("ONNX Runtime", 0.0, 0.0),
        "ONNX Runtime fp16, rounded": ("ONNX Runtime, simplified", -0.05, -0.05),
        "ONNX Runtime int8": ("ONNX Runtime, simplified", -2.0, -2.0),
        "TensorRT-RTX int8": ("ONNX Runtime int8", -0.5, -2.5),
    }
    assert differences(step_charts(comparison)["segm"])["TensorRT-RTX int8"] == (
        "ONNX Runtime int8",
        0.0,
        -1.5,
    )


def test_a_form_that_was_not_run_has_its_reason(comparison):
    step = step_charts(comparison)["bbox"].steps[4]
    assert (step.title, step.delta, step.total) == ("TensorRT-RTX fp32", NOT_RUN, NOT_RUN)
    assert not step.measured


@pytest.mark.parametrize("onnx", [[not_run("onnx")], []])
def test_the_nearest_measured_form_replaces_one_that_was_not_run(onnx):
    forms = [metrics("torch", {"bbox": 50.0}), *onnx, metrics("simplified", {"bbox": 49.0})]
    assert differences(step_charts(Comparison(forms))["bbox"]) == {
        "ONNX Runtime, simplified": ("PyTorch", -1.0, -1.0)
    }


def test_there_are_no_differences_without_the_reference():
    (step,) = step_charts(Comparison([not_run("torch"), metrics("onnx", {"bbox": 49.0})]))["bbox"].steps
    assert step.delta == f"PyTorch: {NOT_RUN}"


def test_a_single_form_has_no_steps():
    assert step_charts(Comparison([metrics("torch", {"bbox": 50.0})])) == {}


def test_the_axis_includes_every_bar_and_interval():
    intervals = {"int8": {"bbox": (-2.75, -1.5)}, "onnx": {"segm": (-0.5, 0.25)}}
    box, mask = step_charts(Comparison(all_forms(), intervals)).values()
    assert (box.low, box.high) == (-2.75, 0.1)
    assert (mask.low, mask.high) == (-1.5, 0.25)
    assert [step.interval for step in box.steps] == [None, None, None, (-2.75, -1.5), None, None]
    assert box.intervals
    assert box.at(box.low) == 2
    assert box.at(box.high) == 98
    assert 2 < box.at(-2.5) < box.at(-2.0) < box.at(0.0) < 98


def test_a_rounding_difference_has_no_bar():
    forms = [metrics("torch", {"bbox": 50.0}), metrics("onnx", {"bbox": 49.997})]
    (chart,) = step_charts(Comparison(forms)).values()
    assert (chart.low, chart.high, chart.intervals) == (-0.1, 0.1, False)
    assert chart.bar(chart.steps[0]) == ""


def test_bars_in_text_are_proportional_to_the_loss(comparison):
    box = step_charts(comparison)["bbox"]
    lengths = [len(box.bar(step)) for step in box.steps]
    assert lengths == [0, 0, 0, 8, 0, 2]
