"""Mask R-CNN in every form that the pipeline makes of it, by the demo's trained checkpoint."""

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
# What MMDetection 3.3.0 itself measures for this checkpoint on the demo's 200 images, in points
MMDETECTION = {"bbox": 50.183, "segm": 47.8446}
CLOSE = {"box": 0.05, "score": 1e-4, "mask": 0.99}
CLOSE_ANCHORS = "anchors of an object whose scores are 1 to within a rounding"
CROWD = (4, 6)  # rows and columns of images in one, which hold more objects than a network gives


@pytest.fixture(scope="module")
def loaded():
    return load_network(
        compose("export", ["detector=mask_rcnn_shapes"]), ROOT / "demo/checkpoints/mask_rcnn_shapes.pth"
    )


@pytest.fixture(scope="module")
def asked(loaded, demo_images):
    """What the network is asked, by name."""
    tile = demo_images[0][:144, :176]
    crowd = np.tile(tile, (*CROWD, 1)).transpose(2, 0, 1)[None].astype(np.float32)
    size = np.array([crowd.shape[2:]])
    close = read_image(ROOT / "demo/shapes/val/000020000141.jpg")
    return {
        "an image": loaded.spec.preprocess(demo_images[:1]),
        CLOSE_ANCHORS: loaded.spec.preprocess([close]),
        "three images of different sizes": loaded.spec.preprocess(demo_images[1:4], (384, 384)),
        "more objects than are given": Batch(crowd, size, size),
    }


def answered(runner, batch):
    with runner:
        return runner(batch.inputs())


@pytest.fixture(scope="module")
def expected(loaded, asked):
    return {name: answered(TorchRunner(loaded.network, loaded.spec), batch) for name, batch in asked.items()}


@pytest.fixture(scope="module")
def exported(loaded, tmp_path_factory):
    """The file by lowering and opset. Tracing takes long: once for each set of operators."""
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


def assert_alike(loaded, batch, reference, found):
    for ours, theirs in zip(
        *(detections_from_outputs(side, batch, loaded.spec.class_names) for side in (reference, found)),
        strict=True,
    ):
        compared = agreement(ours, theirs)
        assert compared.reference > 0
        assert compared.share(**CLOSE) == 1, str(compared)


@pytest.mark.parametrize(("lowering", "opset"), FORMS)
class TestEveryForm:
    def test_is_of_the_operators_asked_for(self, exported, lowering, opset):
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
        "asking",
        ["an image", CLOSE_ANCHORS, "three images of different sizes", "more objects than are given"],
    )
    def test_finds_what_pytorch_finds(self, loaded, exported, asked, expected, lowering, opset, asking):
        found = answered(OnnxRuntimeRunner(exported(lowering, opset)), asked[asking])
        assert_alike(loaded, asked[asking], expected[asking], found)
        spare = found["scores"] == 0
        assert not any(value[spare].any() for value in found.values())
        if asking == "more objects than are given":
            assert not spare.any()

    def test_an_image_of_a_batch_gives_what_it_gives_alone(self, loaded, exported, asked, lowering, opset):
        batch = asked["three images of different sizes"]
        runner = OnnxRuntimeRunner(exported(lowering, opset))
        together = answered(runner, batch)
        for index in range(3):
            alone = Batch(*(field[index : index + 1] for field in vars(batch).values()))
            mine = {name: value[index : index + 1] for name, value in together.items()}
            assert_alike(loaded, alone, answered(runner, alone), mine)

    def test_where_there_is_nothing_it_finds_nothing(self, exported, asked, lowering, opset, tmp_path):
        """The background certain: no region is above the threshold, and loops have nothing to do."""
        model = onnx.load(exported(lowering, opset))
        (bias,) = (i for i in model.graph.initializer if i.name.endswith("fc_cls.bias"))
        certain = np.append(np.zeros(bias.dims[0] - 1, np.float32), np.float32(1e4))
        bias.CopyFrom(numpy_helper.from_array(certain, bias.name))
        onnx.save(model, tmp_path / "nothing.onnx")
        found = answered(
            OnnxRuntimeRunner(tmp_path / "nothing.onnx"), asked["three images of different sizes"]
        )
        assert found["masks"].shape == (3, 100, 28, 28)
        assert not any(value.any() for value in found.values())


def test_an_engine_of_any_batch_up_to_four_and_any_shape(loaded, exported, tmp_path):
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
def test_an_engine_in_another_precision(loaded, exported, tmp_path, name):
    """TensorRT moves the casts to a precision up into the loops of RoIAlign, whose results the heads take."""
    pytest.importorskip("tensorrt_rtx")
    low, pictures = tmp_path / "low.onnx", sorted((ROOT / "demo/shapes/val").glob("*.jpg"))[:2]
    config = compose("precision", ["detector=mask_rcnn_shapes", f"precision={name}"])
    opset = config.precision.opset
    convert_precision(exported("portable", 18), low, name, rule(config), pictures, opset=opset)
    served = profile(compose("engine", ["detector=mask_rcnn_shapes"]), loaded.spec.preprocess)
    report = engine_from_onnx(low, tmp_path / "model.engine", served, targets=["SM89"])
    assert report.shares[name] > 0


@pytest.fixture(scope="module")
def scores(loaded, exported):
    """Box and mask AP on the demo's 200 images, by what ran the network."""
    dataset = CocoDataset(ROOT / "demo/shapes/val", ROOT / "demo/shapes/annotations/instances_val.json")
    runners = {
        "torch": TorchRunner(loaded.network, loaded.spec),
        "onnxruntime": OnnxRuntimeRunner(exported("portable", 18)),
    }
    found = {}
    for name, runner in runners.items():
        with Detector(runner.__enter__()) as detector:
            by_kind = run_scores(run_on_data_set(detector, dataset, batch=1, warmup=0), dataset)
        found[name] = {kind: by_kind[kind].stats["AP"] for kind in ("bbox", "segm")}
    return found


@pytest.mark.parametrize("kind", MMDETECTION)
def test_the_ap_is_what_the_original_framework_measures(scores, kind):
    assert scores["torch"][kind] == pytest.approx(MMDETECTION[kind], abs=0.1)


@pytest.mark.parametrize("kind", MMDETECTION)
def test_onnxruntime_loses_nothing(scores, kind):
    assert scores["onnxruntime"][kind] == pytest.approx(scores["torch"][kind], abs=0.02)
