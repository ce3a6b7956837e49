import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from samebox.blocks.nms import GreedyNMS
from samebox.errors import SameboxError
from samebox.lowering import LOWERINGS, TRANSLATIONS, OperatorNMS, lowered
from samebox.simplify import Tolerance, compare_answers

# torch.export warns of its own deprecations
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")

CANDIDATES, COUNT = 1200, 100
NAMES = ("boxes", "scores", "labels")


def crowd(seed, largest):
    """Candidates in many blocks, of 80 classes' few at a time; a quarter of the rows is none."""
    generator = np.random.default_rng(seed)
    corners = generator.uniform(0, 300, (CANDIDATES, 2))
    boxes = np.concatenate([corners, corners + generator.uniform(1, largest, (CANDIDATES, 2))], 1)
    scores = (generator.permutation(CANDIDATES) + 1) / (CANDIDATES + 1)
    labels = generator.choice([0, 7, 79], CANDIDATES)
    return boxes.astype(np.float32), np.where(scores > 0.25, scores, 0).astype(np.float32), labels


def batch(*images):
    return dict(zip(NAMES, (np.stack(field) for field in zip(*images, strict=True)), strict=True))


def without_candidates(image):
    return image[0], np.zeros_like(image[1]), image[2]


FEEDS = {
    "one image": batch(crowd(0, 80)),
    "heavy overlap": batch(crowd(1, 280)),
    "fewer than wanted": batch(tuple(np.where(np.arange(CANDIDATES) < 40, f.T, 0).T for f in crowd(2, 20))),
    "a batch": batch(crowd(3, 40), without_candidates(crowd(4, 40)), crowd(5, 280)),
    "no candidate": batch(without_candidates(crowd(6, 80))),
}


@pytest.fixture(scope="module", params=LOWERINGS)
def session(request):
    """The NMS alone, exported in one lowering, its batch dynamic."""
    dynamic = {0: torch.export.Dim.DYNAMIC}
    sample = tuple(torch.from_numpy(value) for value in FEEDS["a batch"].values())
    program = torch.onnx.export(
        lowered(nn.Sequential(GreedyNMS(0.5, COUNT)), request.param)[0].eval(),
        sample,
        dynamo=True,
        opset_version=18,
        dynamic_shapes=(dynamic, dynamic, dynamic),
        input_names=NAMES,
        custom_translation_table=TRANSLATIONS,
        verbose=False,
    )
    operators = {node.op_type for node in program.model_proto.graph.node}
    assert ("NonMaxSuppression" in operators) == (request.param == "onnx")
    return onnxruntime.InferenceSession(
        program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )


@pytest.mark.parametrize("feed", FEEDS.values(), ids=FEEDS)
def test_every_lowering_suppresses_as_pytorch_does(session, feed):
    with torch.inference_mode():
        outputs = GreedyNMS(0.5, COUNT)(*(torch.from_numpy(value) for value in feed.values()))
    expected = {name: output.numpy() for name, output in zip(NAMES, outputs, strict=True)}
    found = dict(zip(NAMES, session.run(None, feed), strict=True))
    same = compare_answers(expected, found, Tolerance(score=0, box=0))
    assert same == (expected["scores"] > 0).sum()
    np.testing.assert_array_equal(found["scores"], expected["scores"])
    assert not found["boxes"][found["scores"] == 0].any()
    assert not found["labels"][found["scores"] == 0].any()


def test_portable_is_the_network_itself():
    network = nn.Sequential(GreedyNMS(0.5, 10))
    assert lowered(network, "portable") is network


def test_onnx_replaces_the_nms_of_a_copy():
    network = nn.ModuleDict({"head": nn.Sequential(nn.Linear(2, 2), GreedyNMS(0.3, 7))})
    copied = lowered(network, "onnx")
    assert isinstance(copied["head"][1], OperatorNMS)
    assert (copied["head"][1].iou_threshold, copied["head"][1].count) == (0.3, 7)
    assert isinstance(network["head"][1], GreedyNMS)
    assert copied["head"][0].weight.equal(network["head"][0].weight)


def test_another_lowering_is_refused_by_name():
    with pytest.raises(SameboxError, match=r"^export\.lowering: 'tensorrt' is none of portable, onnx$"):
        lowered(nn.Identity(), "tensorrt")
