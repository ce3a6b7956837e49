"""Every family against the original code it stands for, in PyTorch and by ONNX Runtime."""

import os
from copy import copy
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from goldens_support import ABSENT, LIMITS, PRESENT, SHARE, DetectronGolden, Golden, samples
from onnxruntime import InferenceSession
from torch.nn import ModuleList

from samebox.graph.export import check_standard, onnx_from_network
from samebox.graph.lowering import LOWERINGS, lowered
from samebox.graph.opset import EXPORTER_OPSET, at_opset, newest_opset
from samebox.networks.blocks.roi_align import RoIAlign
from samebox.postprocess.detections import detections_from_outputs

pytestmark = pytest.mark.skipif(not PRESENT, reason=ABSENT)


def named(parts):
    """{"neck": [a, b]} → {"neck/0": a, "neck/1": b}."""
    return {f"{part}/{i}": tensor for part, tensors in parts.items() for i, tensor in enumerate(tensors)}


def pyramid(golden):
    """All stages of the probe, and the pyramid of a network that leaves the first of them out."""
    network = golden.loaded.network.network
    backbone = copy(network.backbone)
    backbone.out_stages = (0, 1, 2, 3)
    stages = backbone(golden.probe())
    return {"backbone": stages, "neck": network.neck(stages[1:])}


def retinanet(golden):
    """The tensors of RetinaNet and FSAF that a case stores, by name."""
    parts = pyramid(golden)
    scores, deltas = zip(*map(golden.loaded.network.network.bbox_head, parts["neck"]), strict=True)
    return named(parts | {"bbox_head/cls_score": scores, "bbox_head/bbox_pred": deltas})


def fcos(golden):
    """The tensors of FCOS that a case stores, by name."""
    parts = pyramid(golden)
    head = golden.loaded.network.network.bbox_head
    levels = (head(x, level) for level, x in enumerate(parts["neck"]))
    names = (f"bbox_head/{name}" for name in ("cls_score", "bbox_pred", "centerness"))
    return named(parts | dict(zip(names, zip(*levels, strict=True), strict=True)))


def stages_of(name, head):
    """A head by its name, or each of a list's by its own."""
    return (
        {f"{name}/{i}": one for i, one in enumerate(head)} if isinstance(head, ModuleList) else {name: head}
    )


def faster_rcnn(golden):
    """The tensors of Faster and Cascade R-CNN that a case stores, by name."""
    network, regions = golden.loaded.network.network, golden.probe_regions()
    stages = network.backbone(golden.probe())
    maps = network.neck(stages)
    scores, deltas = zip(*(network.rpn_head.predict(x) for x in maps), strict=True)
    found = named(
        {"backbone": stages, "neck": maps, "rpn_head/cls_score": scores, "rpn_head/bbox_pred": deltas}
    )
    for name, head in stages_of("bbox_head", network.roi_head.bbox_head).items():
        crops = head.roi_align(maps, regions)
        logits, own_deltas = head.predict(crops)
        found[f"{name}/roi_feats"], found[f"{name}/cls_score"] = crops[0], logits[0]
        found[f"{name}/bbox_pred"] = own_deltas[0].flatten(1)
    return found


def maps_of(golden):
    """The pyramid of the probe."""
    network = golden.loaded.network.network
    return network.neck(network.backbone(golden.probe()))


def mask_rcnn(golden):
    """Those of faster_rcnn, and of the masks."""
    found, maps = faster_rcnn(golden), maps_of(golden)
    for name, head in stages_of("mask_head", golden.loaded.network.network.roi_head.mask_head).items():
        crops = head.roi_align(maps, golden.probe_regions())[0]
        found[f"{name}/roi_feats"] = crops
        found[f"{name}/mask_pred"] = head.conv_logits(head.features(crops))
    return found


