"""The recall of an R-CNN's proposals: how many objects its second stage gets to see.

python -m pipelines.recall detector=mask_rcnn_shapes [runtime=onnx]
"""

from omegaconf import DictConfig

from pipelines.chain import opened
from samebox.coco.dataset import dataset_of
from samebox.comparing.measures import FURTHER
from samebox.core.errors import SameboxError
from samebox.detector import Detector
from samebox.evaluation.proposals import ProposalRunner, proposed
from samebox.scoring.recall import recall_scores
from stages.compose import main, plain


def run(config: DictConfig) -> None:
    """Make the form, unless it was made before, and print the recall of its proposals on the data set."""
    if "rpn_head" not in config.detector.network:
        raise SameboxError(f"detector: {config.detector.name} has no proposals; name an R-CNN")
    dataset, title = dataset_of(plain(config.dataset)), config.runtime.title
    dataset.check_annotated()
    with Detector(ProposalRunner(opened(config))) as detector:
        found = recall_scores(proposed(detector, dataset, config.evaluate.batches[0], title))
    print(f"{config.detector.name}, {title}: proposals in {len(dataset.images)} images")
    for key, heading in FURTHER["recall"].items():
        points = found.stats[key]
        print(f"{heading:>8}  {'no such objects' if points is None else f'{points:.2f}'}")


if __name__ == "__main__":
    main("recall", run)
