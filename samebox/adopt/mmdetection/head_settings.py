"""What MMDetection's heads share: classes, scores and box coders."""

from typing import Any

from samebox.adopt.section import Section

NUM_CLASSES = "${detector.num_classes}"


def num_classes(head: Section) -> str:
    """The reference to the detector's number of classes. The head's own number goes to the diagnostics."""
    head.diagnostics.class_counts.add(head.integer("num_classes", 80))
    return NUM_CLASSES


def expect_scores(head: Section, *losses: str, sigmoid: bool) -> None:
    """Reject a head whose scores are not a sigmoid, or not a softmax, as its classification loss states.

    If `losses` are given, another type of loss is rejected, too.
    """
    loss = head.take("loss_cls")
    if isinstance(loss, dict):
        with Section(loss, f"{head.path}.loss_cls", head.diagnostics, ("*",)) as section:
            section.expect("use_sigmoid", sigmoid)
            if losses:
                section.choice(*losses)


def delta_stds(head: Section, default: tuple[float, ...]) -> list[float]:
    """The units of the four deltas of `bbox_coder`, a DeltaXYWHBBoxCoder."""
    with head.section("bbox_coder") as coder:
        coder.choice("DeltaXYWHBBoxCoder", default="DeltaXYWHBBoxCoder")
        coder.expect("target_means", (0, 0, 0, 0))
        coder.expect("clip_border", True)
        coder.expect("add_ctr_clamp", False)
        coder.ignore("ctr_clamp")
        return [float(value) for value in coder.numbers("target_stds", default)]


def expect_unit_stds(head: Section) -> None:
    """Reject a `bbox_coder` whose deltas have another unit than 1."""
    stds = delta_stds(head, (1.0, 1.0, 1.0, 1.0))
    if stds != [1.0, 1.0, 1.0, 1.0]:
        head.reject("bbox_coder.target_stds", stds)


def tower_settings(head: Section) -> dict[str, Any]:
    """The keys that heads with towers of convolutions share."""
    return {
        "in_channels": head.integer("in_channels"),
        "channels": head.integer("feat_channels", 256),
        "convs": head.integer("stacked_convs", 4),
        "num_classes": num_classes(head),
    }
