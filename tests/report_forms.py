"""Evaluated forms with figures written by hand, for the tests of the report; nothing is run."""

from samebox.coco.evaluated import EvaluatedForm
from samebox.comparing.difference import difference
from samebox.reporting.plots import LEVELS

NOT_RUN = "built for SM86 in 5.4 s; not run: no GPU here; TensorRT-RTX needs an NVIDIA GPU and its driver"
TITLES = {
    "torch": "PyTorch",
    "onnx": "ONNX Runtime",
    "simplified": "ONNX Runtime, simplified",
    "fp16": "ONNX Runtime fp16, rounded",
    "int8": "ONNX Runtime int8",
    "tensorrt_rtx": "TensorRT-RTX fp32",
    "tensorrt_rtx_int8": "TensorRT-RTX int8",
}
AFTER = {
    "onnx": "torch", "simplified": "onnx", "fp16": "simplified", "int8": "simplified",
    "tensorrt_rtx": "simplified", "tensorrt_rtx_int8": "int8",
}  # fmt: skip
FAILED = {
    "check": "padding grown", "images": 8, "agreeing": 0.875, "box": 3.25, "score": 0.0125, "passed": False,
    "reason": "one | image differs",
}  # fmt: skip
PASSED = {**FAILED, "check": "image order", "agreeing": 1.0, "box": 0.0, "passed": True, "reason": None}


def metrics(runtime, scores, detector="mask_rcnn_shapes", model="Mask R-CNN", **changes):
    """The metrics of a measured form; `scores` are its AP by kind."""
    by_kind = {
        kind: {"AP": value, "AP50": value, "AP75": value, "per_class": {"disc": value, "star": value}}
        for kind, value in scores.items()
    }
    times = {"preprocess": (1.25, 2.5), "network": (20.0, 31.5), "postprocess": (2.75, 4.0)}
    return {
        "detector": detector, "model": model, "runtime": runtime, "title": TITLES[runtime],
        "after": AFTER.get(runtime), "precision": "int8" if runtime.endswith("int8") else None,
        "dataset": "shapes", "status": "measured", "reason": None, "images": 200,
        "skipped": [], "score": {"1": by_kind}, "published": {"bbox": 50.18},
        "timing": {step: {"median": median, "p95": p95} for step, (median, p95) in times.items()},
        "images_per_second": 41.5, "peak_mb": 321.0, "device_peak_mb": None, "artifact_mb": 5.9, "notes": [],
        "hardware": {"gpus": [], "driver": None}, "versions": {"torch": "2.9"}, **changes,
    }  # fmt: skip


def not_run(runtime, **changes):
    """The metrics of a form that this machine could not run."""
    nothing = dict.fromkeys(("score", "timing", "images_per_second", "peak_mb", "images"))
    return {**metrics(runtime, {}, **changes), **nothing, "status": "not run", "reason": NOT_RUN}


def all_forms(**changes):
    """All forms up to engines: int8 loses 2 points of box AP, the others nearly nothing."""
    return [
        metrics("torch", {"bbox": 50.0, "segm": 47.0}, **changes),
        metrics("onnx", {"bbox": 50.0, "segm": 47.02}, **changes),
        metrics("simplified", {"bbox": 50.0, "segm": 47.02}, **changes),
        metrics("fp16", {"bbox": 49.95, "segm": 46.9}, invariance=[PASSED, FAILED], **changes),
        metrics("int8", {"bbox": 48.0, "segm": 45.5}, **changes),
        not_run("tensorrt_rtx", **changes),
        metrics("tensorrt_rtx_int8", {"bbox": 47.5, "segm": 45.5}, device_peak_mb=812.0, **changes),
    ]


def evaluated(form, results=()):
    """A form with its curves and results, if it was measured."""
    if form["status"] != "measured":
        return EvaluatedForm(form)
    recall = [index / 100 for index in range(101)]
    curve = {"recall": recall, **{level: [1 - one for one in recall] for level in LEVELS}}
    return EvaluatedForm(form, dict.fromkeys(form["score"]["1"], curve), list(results))


def differences(forms):
    """The differences of the measured forms from the first, by runtime."""
    reference, *others = [form for form in forms if form.measured]
    return {form.metrics["runtime"]: difference(reference.results, form.results) for form in others}
