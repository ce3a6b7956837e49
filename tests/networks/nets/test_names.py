"""Names of detectron2, maskrcnn-benchmark, Detectron and SOLO are renamed to every parameter exactly once."""

import re

import pytest
import torch

from samebox.checkpoints.weights import load_strictly, rename_parameters
from samebox.networks.construct import build
from stages.compose import compose, plain


def detectron2(name):
    """detectron2's name of a parameter of Mask R-CNN with FPN."""
    name = re.sub(r"^backbone\.(conv1|bn1)\.", lambda m: STEM[m[1]], name)
    name = re.sub(r"^backbone\.layer(\d)\.", lambda m: f"backbone.bottom_up.res{int(m[1]) + 1}.", name)
    name = re.sub(r"\.bn(\d)\.", r".conv\1.norm.", name)
    name = re.sub(r"\.downsample\.0\.", ".shortcut.", name)
    name = re.sub(r"\.downsample\.1\.", ".shortcut.norm.", name)
    name = re.sub(r"^neck\.lateral_convs\.(\d)\.conv", lambda m: f"backbone.fpn_lateral{int(m[1]) + 2}", name)
    name = re.sub(r"^neck\.fpn_convs\.(\d)\.conv", lambda m: f"backbone.fpn_output{int(m[1]) + 2}", name)
    name = name.replace("rpn_head.rpn_conv", "proposal_generator.rpn_head.conv")
    name = name.replace("rpn_head.rpn_cls", "proposal_generator.rpn_head.objectness_logits")
    name = name.replace("rpn_head.rpn_reg", "proposal_generator.rpn_head.anchor_deltas")
    name = re.sub(
        r"^roi_head\.bbox_head\.shared_fcs\.(\d)", lambda m: f"roi_heads.box_head.fc{int(m[1]) + 1}", name
    )
    name = name.replace("roi_head.bbox_head.fc_cls", "roi_heads.box_predictor.cls_score")
    name = name.replace("roi_head.bbox_head.fc_reg", "roi_heads.box_predictor.bbox_pred")
    mask = r"^roi_head\.mask_head\.convs\.(\d)\.conv"
    name = re.sub(mask, lambda m: f"roi_heads.mask_head.mask_fcn{int(m[1]) + 1}", name)
    name = name.replace("roi_head.mask_head.upsample", "roi_heads.mask_head.deconv")
    return name.replace("roi_head.mask_head.conv_logits", "roi_heads.mask_head.predictor")


STEM = {"conv1": "backbone.bottom_up.stem.conv1.", "bn1": "backbone.bottom_up.stem.conv1.norm."}
PARTS = {"conv1": "branch2a", "conv2": "branch2b", "conv3": "branch2c"}
LAST_BLOCK = {1: 2, 2: 3, 3: 5, 4: 2}  # index of the last block of each stage of ResNet-50


def benchmark(name):
    """maskrcnn-benchmark's name of a parameter of Mask R-CNN with FPN."""
    name = re.sub(r"^backbone\.(conv1|bn1)\.", r"backbone.body.stem.\1.", name)
    name = re.sub(r"^backbone\.layer", "backbone.body.layer", name)
    for ours, theirs in (("lateral_convs", "fpn_inner"), ("fpn_convs", "fpn_layer")):
        name = re.sub(
            rf"^neck\.{ours}\.(\d)\.conv", lambda m, n=theirs: f"backbone.fpn.{n}{int(m[1]) + 1}", name
        )
    for stem, other in BENCHMARK.items():
        name = name.replace(stem, other)
    mask = r"^roi_head\.mask_head\.convs\.(\d)\.conv"
    return re.sub(mask, lambda m: f"roi_heads.mask.feature_extractor.mask_fcn{int(m[1]) + 1}", name)


BENCHMARK = {
    "rpn_head.rpn_conv": "rpn.head.conv",
    "rpn_head.rpn_cls": "rpn.head.cls_logits",
    "rpn_head.rpn_reg": "rpn.head.bbox_pred",
    "roi_head.bbox_head.shared_fcs.0": "roi_heads.box.feature_extractor.fc6",
    "roi_head.bbox_head.shared_fcs.1": "roi_heads.box.feature_extractor.fc7",
    "roi_head.bbox_head.fc_cls": "roi_heads.box.predictor.cls_score",
    "roi_head.bbox_head.fc_reg": "roi_heads.box.predictor.bbox_pred",
    "roi_head.mask_head.upsample": "roi_heads.mask.predictor.conv5_mask",
    "roi_head.mask_head.conv_logits": "roi_heads.mask.predictor.mask_fcn_logits",
}


