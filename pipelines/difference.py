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
    """Evaluate the forms unless that was done before; print and leave how they differ, with pictures."""
    forms, dataset = measured(config), dataset_of(plain(config.dataset))
    against_reference = compared(config, forms)
    found, comparison = against_reference.differences[config.to], table(config, against_reference)
    print_text(text(comparison))
    records = {record.id: record for record in dataset.images}
    most = [(records[image], amount) for image, amount in found.images[: config.compare.images]]
    print_text("\n".join(told(found, most)))
    out = Path(config.out)
    write_json(
        out / "difference.json", found.as_dict() | {"intervals": comparison.intervals.get(config.to, {})}
    )
    if most:
        shown = [record for record, _ in most]
        write_picture(out / "gallery.jpg", gallery(forms, dataset, shown, config.compare.score))


def measured(config: DictConfig) -> list[EvaluatedForm]:
    """The two forms. Raises SameboxError for one that this machine cannot run."""
    forms = list(chain(config, [config["from"], config.to]))
    for form in forms:
        if not form.measured:
            raise SameboxError(f"{form.title}: {form.metrics['reason']}; compare forms that run here")
    return forms


def told(found: Difference, most: Sequence[tuple[ImageRecord, float]]) -> Iterator[str]:
    """The counts and quantiles, and the images that differ most, in lines."""
    limits = {"moved": f" (IoU below {MOVED_IOU})", "rescored": f" (by more than {RESCORED})"}
    limits |= {name: f" (scores up to {score:.3f})" for name, score in found.highest.items() if score}
    yield ", ".join(f"{count} {name}{limits.get(name, '')}" for name, count in found.counts.items())
    for name, quantiles in (("box, px", found.box), ("score", found.score)):
        yield f"{name}: " + ", ".join(f"{value:.2g} at {at}%" for at, value in quantiles.items())
    yield f"images that differ: {len(found.images)}"
    yield from (f"  {record.file_name}: {amount:.2g}" for record, amount in most)


def gallery(
    forms: Sequence[EvaluatedForm], dataset: CocoDataset, records: Sequence[ImageRecord], threshold: float
) -> Image:
    """The images below each other, each with the detections of either form from `threshold` on."""
    categories = dataset.category_ids(dataset.class_names)
    rows = []
    for record in records:
        image = read_image(dataset.path(record))
        own = ([result for result in form.results if result["image_id"] == record.id] for form in forms)
        found = (detections_from_results(results, categories, dataset.class_names) for results in own)
        rows.append(np.hstack([draw(image, detections, threshold) for detections in found]))
    width = max(row.shape[1] for row in rows)
    white = [((0, 0), (0, width - row.shape[1]), (0, 0)) for row in rows]
    return np.vstack([np.pad(row, pad, constant_values=255) for row, pad in zip(rows, white, strict=True)])


if __name__ == "__main__":
    commands.compare()
