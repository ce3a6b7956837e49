"""Mask R-CNN with the demo's trained checkpoint, in every form that the pipeline creates."""

from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import samebox.graph.export
from samebox.coco.dataset import CocoDataset
from samebox.detector import Detector
from samebox.engine.build import engine_from_onnx
from samebox.evaluation.agreement import agreement
from samebox.evaluation.run import run_on_data_set
from samebox.evaluation.scores import run_scores
from samebox.graph.export import export, onnx_from_network
from samebox.graph.lowering import LOWERINGS, OPERATOR_OPSETS, OperatorRoIAlign, lowered
from samebox.graph.opset import OLDEST_OPSET, newest_opset
from samebox.graph.reading import all_nodes
from samebox.postprocess.detections import detections_from_outputs
from samebox.precision.convert import convert_precision
from samebox.record.preprocess import Batch, read_image
from samebox.runners.onnxruntime import OnnxRuntimeRunner
from samebox.runners.torch import TorchRunner
from stages.compose import compose
from stages.engine import profile
from stages.networks import load_network
from stages.precision import rule

ROOT = Path(__file__).parents[3]
FORMS = [(lowering, opset) for lowering in LOWERINGS for opset in (OLDEST_OPSET, 18, newest_opset())]
# AP of this checkpoint on the demo's 200 images, in points, measured with MMDetection 3.3.0
MMDETECTION = {"bbox": 50.183, "segm": 47.8446}
CLOSE = {"box": 0.05, "score": 1e-4, "mask": 0.99}
SATURATED = "anchors of one object with scores of nearly 1"
CROWD = (4, 6)  # rows and columns of copies of an image, which hold more objects than a network returns


@pytest.fixture(scope="module")
def loaded():
    return load_network(
        compose("export", ["detector=mask_rcnn_shapes"]), ROOT / "demo/checkpoints/mask_rcnn_shapes.pth"
    )


@pytest.fixture(scope="module")
def batches(loaded, demo_images):
    """Inputs of the network, by name."""
    tile = demo_images[0][:144, :176]
    crowd = np.tile(tile, (*CROWD, 1)).transpose(2, 0, 1)[None].astype(np.float32)
    size = np.array([crowd.shape[2:]])
    saturated = read_image(ROOT / "demo/shapes/val/000020000141.jpg")
    return {
        "one image": loaded.spec.preprocess(demo_images[:1]),
        SATURATED: loaded.spec.preprocess([saturated]),
        "three images of different sizes": loaded.spec.preprocess(demo_images[1:4], (384, 384)),
        "more objects than results": Batch(crowd, size, size),
    }


def run(runner, batch):
    with runner:
        return runner(batch.inputs())


@pytest.fixture(scope="module")
def expected(loaded, batches):
    return {name: run(TorchRunner(loaded.network, loaded.spec), batch) for name, batch in batches.items()}


@pytest.fixture(scope="module")
def exported(loaded, tmp_path_factory):
    """A function that returns the file of a lowering and opset. Each set of operators is traced only once."""
    folder = tmp_path_factory.mktemp("exported")

    @cache
    def traced(lowering, operators_of):
        return onnx_from_network(lowered(loaded.network, lowering, operators_of)).SerializeToString()

    @cache
    def file(lowering, opset):
        path = folder / f"{lowering}_{opset}.onnx"
        beyond = lowering == "onnx" and opset not in OPERATOR_OPSETS[OperatorRoIAlign]
        model = onnx.load_from_string(traced(lowering, newest_opset() if beyond else 18))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(samebox.graph.export, "onnx_from_network", lambda *_arguments: model)
            export(loaded.network, loaded.spec, path, opset=opset, lowering=lowering)
        return path

    return file


def assert_detections_agree(loaded, batch, expected, outputs):
    for reference, detections in zip(
        *(detections_from_outputs(side, batch, loaded.spec.class_names) for side in (expected, outputs)),
        strict=True,
    ):
        compared = agreement(reference, detections)
        assert compared.reference > 0
        assert compared.share(**CLOSE) == 1, str(compared)