def point_rend(golden):
    """Those of faster_rcnn, and of the masks before and after their points were refined."""
    head, regions = golden.loaded.network.network.roi_head, golden.probe_regions()
    finest = maps_of(golden)[0]
    crops = head.crops(finest, regions)
    coarse = head.mask_head(crops)
    own = torch.tensor(golden.meta["probe"]["point_head_labels"])[:, None]
    every = torch.arange(coarse.shape[1]).expand(len(own), -1)
    refined = head.refine(finest, regions, coarse, torch.cat([own, every], 1))[:, 1:]
    return faster_rcnn(golden) | {
        "mask_head/roi_feats": crops,
        "mask_head/mask_pred": coarse,
        "point_head/refined_mask_pred": refined,
    }


def ssd(golden):
    """The tensors of SSD that a case stores, by name."""
    network = golden.loaded.network.network
    stages = network.backbone(golden.probe())
    levels = network.neck(stages)
    scores, deltas = zip(*network.bbox_head(levels), strict=True)
    return named(
        {"backbone": stages, "neck": levels, "bbox_head/cls_score": scores, "bbox_head/bbox_pred": deltas}
    )


def yolov3(golden):
    """The tensors of YOLOv3 that a case stores, by name."""
    network = golden.loaded.network.network
    stages = network.backbone(golden.probe())
    levels = network.neck(stages)
    maps = network.bbox_head(levels)
    return named({"backbone": stages, "neck": levels, "bbox_head/pred_map": maps})


def detr(golden):
    """The tensors of DETR that a case stores, by name; the decoder's and the head's of every layer."""
    network, images = golden.loaded.network.network, golden.probe()
    (stage,) = network.backbone(images)
    x = network.neck(stage)
    position, hidden = network.positions(x, images, torch.tensor([images.shape[2:]]))
    memory = network.encoder(x.flatten(2).transpose(1, 2), position, hidden)
    queries = network.query_embedding.weight[None]
    states, state = [], torch.zeros_like(queries)
    for layer in network.decoder.layers:
        state = layer(state, queries, memory, position, hidden)
        states.append(network.decoder.post_norm(state))
    logits, boxes = zip(*map(network.bbox_head, states), strict=True)
    return named({"backbone": [stage], "neck": [x]}) | {
        "pos_embed": position,
        "encoder/memory": memory,
        "decoder/hidden_states": torch.stack(states),
        "bbox_head/cls_scores": torch.stack(logits),
        "bbox_head/bbox_preds": torch.stack(boxes),
    }


def solov2(golden):
    """The tensors of SOLOv2 that a case stores, by name."""
    network = golden.loaded.network.network
    stages = network.backbone(golden.probe())
    maps = network.neck(stages)
    logits, kernels = zip(*network.mask_head(maps), strict=True)
    parts = {"mask_head/kernel_pred": kernels, "mask_head/cls_pred": logits}
    found = named({"backbone": stages, "neck": maps} | parts)
    return found | {"mask_head/mask_feats": network.mask_head.mask_feature_head(maps)}


def cornernet(golden):
    """The tensors of CornerNet that a case stores, by name; the head's of every stack."""
    network = golden.loaded.network.network
    maps = network.backbone(golden.probe())
    heads = [network.bbox_head(x, stack) for stack, x in enumerate(maps)]
    parts = {f"bbox_head/{name}": [head[name] for head in heads] for name in heads[0]}
    return named({"backbone": maps} | parts)


def of_levels(part, tensors, first):
    """{"part.p2": …} for maps from level `first` on."""
    return {f"{part}.p{first + i}": tensor for i, tensor in enumerate(tensors)}


def d2_retinanet(golden):
    """The tensors of detectron2's RetinaNet that a case stores, by name."""
    network = golden.loaded.network.network
    stages = network.backbone(golden.probe())
    maps = network.neck(stages)
    logits, deltas = zip(*map(network.bbox_head, maps), strict=True)
    parts = {"backbone": maps, "cls_logits": logits, "box_deltas": deltas}
    found = {f"bottom_up.res{3 + i}": stage for i, stage in enumerate(stages)}
    return found | {name: x for part, xs in parts.items() for name, x in of_levels(part, xs, 3).items()}


