from benchmarks import precision
from samebox.engine.profile import Profile
from samebox.engine.record import EngineReport

PROFILE = Profile((1, 1, 1), (32, 32, 32), (32, 32, 32))


def test_figures_are_ap_and_its_loss():
    forms = [{"status": "measured", "score": {"1": {"bbox": {"AP": ap}}}} for ap in (35.5, 35.25)]
    assert precision.figures(forms[0], forms[0], "bbox") == ("35.50", "–")
    assert precision.figures(forms[1], forms[0], "bbox") == ("35.25", "-0.25")
    assert precision.figures(forms[1], forms[0], "segm") == ("–", "–")


def test_engine_figures_count_layers_by_type():
    report = EngineReport(
        "tensorrt_rtx", "1.7", 18, ["SM89"], PROFILE, False, 64, 9, 1.25, None, "", "", 2_500_000, {}, {},
        types={"BOOL": 1, "FLOAT": 4, "HALF": 2, "INT64": 2},
    )  # fmt: skip
    assert precision.engine_figures(report) == ["1.2", "2.5", "9", "4 fp32, 2 fp16"]