@pytest.mark.parametrize(("lowering", "opset"), FORMS)
class TestEveryForm:
    def test_operators_and_output_ranks(self, exported, lowering, opset):
        graph = onnx.load(exported(lowering, opset)).graph
        operators = {node.op_type for node in all_nodes(graph)}
        assert ("NonMaxSuppression" in operators) == (lowering == "onnx")
        assert ("RoiAlign" in operators) == (
            lowering == "onnx" and opset in OPERATOR_OPSETS[OperatorRoIAlign]
        )
        assert {value.name: len(value.type.tensor_type.shape.dim) for value in graph.output} == {
            "boxes": 3,
            "scores": 2,
            "labels": 2,
            "masks": 4,
        }

    @pytest.mark.parametrize(
        "name",
        ["one image", SATURATED, "three images of different sizes", "more objects than results"],
    )
    def test_detections_are_those_of_pytorch(
        self, loaded, exported, batches, expected, lowering, opset, name
    ):
        outputs = run(OnnxRuntimeRunner(exported(lowering, opset)), batches[name])
        assert_detections_agree(loaded, batches[name], expected[name], outputs)
        is_padding = outputs["scores"] == 0
        assert not any(value[is_padding].any() for value in outputs.values())
        if name == "more objects than results":
            assert not is_padding.any()

    def test_an_image_gives_the_same_results_in_a_batch_and_alone(
        self, loaded, exported, batches, lowering, opset
    ):
        batch = batches["three images of different sizes"]
        runner = OnnxRuntimeRunner(exported(lowering, opset))
        batched = run(runner, batch)
        for index in range(3):
            alone = Batch(*(field[index : index + 1] for field in vars(batch).values()))
            from_batch = {name: value[index : index + 1] for name, value in batched.items()}
            assert_detections_agree(loaded, alone, run(runner, alone), from_batch)

    def test_without_objects_all_outputs_are_zero(self, exported, batches, lowering, opset, tmp_path):
        """With a large bias of the background no score exceeds the threshold, and loops do not iterate."""
        model = onnx.load(exported(lowering, opset))
        (bias,) = (i for i in model.graph.initializer if i.name.endswith("fc_cls.bias"))
        background = np.append(np.zeros(bias.dims[0] - 1, np.float32), np.float32(1e4))
        bias.CopyFrom(numpy_helper.from_array(background, bias.name))
        onnx.save(model, tmp_path / "nothing.onnx")
        runner = OnnxRuntimeRunner(tmp_path / "nothing.onnx")
        outputs = run(runner, batches["three images of different sizes"])
        assert outputs["masks"].shape == (3, 100, 28, 28)
        assert not any(value.any() for value in outputs.values())


def test_an_engine_builds_for_dynamic_batch_and_shape(loaded, exported, tmp_path):
    pytest.importorskip("tensorrt_rtx")
    served = profile(compose("engine", ["detector=mask_rcnn_shapes"]), loaded.spec.preprocess)
    assert served.batch[2] == 4
    assert served.height[0] < served.height[2]
    report = engine_from_onnx(
        exported("portable", 18), tmp_path / "model.engine", served, targets=["SM86", "SM120"]
    )
    assert report.layers > 100
    assert (tmp_path / "model.engine").stat().st_size == report.plan_bytes


@pytest.mark.parametrize("name", ["fp16", "bf16", "int8"])
def test_an_engine_builds_in_lower_precision(loaded, exported, tmp_path, name):
    """TensorRT moves the casts of the heads' inputs into the loops of RoIAlign that compute them."""
    pytest.importorskip("tensorrt_rtx")
    low, images = tmp_path / "low.onnx", sorted((ROOT / "demo/shapes/val").glob("*.jpg"))[:2]
    config = compose("precision", ["detector=mask_rcnn_shapes", f"precision={name}"])
    opset = config.precision.opset
    convert_precision(exported("portable", 18), low, name, rule(config), images, opset=opset)
    served = profile(compose("engine", ["detector=mask_rcnn_shapes"]), loaded.spec.preprocess)
    report = engine_from_onnx(low, tmp_path / "model.engine", served, targets=["SM89"])
    assert report.shares[name] > 0


@pytest.fixture(scope="module")
def scores(loaded, exported):
    """Box and mask AP on the demo's 200 images, by runtime."""
    dataset = CocoDataset(ROOT / "demo/shapes/val", ROOT / "demo/shapes/annotations/instances_val.json")
    runners = {
        "torch": TorchRunner(loaded.network, loaded.spec),
        "onnxruntime": OnnxRuntimeRunner(exported("portable", 18)),
    }
    scores = {}
    for name, runner in runners.items():
        with Detector(runner.__enter__()) as detector:
            by_kind = run_scores(run_on_data_set(detector, dataset, batch=1, warmup=0), dataset)
        scores[name] = {kind: by_kind[kind].stats["AP"] for kind in ("bbox", "segm")}
    return scores


@pytest.mark.parametrize("kind", MMDETECTION)
def test_ap_is_that_of_mmdetection(scores, kind):
    assert scores["torch"][kind] == pytest.approx(MMDETECTION[kind], abs=0.1)


@pytest.mark.parametrize("kind", MMDETECTION)
def test_ap_of_onnxruntime_is_that_of_pytorch(scores, kind):
    assert scores["onnxruntime"][kind] == pytest.approx(scores["torch"][kind], abs=0.02)
