"""Compares every family with its original code, in PyTorch and in ONNX Runtime."""

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
    """All stages of the backbone for the probe, and the pyramid of a network that does not use the first."""
    network = golden.loaded.network.network
    backbone = copy(network.backbone)
    backbone.out_stages = (0, 1, 2, 3)
    stages = backbone(golden.probe())
    return {"backbone": stages, "neck": network.neck(stages[1:])}


def retinanet(golden):
    """The tensors of RetinaNet or FSAF that a case stores, by name."""
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
    """{name: head}, or {"name/i": head i} for a list of heads."""
    if isinstance(head, ModuleList):
        return {f"{name}/{i}": stage for i, stage in enumerate(head)}
    return {name: head}


def faster_rcnn(golden):
    """The tensors of Faster and Cascade R-CNN that a case stores, by name."""
    network, regions = golden.loaded.network.network, golden.probe_regions()
    stages = network.backbone(golden.probe())
    maps = network.neck(stages)
    scores, deltas = zip(*(network.rpn_head.predict(x) for x in maps), strict=True)
    tensors = named(
        {"backbone": stages, "neck": maps, "rpn_head/cls_score": scores, "rpn_head/bbox_pred": deltas}
    )
    for name, head in stages_of("bbox_head", network.roi_head.bbox_head).items():
        crops = head.roi_align(maps, regions)
        logits, box_deltas = head.predict(crops)
        tensors[f"{name}/roi_feats"], tensors[f"{name}/cls_score"] = crops[0], logits[0]
        tensors[f"{name}/bbox_pred"] = box_deltas[0].flatten(1)
    return tensors


def maps_of(golden):
    """The pyramid of the probe."""
    network = golden.loaded.network.network
    return network.neck(network.backbone(golden.probe()))


def mask_rcnn(golden):
    """The tensors of faster_rcnn and of the masks."""
    tensors, maps = faster_rcnn(golden), maps_of(golden)
    for name, head in stages_of("mask_head", golden.loaded.network.network.roi_head.mask_head).items():
        crops = head.roi_align(maps, golden.probe_regions())[0]
        tensors[f"{name}/roi_feats"] = crops
        tensors[f"{name}/mask_pred"] = head.conv_logits(head.features(crops))
    return tensors


def point_rend(golden):
    """The tensors of faster_rcnn, and of the masks before and after the refinement of points."""
    head, regions = golden.loaded.network.network.roi_head, golden.probe_regions()
    finest = maps_of(golden)[0]
    crops = head.crops(finest, regions)
    coarse = head.mask_head(crops)
    labels = torch.tensor(golden.meta["probe"]["point_head_labels"])[:, None]
    classes = torch.arange(coarse.shape[1]).expand(len(labels), -1)
    refined = head.refine(finest, regions, coarse, torch.cat([labels, classes], 1))[:, 1:]
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
    """The tensors of DETR that a case stores, by name; of decoder and head for every layer."""
    network, images = golden.loaded.network.network, golden.probe()
    (stage,) = network.backbone(images)
    x = network.neck(stage)
    position, padding = network.positions(x, images, torch.tensor([images.shape[2:]]))
    memory = network.encoder(x.flatten(2).transpose(1, 2), position, padding)
    queries = network.query_embedding.weight[None]
    states, state = [], torch.zeros_like(queries)
    for layer in network.decoder.layers:
        state = layer(state, queries, memory, position, padding)
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
    tensors = named({"backbone": stages, "neck": maps} | parts)
    return tensors | {"mask_head/mask_feats": network.mask_head.mask_feature_head(maps)}


def cornernet(golden):
    """The tensors of CornerNet that a case stores, by name; of the head for every stack."""
    network = golden.loaded.network.network
    maps = network.backbone(golden.probe())
    heads = [network.bbox_head(x, stack) for stack, x in enumerate(maps)]
    parts = {f"bbox_head/{name}": [head[name] for head in heads] for name in heads[0]}
    return named({"backbone": maps} | parts)


def named_by_level(part, tensors, first):
    """{"part.p<level>": tensor} for maps from level `first` on."""
    return {f"{part}.p{first + i}": tensor for i, tensor in enumerate(tensors)}


def d2_retinanet(golden):
    """The tensors of detectron2's RetinaNet that a case stores, by name."""
    network = golden.loaded.network.network
    stages = network.backbone(golden.probe())
    maps = network.neck(stages)
    logits, deltas = zip(*map(network.bbox_head, maps), strict=True)
    parts = {"backbone": maps, "cls_logits": logits, "box_deltas": deltas}
    tensors = {f"bottom_up.res{3 + i}": stage for i, stage in enumerate(stages)}
    return tensors | {
        name: x for part, xs in parts.items() for name, x in named_by_level(part, xs, 3).items()
    }


