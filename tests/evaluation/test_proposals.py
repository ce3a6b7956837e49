from dataclasses import replace

import demo_forms
import pytest
from truth_runner import TruthRunner

import pipelines.recall
from samebox.core.errors import SameboxError
from samebox.detector import Detector
from samebox.evaluation.proposals import ProposalRunner, proposal_overlaps
from samebox.record.spec import METADATA_KEY, Spec
from samebox.scoring.recall import recall_scores
from stages.compose import compose


class Heads(TruthRunner):
    """Returns the annotated objects as proposals, and logits."""

    def __init__(self, dataset):
        super().__init__(dataset, masks=None)
        spec = Spec.from_metadata(self.metadata, "truth")
        self.metadata = {METADATA_KEY: replace(spec, postprocess=False).to_json()}

    def __call__(self, inputs):
        found = super().__call__(inputs)
        return {
            "proposals": found["boxes"], "proposal_scores": found["scores"], "class_logits": found["labels"]
        }  # fmt: skip


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return demo_forms.small_set(tmp_path_factory.mktemp("set"))


@pytest.mark.parametrize("batch", [1, 4])
def test_proposals_are_in_pixels_of_the_original_image(dataset, batch):
    with Detector(ProposalRunner(Heads(dataset))) as detector:
        found = list(proposal_overlaps(detector, dataset, batch))
    objects = [entry for entry in dataset.ground_truth.anns.values() if not entry["iscrowd"]]
    assert sum(len(image.scores) for image in found) == len(objects)
    assert recall_scores(found).stats["AR100"] == 100


def test_the_recall_is_printed(dataset, monkeypatch, capsys):
    monkeypatch.setattr(pipelines.recall, "open_runner", lambda config: Heads(dataset))
    place = [
        f"dataset.images={dataset.path(dataset.images[0]).parent}",
        f"dataset.annotations={dataset.path(dataset.images[0]).parents[1]}/annotations.json",
    ]
    pipelines.recall.run(compose("recall", ["detector=mask_rcnn_shapes", *place]))
    lines = capsys.readouterr().out.strip().splitlines()
    assert lines[0] == "mask_rcnn_shapes, PyTorch: proposals in 6 images"
    assert [line.split()[0] for line in lines[1:]] == [
        "AR@100", "AR@300", "AR@1000", "ARs@1000", "ARm@1000", "ARl@1000"
    ]  # fmt: skip
    assert lines[1].split()[1] == "100.00"


def test_the_command_runs_the_heads():
    assert compose("recall", ["detector=mask_rcnn_shapes"]).export.postprocess is False


def test_a_network_without_proposals_is_an_error():
    with pytest.raises(SameboxError, match="retinanet_shapes has no proposals; name an R-CNN"):
        pipelines.recall.run(compose("recall", ["detector=retinanet_shapes"]))
