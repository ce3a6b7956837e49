"""Write the detections in a data set in the formats of evaluation servers, without scoring them.

Usage: samebox submit detector=NAME [dataset=NAME] [runtime=NAME] [KEY=VALUE …]

Examples:
    samebox submit detector=mask_rcnn_r50_fpn dataset=coco_test_dev algorithm=mine
    samebox submit detector=detr_r50 dataset=coco_test_dev runtime=torch out=submission
    samebox submit detector=faster_rcnn_shapes format=voc
"""

from collections.abc import Iterator
from pathlib import Path

from omegaconf import DictConfig

from pipelines import commands
from pipelines.chain import open_runner
from samebox.coco.dataset import CocoDataset, dataset_of
from samebox.coco.submission import write_detections, write_segments, write_voc
from samebox.core.errors import SameboxError
from samebox.core.text import print_text
from samebox.detector import Detector
from samebox.evaluation.run import DataSetRun, check_any_image_ran, run_on_data_set
from samebox.scoring.average_precision import KEYPOINTS
from stages.compose import plain

FORMATS = ("coco", "voc")


def run(config: DictConfig) -> None:
    """Run the form on the data set, after the steps that it needs, and write its detections."""
    if config.format not in FORMATS:
        raise SameboxError(f"format: {config.format!r} is none of {', '.join(FORMATS)}")
    dataset, title = dataset_of(plain(config.dataset)), config.runtime.title
    with Detector(open_runner(config)) as detector:
        data_set_run = run_on_data_set(detector, dataset, config.evaluate.batches[0], warmup=0, title=title)
    check_any_image_ran(data_set_run, dataset, config.dataset.name)
    for name, reason in data_set_run.skipped.items():
        print_text(f"left out: {name}: {reason}")
    for path in write_files(config, data_set_run, dataset):
        print_text(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


def write_files(config: DictConfig, data_set_run: DataSetRun, dataset: CocoDataset) -> Iterator[Path]:
    """Write the files in the requested format; yield the path of each."""
    out = Path(config.out)
    if config.format == "voc":
        return write_voc(out / "voc", data_set_run.results, dataset)
    # the split of image_info_test-dev2017.json is test-dev2017
    split = Path(config.dataset.annotations).stem.rpartition("_")[2]
    return write_zips(data_set_run, out, f"{split}_{config.algorithm}")


def write_zips(data_set_run: DataSetRun, folder: Path, stem: str) -> Iterator[Path]:
    """Write a zip for each of COCO's tasks that the detector can do; yield the path of each."""
    tasks = {"bbox": True, "segm": data_set_run.has_masks, "keypoints": data_set_run.keypoints == KEYPOINTS}
    for task in (task for task, possible in tasks.items() if possible):
        yield write_detections(folder, task, stem, data_set_run.results)
    if data_set_run.panoptic is not None:
        yield write_segments(folder, stem, data_set_run.panoptic)


if __name__ == "__main__":
    commands.submit()
