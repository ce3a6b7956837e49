"""Compare two forms of a detector, detection by detection, and draw the images in which they differ most.

Usage: samebox compare [detector=NAME] [from=FORM] [to=FORM] [KEY=VALUE …]

Examples:
    samebox compare detector=retinanet_shapes from=torch to=simplified
    samebox compare detector=mask_rcnn_shapes from=simplified to=int8 compare.images=8
    samebox compare detector=retinanet_shapes to=fp16 out=differences/fp16
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from omegaconf import DictConfig

from pipelines import commands
from pipelines.chain import chain
from samebox.coco.dataset import CocoDataset, ImageRecord, dataset_of
from samebox.coco.evaluated import EvaluatedForm
from samebox.coco.results import detections_from_results
from samebox.comparing.difference import MOVED_IOU, RESCORED, Difference
from samebox.core.errors import SameboxError
from samebox.core.files import write_json
from samebox.core.text import print_text
from samebox.media.drawing import draw
from samebox.predict import write_picture
from samebox.record.preprocess import Image, read_image
from samebox.reporting.text import text
from stages.compared import compared
from stages.compose import plain
from stages.sections import table


def run(config: DictConfig) -> None:
    """Compare the two forms, after the steps that they need; print and write the differences."""
    forms, dataset = evaluated_forms(config), dataset_of(plain(config.dataset))
    against_reference = compared(config, forms)
    difference = against_reference.differences[config.to]
    comparison = table(config, against_reference)
    print_text(text(comparison))
    records = {record.id: record for record in dataset.images}
    largest = [(records[image], amount) for image, amount in difference.images[: config.compare.images]]
    print_text("\n".join(summary_lines(difference, largest)))
    out, intervals = Path(config.out), comparison.intervals.get(config.to, {})
    write_json(out / "difference.json", difference.as_dict() | {"intervals": intervals})
    if largest:
        shown = [record for record, _ in largest]
        write_picture(out / "gallery.jpg", gallery(forms, dataset, shown, config.compare.score))


def evaluated_forms(config: DictConfig) -> list[EvaluatedForm]:
    """The two forms. Raises SameboxError for a form that this machine cannot run."""
    forms = list(chain(config, [config["from"], config.to]))
    for form in forms:
        if not form.measured:
            raise SameboxError(f"{form.title}: {form.metrics['reason']}; compare forms that run here")
    return forms


def summary_lines(difference: Difference, largest: Sequence[tuple[ImageRecord, float]]) -> Iterator[str]:
    """Lines with the counts, the quantiles, and the images that differ most."""
    limits = {"moved": f" (IoU below {MOVED_IOU})", "rescored": f" (by more than {RESCORED})"}
    limits |= {name: f" (scores up to {score:.3f})" for name, score in difference.highest.items() if score}
    yield ", ".join(f"{count} {name}{limits.get(name, '')}" for name, count in difference.counts.items())
    for name, quantiles in (("box, px", difference.box), ("score", difference.score)):
        yield f"{name}: " + ", ".join(f"{value:.2g} at {at}%" for at, value in quantiles.items())
    yield f"images that differ: {len(difference.images)}"
    yield from (f"  {record.file_name}: {amount:.2g}" for record, amount in largest)


def gallery(
    forms: Sequence[EvaluatedForm], dataset: CocoDataset, records: Sequence[ImageRecord], threshold: float
) -> Image:
    """The images one below the other; in a row, the image with the detections of each form.

    Detections with a score of `threshold` or more are drawn.
    """
    categories = dataset.category_ids(dataset.class_names)
    rows = []
    for record in records:
        image = read_image(dataset.path(record))
        by_form = ([result for result in form.results if result["image_id"] == record.id] for form in forms)
        detections = (detections_from_results(own, categories, dataset.class_names) for own in by_form)
        rows.append(np.hstack([draw(image, drawn, threshold) for drawn in detections]))
    width = max(row.shape[1] for row in rows)
    white = [((0, 0), (0, width - row.shape[1]), (0, 0)) for row in rows]  # padding
    return np.vstack([np.pad(row, pad, constant_values=255) for row, pad in zip(rows, white, strict=True)])


if __name__ == "__main__":
    commands.compare()