def d2_mask_rcnn(golden):
    """The tensors of detectron2's R-CNN that a case stores, by name."""
    network = golden.loaded.network.network
    stages = network.backbone(golden.probe())
    maps = network.neck(stages)
    logits, deltas = zip(*map(network.rpn_head.predict, maps), strict=True)
    result = {f"bottom_up.res{2 + i}": stage for i, stage in enumerate(stages)}
    parts = {"backbone": maps, "rpn_objectness": logits, "rpn_deltas": deltas}
    for part, tensors in parts.items():
        result |= named_by_level(part, tensors, 2)
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
    result |= {"roi.box_pooled": crops, "roi.box_head": hidden, "roi.cls_logits": class_logits}
    result["roi.box_deltas"] = box_deltas.flatten(2)
    if mask_head is not None:
        result["roi.mask_pooled"] = crops = mask_head.roi_align(maps, regions)
        masks = mask_head.conv_logits(mask_head.features(crops.flatten(0, 1)))
        result["roi.mask_logits"] = masks.unflatten(0, regions.shape[:2])
    return result


def d2_panoptic_fpn(golden):
    """The tensors of d2_mask_rcnn, and the semantic logits."""
    return d2_mask_rcnn(golden) | {
        "sem_seg.logits_stride4": golden.loaded.network.network.semantic_head(maps_of(golden))
    }


def mb_mask_rcnn(golden):
    """The tensors of maskrcnn-benchmark's R-CNN. The background is first; samebox has only its logit."""
    tensors = d2_mask_rcnn(golden)
    names = {"bottom_up.res2": "body.layer1", "bottom_up.res3": "body.layer2"}
    names |= {"bottom_up.res4": "body.layer3", "bottom_up.res5": "body.layer4"}
    tensors = {names.get(name, name).replace("backbone.", "fpn."): x for name, x in tensors.items()}
    tensors["roi.cls_logits"] = tensors["roi.cls_logits"].roll(1, 2)
    for name, rows in (("roi.box_deltas", 4), ("roi.mask_logits", 1)):
        if name in tensors:
            missing = torch.full_like(tensors[name][:, :, :rows], torch.nan)
            tensors[name] = torch.cat([missing, tensors[name]], 2)
    return tensors


# Detector of conf/detector, folder of the case, and function that computes the tensors of the probe
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


# Cases exported with ONNX's own operators, which are the same in all cases; tracing takes one or two minutes
WITH_OPERATORS = {"retinanet_r50_fpn", "mask_rcnn_r50_fpn", "mb_mask_rcnn_r50_fpn_1x"}
# Cases exported by default: one with one stage, one with two stages and masks. The tests of each family
# export a tiny network.
IN_ONNX = {"retinanet_r50_fpn", "d2_panoptic_fpn_r50_1x"}
EXPORT_ALL = "SAMEBOX_GOLDENS_IN_ONNX"


@pytest.fixture(scope="module", params=CASES)
def case(request, tmp_path_factory):
    detector, folder, probes = request.param
    golden_class = Golden if folder.startswith("mmdet/") else DetectronGolden
    return golden_class(folder, detector, tmp_path_factory.mktemp("golden")), probes


@pytest.fixture(scope="module")
def golden(case):
    return case[0]


def test_outputs_of_every_part_for_the_probe(case):
    golden, probes = case
    with torch.inference_mode():
        tensors = probes(golden)
    assert tensors.keys() == golden.probe_names
    for name, tensor in tensors.items():
        golden.assert_tensor(name, tensor)


def test_inputs_of_the_network(golden):
    for index, batch in enumerate(golden.batches):
        original, resized, padded, tensor = golden.original_inputs(index)
        assert batch.originals[0].tolist() == original
        network, sizes = golden.loaded.network, torch.from_numpy(batch.sizes)
        normalized = network.normalize(torch.from_numpy(batch.images), sizes)
        if resized is not None:
            assert batch.sizes[0].tolist() == resized
        else:  # the image is not resized, but centred on the canvas
            normalized = network.network.centre(normalized, sizes)
        assert list(batch.images.shape[2:]) == padded
        if tensor is not None:
            np.testing.assert_allclose(samples(normalized), tensor, atol=1e-5)