def d2_mask_rcnn(golden):
    """The tensors of detectron2's R-CNN that a case stores, by name."""
    network = golden.loaded.network.network
    stages = network.backbone(golden.probe())
    maps = network.neck(stages)
    logits, deltas = zip(*map(network.rpn_head.predict, maps), strict=True)
    found = {f"bottom_up.res{2 + i}": stage for i, stage in enumerate(stages)}
    parts = {"backbone": maps, "rpn_objectness": logits, "rpn_deltas": deltas}
    for part, tensors in parts.items():
        found |= of_levels(part, tensors, 2)
    box_head, mask_head, regions = (
        network.roi_head.bbox_head,
        network.roi_head.mask_head,
        golden.probe_regions(),
    )
    crops = box_head.roi_align(maps, regions)
    hidden = crops.flatten(2)
    for fc in box_head.shared_fcs:
        hidden = fc(hidden).relu()
    class_logits, box_deltas = box_head.predict(crops)
    found |= {"roi.box_pooled": crops, "roi.box_head": hidden, "roi.cls_logits": class_logits}
    found["roi.box_deltas"] = box_deltas.flatten(2)
    if mask_head is not None:
        found["roi.mask_pooled"] = crops = mask_head.roi_align(maps, regions)
        masks = mask_head.conv_logits(mask_head.features(crops.flatten(0, 1)))
        found["roi.mask_logits"] = masks.unflatten(0, regions.shape[:2])
    return found


def d2_panoptic_fpn(golden):
    """Those of d2_mask_rcnn, and the logits of the classes."""
    return d2_mask_rcnn(golden) | {
        "sem_seg.logits_stride4": golden.loaded.network.network.semantic_head(maps_of(golden))
    }


def mb_mask_rcnn(golden):
    """Those of maskrcnn-benchmark's: the background, of which ours keeps the logit alone, comes first."""
    found = d2_mask_rcnn(golden)
    names = {"bottom_up.res2": "body.layer1", "bottom_up.res3": "body.layer2"}
    names |= {"bottom_up.res4": "body.layer3", "bottom_up.res5": "body.layer4"}
    found = {names.get(name, name).replace("backbone.", "fpn."): x for name, x in found.items()}
    found["roi.cls_logits"] = found["roi.cls_logits"].roll(1, 2)
    for name, spare in (("roi.box_deltas", 4), ("roi.mask_logits", 1)):
        if name in found:
            nothing = torch.full_like(found[name][:, :, :spare], torch.nan)
            found[name] = torch.cat([nothing, found[name]], 2)
    return found


# The detector of conf/detector, the case's folder, and its tensors at the probe
CASES = [
    pytest.param((detector, folder, probes), id=detector)
    for detector, folder, probes in (
        ("retinanet_r50_fpn", "mmdet/retinanet_r50_fpn", retinanet),
        ("fcos_r50_caffe_fpn_gn_head", "mmdet/fcos_r50_caffe_fpn_gn_head", fcos),
        ("fsaf_r50_fpn", "mmdet/fsaf_r50_fpn", retinanet),
        ("ssd300", "mmdet/ssd300", ssd),
        ("yolov3_d53_608", "mmdet/yolov3_d53_608", yolov3),
        ("faster_rcnn_r50_fpn", "mmdet/faster_rcnn_r50_fpn", faster_rcnn),
        ("cascade_rcnn_r50_fpn", "mmdet/cascade_rcnn_r50_fpn", faster_rcnn),
        ("mask_rcnn_r50_fpn", "mmdet/mask_rcnn_r50_fpn", mask_rcnn),
        ("cascade_mask_rcnn_r50_fpn", "mmdet/cascade_mask_rcnn_r50_fpn", mask_rcnn),
        ("point_rend_r50_caffe_fpn", "mmdet/point_rend_r50_caffe_fpn", point_rend),
        ("detr_r50", "mmdet/detr_r50", detr),
        ("solov2_light_r34_fpn", "mmdet/solov2_light_r34_fpn", solov2),
        ("cornernet_hourglass104", "mmdet/cornernet_hourglass104", cornernet),
        ("d2_retinanet_r50_fpn_1x", "detectron2/retinanet_r50_fpn_1x", d2_retinanet),
        ("d2_mask_rcnn_r50_fpn_1x", "detectron2/mask_rcnn_r50_fpn_1x", d2_mask_rcnn),
        ("d2_panoptic_fpn_r50_1x", "detectron2/panoptic_fpn_r50_1x", d2_panoptic_fpn),
        (
            "mb_faster_rcnn_r50_fpn_1x",
            "maskrcnn_benchmark/e2e_faster_rcnn_R_50_FPN_1x_caffe2",
            mb_mask_rcnn,
        ),
        ("mb_mask_rcnn_r50_fpn_1x", "maskrcnn_benchmark/e2e_mask_rcnn_R_50_FPN_1x_caffe2", mb_mask_rcnn),
    )
]


