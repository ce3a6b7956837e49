from itertools import product

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from samebox.core.errors import SameboxError
from samebox.graph.lowering import (
    LOWERINGS,
    OPERATOR_OPSETS,
    TRANSLATIONS,
    OperatorNMS,
    OperatorRoIAlign,
    lowered,
)
from samebox.graph.output_comparison import Tolerance, compare_outputs
from samebox.networks.blocks.nms import GreedyNMS
from samebox.networks.blocks.roi_align import RoIAlign

# torch.export warns of its own deprecations
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")

CANDIDATES, COUNT = 1200, 100
NAMES = ("boxes", "scores", "labels")


def crowd(seed, largest):
    """Candidates for many blocks of the NMS, in three of 80 classes; a quarter of the rows is padding."""
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
    "fewer candidates than count": batch(
        tuple(np.where(np.arange(CANDIDATES) < 40, f.T, 0).T for f in crowd(2, 20))
    ),
    "a batch": batch(crowd(3, 40), without_candidates(crowd(4, 40)), crowd(5, 280)),
    "no candidate": batch(without_candidates(crowd(6, 80))),
}


def exported(block, lowering, sample, dynamic_shapes, input_names):
    """One block exported in one lowering: the operators of its graph, and a session."""
    program = torch.onnx.export(
        lowered(nn.Sequential(block), lowering, 18)[0].eval(),
        sample,
        dynamo=True,
        opset_version=18,
        dynamic_shapes=dynamic_shapes,
        input_names=input_names,
        custom_translation_table=TRANSLATIONS,
        verbose=False,
    )
    graph = program.model_proto.SerializeToString()
    operators = {node.op_type for node in program.model_proto.graph.node}
    return operators, onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module", params=[*product(LOWERINGS, (False, True))], ids=str)
def session(request):
    """A session of the exported NMS with a dynamic batch, for either convention of boxes, and its module."""
    lowering, inclusive = request.param
    dynamic = {0: torch.export.Dim.DYNAMIC}
    sample = tuple(torch.from_numpy(value) for value in FEEDS["a batch"].values())
    nms = GreedyNMS(0.5, COUNT, inclusive=inclusive)
    operators, session = exported(nms, lowering, sample, (dynamic,) * 3, NAMES)
    assert ("NonMaxSuppression" in operators) == (lowering == "onnx")
    return session, nms


@pytest.mark.parametrize("feed", FEEDS.values(), ids=FEEDS)
def test_the_nms_of_each_lowering_equals_pytorch(session, feed):
    session, nms = session
    with torch.inference_mode():
        tensors = nms(*(torch.from_numpy(value) for value in feed.values()))
    expected = {name: tensor.numpy() for name, tensor in zip(NAMES, tensors, strict=True)}
    outputs = dict(zip(NAMES, session.run(None, feed), strict=True))
    matched = compare_outputs(expected, outputs, Tolerance(score=0, box=0))
    assert matched == (expected["scores"] > 0).sum()
    np.testing.assert_array_equal(outputs["scores"], expected["scores"])
    assert not outputs["boxes"][outputs["scores"] == 0].any()
    assert not outputs["labels"][outputs["scores"] == 0].any()


def test_portable_returns_the_network_itself():
    network = nn.Sequential(GreedyNMS(0.5, 10))
    assert lowered(network, "portable", 18) is network


def test_onnx_replaces_the_nms_in_a_copy():
    network = nn.ModuleDict({"head": nn.Sequential(nn.Linear(2, 2), GreedyNMS(0.3, 7))})
    copied = lowered(network, "onnx", 18)
    assert isinstance(copied["head"][1], OperatorNMS)
    assert (copied["head"][1].iou_threshold, copied["head"][1].count) == (0.3, 7)
    assert isinstance(network["head"][1], GreedyNMS)
    assert copied["head"][0].weight.equal(network["head"][0].weight)


def test_an_unknown_lowering_is_an_error():
    with pytest.raises(SameboxError, match=r"^export\.lowering: 'tensorrt' is none of portable, onnx$"):
        lowered(nn.Identity(), "tensorrt", 18)