def blob(name):
    """Detectron's name of a parameter of Mask R-CNN with ResNet-50 and FPN."""
    stem = name.removesuffix(".weight").removesuffix(".bias")
    norm = re.search(r"bn\d$|downsample\.1$", stem)
    ending = {"weight": "s" if norm else "w", "bias": "b"}[name.rpartition(".")[2]]
    if stem == "backbone.bn1":
        return f"res_conv1_bn_{ending}"
    if match := re.fullmatch(r"backbone\.layer(\d)\.(\d)\.(.*)", stem):
        part = match[3].replace("bn", "conv")
        part = "branch1" if part.startswith("downsample") else PARTS[part]
        return f"res{int(match[1]) + 1}_{match[2]}_{part}{'_bn' if norm else ''}_{ending}"
    if match := re.fullmatch(r"neck\.(lateral|fpn)_convs\.(\d)\.conv", stem):
        stage = int(match[2]) + 1
        inner = "inner_" if match[1] == "lateral" else ""
        lateral = "_lateral" if inner and stage < 4 else ""
        return f"fpn_{inner}res{stage + 1}_{LAST_BLOCK[stage]}_sum{lateral}_{ending}"
    if match := re.fullmatch(r"roi_head\.mask_head\.convs\.(\d)\.conv", stem):
        return f"_[mask]_fcn{int(match[1]) + 1}_{ending}"
    return f"{BLOBS[stem]}_{ending}"


BLOBS = {
    "backbone.conv1": "conv1",
    "rpn_head.rpn_conv": "conv_rpn_fpn2",
    "rpn_head.rpn_cls": "rpn_cls_logits_fpn2",
    "rpn_head.rpn_reg": "rpn_bbox_pred_fpn2",
    "roi_head.bbox_head.shared_fcs.0": "fc6",
    "roi_head.bbox_head.shared_fcs.1": "fc7",
    "roi_head.bbox_head.fc_cls": "cls_score",
    "roi_head.bbox_head.fc_reg": "bbox_pred",
    "roi_head.mask_head.upsample": "conv5_mask",
    "roi_head.mask_head.conv_logits": "mask_fcn_logits",
}


def built(detector):
    """The network of a detector, without values."""
    config = compose("export", [f"detector={detector}"])
    config.detector.num_classes = 3
    with torch.device("meta"):
        return build(plain(config.detector)["network"])


@pytest.fixture(scope="module")
def network():
    return built("d2_mask_rcnn_r50_fpn_1x").to_empty(device="cpu")


@pytest.fixture(scope="module")
def state(network):
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.rand(value.shape, generator=generator)
        for name, value in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }


def background_first(state):
    """The parameters with the rows of the background first, as in Detectron."""
    state = dict(state)
    for part, rows in (("bbox_head.fc_reg", 4), ("mask_head.conv_logits", 1)):
        for kind in ("weight", "bias"):
            value = state[f"roi_head.{part}.{kind}"]
            state[f"roi_head.{part}.{kind}"] = torch.cat([torch.full_like(value[:rows], 9.0), value])
    for kind in ("weight", "bias"):
        value = state[f"roi_head.bbox_head.fc_cls.{kind}"]
        state[f"roi_head.bbox_head.fc_cls.{kind}"] = torch.cat([value[-1:], value[:-1]])
    return state


def assert_loads(network, state, foreign):
    load_strictly(network, rename_parameters(foreign, network.renames), "foreign.pkl")
    for name, value in network.state_dict().items():
        if name in state:
            assert value.equal(state[name]), name


def test_names_of_detectron2(network, state):
    foreign = {detectron2(name): value for name, value in state.items()}
    assert not set(foreign) & set(state), "a name is not converted"
    foreign["proposal_generator.anchor_generator.cell_anchors.0"] = torch.zeros(3, 4)
    assert_loads(network, state, foreign)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_names_of_maskrcnn_benchmark(network, state, prefix):
    foreign = {prefix + benchmark(name): value for name, value in background_first(state).items()}
    foreign[f"{prefix}rpn.anchor_generator.cell_anchors.0"] = torch.zeros(3, 4)
    assert_loads(network, state, foreign)


def solo(name):
    """The name of a SOLOv2 parameter in SOLO's own code."""
    for ours, theirs in (
        ("mask_head.mask_feature_head.conv_pred.", "mask_feat_head.conv_pred.0."),
        ("mask_head.mask_feature_head.", "mask_feat_head."),
        ("mask_head.cls_convs.", "bbox_head.cate_convs."),
        ("mask_head.conv_cls.", "bbox_head.solo_cate."),
        ("mask_head.conv_kernel.", "bbox_head.solo_kernel."),
        ("mask_head.", "bbox_head."),
    ):
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return name


@pytest.mark.parametrize("detector", ["solov2_r50_fpn", "solov2_light_r34_fpn"])
def test_names_of_solo(detector):
    network = built(detector)
    state = {name: value for name, value in network.state_dict().items() if "num_batches" not in name}
    foreign = {solo(name): value for name, value in state.items()}
    assert not any(name.startswith("mask_head") for name in foreign)
    assert rename_parameters(foreign, network.renames).keys() == state.keys()


def test_names_of_detectrons_blobs(network, state):
    stored = {name: value for name, value in state.items() if "running" not in name}
    foreign = {blob(name): value for name, value in background_first(stored).items()}
    foreign |= {f"{name}_momentum": torch.zeros_like(value) for name, value in foreign.items()}
    foreign["lr"] = torch.zeros(1)
    assert_loads(network, stored, foreign)


def test_names_of_mmdetection_are_kept(network, state):
    assert rename_parameters(state, network.renames).keys() == state.keys()
