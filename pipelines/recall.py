"""Measure the recall of the proposals of an R-CNN: the share of objects that reaches its second stage.

Usage: samebox recall detector=NAME [runtime=NAME] [KEY=VALUE …]

Examples:
    samebox recall detector=mask_rcnn_shapes
    samebox recall detector=mask_rcnn_shapes runtime=onnx
    samebox recall detector=faster_rcnn_r50_fpn dataset=coco_val2017 'evaluate.batches=[4]'
"""

from omegaconf import DictConfig

from pipelines import commands
from pipelines.chain import open_runner
from samebox.coco.dataset import dataset_of
from samebox.comparing.measures import FURTHER
from samebox.core.errors import SameboxError
from samebox.core.text import print_text
from samebox.detector import Detector
from samebox.evaluation.proposals import ProposalRunner, proposal_overlaps
from samebox.scoring.recall import recall_scores
from stages.compose import plain


def run(config: DictConfig) -> None:
    """Print the recall of the proposals on the data set, after the steps that the form needs."""
    if "rpn_head" not in config.detector.network:
        raise SameboxError(f"detector: {config.detector.name} has no proposals; name an R-CNN")
    dataset, title = dataset_of(plain(config.dataset)), config.runtime.title
    dataset.check_annotated()
    with Detector(ProposalRunner(open_runner(config))) as detector:
        scores = recall_scores(proposal_overlaps(detector, dataset, config.evaluate.batches[0], title))
    print_text(f"{config.detector.name}, {title}: proposals in {len(dataset.images)} images")
    for key, heading in FURTHER["recall"].items():
        points = scores.stats[key]
        print_text(f"{heading:>8}  {'no such objects' if points is None else f'{points:.2f}'}")


if __name__ == "__main__":
    commands.recall()