LEVELS = (4, 8, 16, 32)


def pyramid(batch, height, width):
    """Features of three channels at all levels of a canvas, and 40 regions of all sizes per image."""
    generator = torch.Generator().manual_seed(height)
    maps = [torch.randn(batch, 3, height // s, width // s, generator=generator) for s in LEVELS]
    centres, sides = torch.rand(2, batch, 40, 2, generator=generator) * torch.tensor([width, height])
    boxes = torch.cat([centres - sides / 2, centres + sides / 2], 2)
    boxes[:, 0] = 0  # a padding row
    return maps, boxes


ALIGNS = {
    "adaptive samples": RoIAlign(7, LEVELS),
    "two samples": RoIAlign(7, LEVELS, samples=2, aligned=False, inclusive=True),
}


@pytest.fixture(scope="module", params=[*product(LOWERINGS, ALIGNS)], ids=" ".join)
def aligning(request):
    """The exported RoIAlign with dynamic batch, height and width, as a function, and its module."""
    lowering, name = request.param
    batch, canvas = (dict.fromkeys(axes, torch.export.Dim.DYNAMIC) for axes in ((0,), (0, 2, 3)))
    maps, boxes = pyramid(2, 64, 96)
    names = [*(f"p{level}" for level in range(4)), "boxes"]
    module = ALIGNS[name]
    operators, session = exported(module, lowering, (maps, boxes), ([canvas] * 4, batch), names)
    assert ("RoiAlign" in operators) == (lowering == "onnx")

    def align(maps, boxes):
        return session.run(None, {n: np.asarray(x) for n, x in zip(names, [*maps, boxes], strict=True)})[0]

    return align, module


@pytest.mark.parametrize("feed", [pyramid(2, 192, 416), pyramid(1, 64, 64), pyramid(3, 224, 96)])
def test_the_roi_align_of_each_lowering_equals_pytorch(aligning, feed):
    align, module = aligning
    np.testing.assert_allclose(align(*feed), module(*feed), atol=1e-4)


@pytest.mark.parametrize("empty", [torch.zeros(2, 40, 4), torch.tensor([[3.0, 3, 3, 9]]).expand(2, 40, 4)])
def test_regions_without_area_give_zeros_in_each_lowering(aligning, empty):
    align, module = aligning
    if module.samples:
        pytest.skip("with a fixed number of samples a region has at least one cell")
    assert not align(pyramid(2, 64, 64)[0], empty).any()


def roi_align_session(opset):
    inputs = [("x", [1, 1, 4, 4]), ("boxes", [1, 4])]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs]
    values.append(helper.make_tensor_value_info("image", TensorProto.INT64, [1]))
    node = helper.make_node("RoiAlign", [value.name for value in values], ["y"])
    graph = helper.make_graph([node], "roi_align", values, [helper.make_empty_tensor_value_info("y")])
    imports = [helper.make_opsetid("", opset)]
    model = helper.make_model(
        graph, opset_imports=imports, ir_version=helper.find_min_ir_version_for(imports)
    )
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def test_onnxruntime_runs_roi_align_up_to_the_last_opset_of_operator_opsets():
    roi_align_session(OPERATOR_OPSETS[OperatorRoIAlign][-1])
    with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.NotImplemented):
        roi_align_session(OPERATOR_OPSETS[OperatorRoIAlign][-1] + 1)


@pytest.mark.parametrize(("inside", "outside"), [(16, 15), (21, 22)])
def test_outside_its_opsets_roi_align_is_exported_by_plain_operators(inside, outside):
    network = nn.Sequential(RoIAlign(7, LEVELS), GreedyNMS(0.5, 10))
    assert [type(module) for module in lowered(network, "onnx", inside)] == [OperatorRoIAlign, OperatorNMS]
    assert [type(module) for module in lowered(network, "onnx", outside)] == [RoIAlign, OperatorNMS]