# ONNX's own operators are the same in all cases; tracing takes a minute or two each
WITH_OPERATORS = {"retinanet_r50_fpn", "mask_rcnn_r50_fpn", "mb_mask_rcnn_r50_fpn_1x"}
# One of one stage, and one of two with masks and more; the others become ONNX in their own tests, small
IN_ONNX = {"retinanet_r50_fpn", "d2_panoptic_fpn_r50_1x"}
EVERY_ONE = "SAMEBOX_GOLDENS_IN_ONNX"


@pytest.fixture(scope="module", params=CASES)
def case(request, tmp_path_factory):
    detector, folder, probes = request.param
    kind = Golden if folder.startswith("mmdet/") else DetectronGolden
    return kind(folder, detector, tmp_path_factory.mktemp("golden")), probes


@pytest.fixture(scope="module")
def golden(case):
    return case[0]


def test_every_part_at_the_probe(case):
    golden, probes = case
    with torch.inference_mode():
        found = probes(golden)
    assert found.keys() == golden.probed
    for name, tensor in found.items():
        golden.assert_tensor(name, tensor)


def test_what_the_network_is_asked(golden):
    for index, batch in enumerate(golden.batches):
        original, resized, padded, tensor = golden.asked(index)
        assert batch.originals[0].tolist() == original
        network, sizes = golden.loaded.network, torch.from_numpy(batch.sizes)
        normalized = network.normalize(torch.from_numpy(batch.images), sizes)
        if resized is not None:
            assert batch.sizes[0].tolist() == resized
        else:  # pasted into the canvas as it is
            normalized = network.network.centre(normalized, sizes)
        assert list(batch.images.shape[2:]) == padded
        if tensor is not None:
            np.testing.assert_allclose(samples(normalized), tensor, atol=1e-5)


def assert_finds_the_same(golden, run, images=None, least=SHARE):
    """`run` on each of the case's images, or on the first few, finds what the original code found.

    So it does on all of them at once where that was asked of the original code.
    """
    read = golden.loaded.spec.class_names, golden.loaded.spec.decoding
    for index, batch in enumerate(golden.batches[:images]):
        golden.assert_detections(index, *detections_from_outputs(run(batch), batch, *read), least=least)
    if golden.together is not None:
        found = detections_from_outputs(run(golden.together), golden.together, *read)
        for index, detections in enumerate(found):
            golden.assert_detections(f"batch/{index}", detections, least=least)


def test_pytorch(golden):
    def run(batch):
        with torch.inference_mode():
            outputs = golden.loaded.network(torch.from_numpy(batch.images), torch.from_numpy(batch.sizes))
        return {name: output.numpy() for name, output in outputs.items()}

    assert_finds_the_same(golden, run)


def test_proposals_and_what_becomes_of_the_original_ones(golden):
    """Stage by stage: from the same proposals on, the second stage has to agree closely."""
    if not golden.two_stages:
        pytest.skip("no proposals in this family")
    deployable = golden.loaded.network
    network, names = deployable.network, golden.loaded.spec.class_names
    limits = golden.limits_of(LIMITS, 1)
    for index, batch in enumerate(golden.batches):
        sizes = torch.from_numpy(batch.sizes)
        with torch.inference_mode():
            maps = network.neck(network.backbone(deployable.normalize(torch.from_numpy(batch.images), sizes)))
            boxes, objectness = network.rpn_head(maps, sizes)
            original = [torch.from_numpy(one)[None] for one in golden.proposals(index)]
            outputs = network.roi_head(maps, *original, sizes)
        golden.assert_proposals(index, boxes[0].numpy(), objectness[0].numpy())
        found = {name: output.numpy() for name, output in outputs.items()}
        golden.assert_detections(index, *detections_from_outputs(found, batch, names), limits)


