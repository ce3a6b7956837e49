"""What a form is measured by: the measures of each kind of prediction, and their values in metrics.json."""

from typing import Any

from samebox.scoring.recall import LIMITS

# Kinds of predictions, with the noun for a text
KINDS = {
    "bbox": "box",
    "segm": "mask",
    "keypoints": "keypoint",
    "panoptic": "segment",
    "semantics": "class map",
}
# Measures of each kind; forms are compared by the first. Default: AP
MEASURES = {"panoptic": ("PQ", "SQ", "RQ", "PQ_things", "PQ_stuff"), "semantics": ("mIoU",)}
_AP = ("AP", "AP50", "AP75")
# Further measures of boxes, with their headings. Forms are not compared by them
FURTHER = {
    "voc": {"mAP": "VOC mAP"},
    "voc07": {"mAP": "VOC 2007 mAP"},
    "recall": {
        **{f"AR{limit}": f"AR@{limit}" for limit in LIMITS},
        **{f"AR{size}": f"AR{size}@{LIMITS[-1]}" for size in "sml"},
    },
}
# The measure of each class. Default: AP
PER_CLASS = {"panoptic": "PQ", "semantics": "IoU", "voc": "VOC AP"}

Value = float | str  # a number, or the reason why there is none


def measures(kind: str) -> tuple[str, ...]:
    """The measures of a kind as metrics.json names them; forms are compared by the first."""
    return MEASURES.get(kind, _AP)


def main_measure(kind: str) -> str:
    """The measure by which forms are compared: AP, PQ or mIoU."""
    return measures(kind)[0]


def measure_name(kind: str) -> str:
    """The main measure of a kind in a sentence: "mask AP", but "PQ"."""
    return main_measure(kind) if kind in MEASURES else f"{KINDS[kind]} {main_measure(kind)}"


def measure(form: dict[str, Any], kind: str, batch: int, key: str | None = None) -> Value:
    """A measure of a form at a batch size in points, or the reason why there is none.

    `form` is the content of metrics.json. `key` defaults to the main measure of the kind.
    """
    if form["status"] != "measured":
        return form["reason"]
    by_kind = form["score"].get(str(batch))
    if by_kind is None:
        return form.get("batches_not_run", {}).get(str(batch), f"not run at batch {batch}")
    if kind not in by_kind:
        return f"gives no {KINDS[kind]}s" if kind in KINDS else "not scored"
    return value_or_reason(by_kind[kind][key or main_measure(kind)])


def value_or_reason(value: float | None) -> Value:
    """The value; None means that the data set has no object of the kind, the class or the size."""
    return "no such objects" if value is None else value
