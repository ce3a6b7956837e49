from samebox.coco.evaluated import EvaluatedForm, write_evaluated
from stages import differences
from stages.compared import read_compared
from stages.compose import compose
from stages.evaluate import invariance_limits

METRICS = {
    "detector": "retinanet_shapes", "dataset": "shapes", "status": "measured", "reason": None, "score": {},
    "timing": {}, "notes": [], "invariance": [], "model": "RetinaNet",
}  # fmt: skip


def test_a_precision_has_limits_of_its_own():
    usual = invariance_limits(compose("evaluate", ["runtime=torch"]))
    assert invariance_limits(compose("evaluate", ["runtime=int8"])) == usual
    for precision in ("fp16", "bf16"):
        wider = invariance_limits(compose("evaluate", [f"runtime=tensorrt_rtx_{precision}"]))
        assert (wider.images, wider.box > usual.box, wider.share < usual.share) == (4, True, True)
    given = ["evaluate.invariance.images=0", "evaluate.invariance.of.fp16.box=0.3", "runtime=fp16"]
    chosen = invariance_limits(compose("evaluate", given))
    assert (chosen.images, chosen.box) == (0, 0.3)


def test_forms_are_checked_against_the_first(tmp_path):
    for runtime, left in (("torch", 10), ("onnx", 10), ("simplified", 11), ("tensorrt_rtx", 10)):
        found = {"image_id": 1, "category_id": 1, "bbox": [left, 10, 20, 20], "score": 0.5}
        form = EvaluatedForm(
            METRICS | {"runtime": runtime, "title": runtime}, other_canvases={"padding grown": {1: [found]}}
        )
        write_evaluated(tmp_path / "retinanet_shapes" / runtime, form)
    config = compose("differences", [f"paths.evaluated={tmp_path}", f"paths.differences={tmp_path}/out"])
    differences.run(config)
    metrics = read_compared(config).metrics
    passed = [[entry["passed"] for entry in form["invariance"]] for form in metrics]
    assert passed == [[], [True], [False], [True]]
    assert metrics[2]["notes"][0].startswith("invariance, padding grown: 0.00% of the detections agree")