@pytest.fixture(scope="module", params=LOWERINGS)
def traced(request, golden):
    """The graph of one lowering, and the opsets it is for."""
    if golden.loaded.spec.name not in IN_ONNX and os.environ.get(EVERY_ONE) != "all":
        pytest.skip(f"another case has such a graph; {EVERY_ONE}=all traces every one")
    if request.param == "onnx" and golden.loaded.spec.name not in WITH_OPERATORS:
        pytest.skip("another case has the same operators")
    opsets = [16, EXPORTER_OPSET, newest_opset()]
    regions = any(isinstance(module, RoIAlign) for module in golden.loaded.network.modules())
    if request.param == "onnx" and regions:
        opsets.pop()  # ONNX Runtime has no RoiAlign of the newest opset: that graph is another one
    form = lowered(golden.loaded.network, request.param, EXPORTER_OPSET)
    return onnx_from_network(form, canvas=golden.loaded.spec.preprocess.canvas), opsets


def test_onnxruntime(golden, traced):
    model, opsets = traced
    # ONNX Runtime folds norms into convolutions: other roundings, of which a cascade makes much. Noise of
    # 1e-4 grey levels in its input moves more of Cascade R-CNN's detections beyond the limits than one in a
    # hundred
    least = 0.95 if golden.two_stages else SHARE
    for opset in opsets:
        graph = at_opset(model, opset)
        check_standard(graph, opset)
        session = InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
        run = partial(answered, session)
        # one image shows that another opset says the same; all are for the graph as it was traced
        assert_finds_the_same(golden, run, None if opset == EXPORTER_OPSET else 1, least)


def answered(session, batch):
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, batch.inputs()), strict=True))


FIELDS = ("boxes", "scores", "labels", "masks")


def fields_by(change, detections):
    """`change` made to every field that the detections have."""
    had = {name: getattr(detections, name) for name in FIELDS}
    return replace(detections, **{name: change(field) for name, field in had.items() if field is not None})


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param(lambda d, limits: replace(d, boxes=d.boxes + 1.5 * limits.box), id="boxes"),
        pytest.param(lambda d, limits: replace(d, scores=d.scores + 1.5 * limits.score), id="scores"),
        pytest.param(lambda d, _: replace(d, labels=(d.labels + 1) % 80), id="labels"),
        pytest.param(lambda d, _: fields_by(lambda field: field[2:], d), id="two are missing"),
        pytest.param(
            lambda d, _: fields_by(lambda field: np.concatenate([field, field[:2]]), d), id="two too many"
        ),
    ],
)
def test_a_difference_is_noticed(golden, changed):
    reference = golden.detections(0)
    golden.assert_detections(0, reference)
    with pytest.raises(AssertionError, match="image 0: only"):
        golden.assert_detections(0, changed(reference, golden.limits))


def test_a_difference_of_masks_is_noticed(golden):
    reference = golden.detections(0)
    if reference.masks is None:
        pytest.skip("no masks in this family")
    moved = np.roll(reference.masks, 3, axis=2)
    with pytest.raises(AssertionError, match=r"image 0: only [0-9.]+% of the masks agree"):
        golden.assert_detections(0, replace(reference, masks=moved))
    with pytest.raises(AssertionError):
        golden.assert_detections(0, replace(reference, masks=None))


@pytest.mark.parametrize("field", ["ids", "classes", "segments"])
def test_a_difference_of_segments_is_noticed(golden, field):
    reference = golden.detections(0)
    if reference.panoptic is None:
        pytest.skip("no segments in this family")
    value = getattr(reference.panoptic, field)
    changed = value[1:] if field == "segments" else np.where(np.arange(len(value))[:, None] % 50, value, 0)
    with pytest.raises(AssertionError, match="image 0: "):
        golden.assert_detections(
            0, replace(reference, panoptic=replace(reference.panoptic, **{field: changed}))
        )
    with pytest.raises(AssertionError):
        golden.assert_detections(0, replace(reference, panoptic=None))