def assert_detections(golden, run, images=None, min_share=SHARE):
    """`run` agrees with the original code on the case's images, or on the first `images` of them.

    If the original code ran images in one batch, so does `run`.
    """
    spec = golden.loaded.spec.class_names, golden.loaded.spec.decoding
    for index, batch in enumerate(golden.batches[:images]):
        (detections,) = detections_from_outputs(run(batch), batch, *spec)
        golden.assert_detections(index, detections, min_share=min_share)
    if golden.joint_batch is not None:
        outputs = run(golden.joint_batch)
        for index, detections in enumerate(detections_from_outputs(outputs, golden.joint_batch, *spec)):
            golden.assert_detections(f"batch/{index}", detections, min_share=min_share)


def test_detections_of_pytorch(golden):
    def run(batch):
        with torch.inference_mode():
            outputs = golden.loaded.network(torch.from_numpy(batch.images), torch.from_numpy(batch.sizes))
        return {name: output.numpy() for name, output in outputs.items()}

    assert_detections(golden, run)


def test_proposals_and_second_stage(golden):
    """Each stage is compared separately; the second stage starts from the original code's proposals."""
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
            original = [torch.from_numpy(field)[None] for field in golden.proposals(index)]
            outputs = network.roi_head(maps, *original, sizes)
        golden.assert_proposals(index, boxes[0].numpy(), objectness[0].numpy())
        arrays = {name: output.numpy() for name, output in outputs.items()}
        golden.assert_detections(index, *detections_from_outputs(arrays, batch, names), limits)


@pytest.fixture(scope="module", params=LOWERINGS)
def traced(request, golden):
    """The graph of one lowering, and the opsets to test."""
    if golden.loaded.spec.name not in IN_ONNX and os.environ.get(EXPORT_ALL) != "all":
        pytest.skip(f"exported in another case; {EXPORT_ALL}=all exports every case")
    if request.param == "onnx" and golden.loaded.spec.name not in WITH_OPERATORS:
        pytest.skip("another case has the same operators")
    opsets = [16, EXPORTER_OPSET, newest_opset()]
    regions = any(isinstance(module, RoIAlign) for module in golden.loaded.network.modules())
    if request.param == "onnx" and regions:
        opsets.pop()  # ONNX Runtime lacks RoiAlign of the newest opset, so the graph of that opset differs
    form = lowered(golden.loaded.network, request.param, EXPORTER_OPSET)
    return onnx_from_network(form, canvas=golden.loaded.spec.preprocess.canvas), opsets


def test_detections_of_onnxruntime(golden, traced):
    model, opsets = traced
    # ONNX Runtime folds norms into convolutions, and a cascade amplifies the different roundings: noise of
    # 1e-4 grey levels in the input moves more than 1 % of Cascade R-CNN's detections beyond the limits
    min_share = 0.95 if golden.two_stages else SHARE
    for opset in opsets:
        graph = at_opset(model, opset)
        check_standard(graph, opset)
        session = InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
        # all images at the opset of the exporter, one image at the others
        images = None if opset == EXPORTER_OPSET else 1
        assert_detections(golden, partial(run_session, session), images, min_share)


def run_session(session, batch):
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, batch.inputs()), strict=True))


FIELDS = ("boxes", "scores", "labels", "masks")


def change_fields(change, detections):
    """The detections with `change` applied to every field that is not None."""
    fields = {name: getattr(detections, name) for name in FIELDS}
    return replace(detections, **{name: change(field) for name, field in fields.items() if field is not None})


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda d, limits: replace(d, boxes=d.boxes + 1.5 * limits.box), id="boxes"),
        pytest.param(lambda d, limits: replace(d, scores=d.scores + 1.5 * limits.score), id="scores"),
        pytest.param(lambda d, _: replace(d, labels=(d.labels + 1) % 80), id="labels"),
        pytest.param(lambda d, _: change_fields(lambda field: field[2:], d), id="two missing"),
        pytest.param(
            lambda d, _: change_fields(lambda field: np.concatenate([field, field[:2]]), d),
            id="two detections too many",
        ),
    ],
)
def test_a_difference_is_detected(golden, change):
    reference = golden.detections(0)
    golden.assert_detections(0, reference)
    with pytest.raises(AssertionError, match="image 0: only"):
        golden.assert_detections(0, change(reference, golden.limits))


def test_a_difference_of_masks_is_detected(golden):
    reference = golden.detections(0)
    if reference.masks is None:
        pytest.skip("no masks in this family")
    moved = np.roll(reference.masks, 3, axis=2)
    with pytest.raises(AssertionError, match=r"image 0: only [0-9.]+% of the masks agree"):
        golden.assert_detections(0, replace(reference, masks=moved))
    with pytest.raises(AssertionError):
        golden.assert_detections(0, replace(reference, masks=None))


@pytest.mark.parametrize("field", ["ids", "classes", "segments"])
def test_a_difference_of_segments_is_detected(golden, field):
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
