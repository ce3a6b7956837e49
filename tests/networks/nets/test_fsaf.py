import pytest
import tiny_dense
import tiny_one_stage as tiny
import torch

from samebox.graph.output_comparison import Tolerance, compare_outputs
from samebox.networks.blocks.anchors import Anchors
from samebox.networks.nets.fsaf import FSAFHead

SIZES, CANVAS = [(64, 96), (128, 61), (90, 90)], (128, 96)


@pytest.fixture(scope="module")
def network():
    return tiny_dense.fsaf()


def test_candidates_are_those_selected_step_by_step(network):
    def boxes_of(maps, stride):
        # anchors are centred on the corners of their cells
        x, y = (tiny_dense.cell_positions(*maps[1].shape[1:]) * stride).T
        top, bottom, left, right = (tiny.by_anchor(maps[1], 4) * 4 * stride).T
        return torch.stack([x - left, y - top, x + right, y + bottom], 1), torch.ones(len(x))

    tiny_dense.assert_candidates(network, boxes_of)


def test_distances_are_at_least_0():
    torch.manual_seed(0)
    head = FSAFHead(8, 16, 2, 3, Anchors([8], [1.0], [1.0]), 4.0)
    x = torch.randn(2, 8, 6, 5)
    boxes = x
    with torch.no_grad():
        logits, distances = head(x)
        for conv in head.reg_convs:
            boxes = conv(boxes)
        raw = head.retina_reg(boxes)
    assert (logits.shape, distances.shape) == ((2, 3, 6, 5), (2, 4, 6, 5))
    assert (raw < 0).any()
    assert distances.equal(raw.clamp(min=0))


def test_head_output_names_and_shapes(network):
    images, sizes = torch.randn(2, 3, 96, 128), torch.tensor([[96, 128]] * 2)
    with torch.inference_mode():
        maps = network.heads(images, sizes)
    assert tuple(maps) == network.head_outputs
    assert maps["logits_8"].shape == (2, tiny.CLASSES, 12, 16)
    assert maps["deltas_64"].shape == (2, 4, 2, 2)


@pytest.mark.parametrize("index", range(3))
def test_an_image_gives_the_same_results_in_a_batch_and_alone(network, index):
    deployed = tiny.deployable(network)
    inputs = tiny.random_inputs(SIZES, *CANVAS)
    alone, batched = (
        tiny.run(deployed, {name: value[rows] for name, value in inputs.items()})
        for rows in (slice(index, index + 1), slice(None))
    )
    from_batch = {name: value[index : index + 1] for name, value in batched.items()}
    close = Tolerance(score=1e-5, box=1e-2)
    assert compare_outputs(alone, from_batch, close) == (alone["scores"] > 0).sum() > 5
