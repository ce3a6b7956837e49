import pytest
import torch
from graph_checks import assert_engine_builds, assert_onnx_matches, exported, padded_noise, run

from samebox.checkpoints.weights import rename_parameters
from samebox.graph.opset import newest_opset
from samebox.networks.blocks.resnet import ResNet
from samebox.networks.nets.detr import DETR, ChannelMapper, Decoder, DETRHead, Encoder

CLASSES, CHANNELS, QUERIES = 3, 16, 12
SIZES = [[96, 128], [61, 128], [96, 70]]


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    layers = 2, CHANNELS, 4, 32
    detr = DETR(
        ResNet(18, base_channels=8, out_stages=[3]),
        ChannelMapper(64, CHANNELS),
        Encoder(*layers),
        Decoder(*layers),
        DETRHead(CHANNELS, CLASSES),
        CHANNELS,
        QUERIES,
        count=10,
    )
    detr.query_embedding.weight.data *= 3  # otherwise all queries predict the same box
    return detr.eval()


@pytest.fixture(scope="module")
def images():
    return padded_noise(SIZES, 96, 128)


@pytest.fixture(scope="module")
def outputs(network, images):
    return run(network, images, SIZES)


def test_output_shapes_and_ranges(outputs):
    assert {name: tuple(value.shape) for name, value in outputs.items()} == {
        "boxes": (3, 10, 4),
        "scores": (3, 10),
        "labels": (3, 10),
    }
    assert (outputs["scores"].diff(dim=1) <= 0).all()
    assert (outputs["labels"] < CLASSES).all()
    assert len(outputs["boxes"][0].unique(dim=0)) == 10


def test_outputs_are_the_top_class_of_each_query_and_boxes_scaled_by_the_image_size(network, images, outputs):
    with torch.inference_mode():
        logits, relative = network.heads(images, torch.tensor(SIZES)).values()
    for image, (height, width) in enumerate(SIZES):
        scores = logits[image].softmax(1)[:, :CLASSES]
        order = scores.amax(1).argsort(descending=True)[:10]
        x, y, w, h = relative[image][order].T
        sides = torch.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], 1)
        boxes = sides.clamp(0, 1) * torch.tensor([width, height, width, height])
        torch.testing.assert_close(outputs["boxes"][image], boxes)
        torch.testing.assert_close(outputs["scores"][image], scores.amax(1)[order])
        assert outputs["labels"][image].equal(scores.argmax(1)[order])


@pytest.mark.parametrize("index", range(3))
def test_an_image_gives_the_same_results_in_a_batch_and_alone(network, images, outputs, index):
    alone = run(network, images[index : index + 1], SIZES[index : index + 1])
    for name, value in outputs.items():
        torch.testing.assert_close(value[index : index + 1], alone[name], rtol=1e-4, atol=1e-4)


def test_attention_ignores_padding_cells(network, images, outputs):
    """Only the padding cells of the backbone's map change, so the outputs must not change."""

    class Disturbed(torch.nn.Module):
        def forward(self, x):
            (maps,) = network.backbone(x)
            maps = maps.clone()
            maps[1, :, 2:] += 100  # the second image has ceil(61 / 32) rows of cells
            maps[2, :, :, 3:] -= 100  # the third ceil(70 / 32) columns
            return [maps]

    parts = network.neck, network.encoder, network.decoder, network.bbox_head
    disturbed = DETR(Disturbed(), *parts, CHANNELS, QUERIES, count=10).eval()
    disturbed.query_embedding = network.query_embedding
    for name, value in run(disturbed, images, SIZES).items():
        torch.testing.assert_close(value, outputs[name])


@pytest.fixture(scope="module")
def graph(network):
    return exported(network)


@pytest.mark.parametrize("opset", [11, 18, newest_opset()])
def test_onnxruntime_matches_pytorch_at_other_shapes(graph, opset):
    batches = [(torch.rand(3, 3, 96, 128) * 255, SIZES), (torch.rand(1, 3, 65, 97) * 255, [[65, 97]])]
    assert_onnx_matches(graph, opset, batches, atol=2e-3)


def test_an_engine_builds_for_dynamic_batch_and_shape(graph, tmp_path):
    assert_engine_builds(graph, tmp_path)


MMDETECTION_2 = {
    "neck.convs.0.conv.weight": "bbox_head.input_proj.weight",
    "query_embedding.weight": "bbox_head.query_embedding.weight",
    "bbox_head.reg_ffn.layers.0.0.bias": "bbox_head.reg_ffn.layers.0.0.bias",
    "encoder.layers.1.self_attn.attn.in_proj_weight": (
        "bbox_head.transformer.encoder.layers.1.attentions.0.attn.in_proj_weight"
    ),
    "decoder.layers.0.self_attn.attn.out_proj.bias": (
        "bbox_head.transformer.decoder.layers.0.attentions.0.attn.out_proj.bias"
    ),
    "decoder.layers.0.cross_attn.attn.out_proj.bias": (
        "bbox_head.transformer.decoder.layers.0.attentions.1.attn.out_proj.bias"
    ),
    "decoder.layers.1.ffn.layers.0.0.weight": (
        "bbox_head.transformer.decoder.layers.1.ffns.0.layers.0.0.weight"
    ),
    "decoder.layers.1.norms.2.weight": "bbox_head.transformer.decoder.layers.1.norms.2.weight",
    "decoder.post_norm.weight": "bbox_head.transformer.decoder.post_norm.weight",
}
FIRST_CHECKPOINTS = {
    "decoder.layers.0.self_attn.attn.out_proj.bias": (
        "bbox_head.transformer.decoder.layers.0.self_attn.attn.out_proj.bias"
    ),
    "decoder.layers.0.cross_attn.attn.out_proj.bias": (
        "bbox_head.transformer.decoder.layers.0.multihead_attn.attn.out_proj.bias"
    ),
    "encoder.layers.0.ffn.layers.1.weight": "bbox_head.transformer.encoder.layers.0.ffn.layers.1.weight",
    "decoder.post_norm.bias": "bbox_head.transformer.decoder.norm.bias",
}


@pytest.mark.parametrize(
    "names", [MMDETECTION_2, FIRST_CHECKPOINTS], ids=["MMDetection 2", "its first checkpoints"]
)
def test_older_names_are_renamed(network, names):
    parameters = network.state_dict()
    state = {older: parameters[name] for name, older in names.items()}
    renamed = rename_parameters(state, network.renames)
    assert list(renamed) == list(names)
    assert all(renamed[name] is parameters[name] for name in names)


def test_names_of_mmdetection_3_are_kept(network):
    assert list(rename_parameters(network.state_dict(), network.renames)) == list(network.state_dict())
