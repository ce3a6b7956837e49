import re

import cv2
import demo_forms
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from tiny_onnx import tiny_file, tiny_model

from samebox.core.errors import NotHere, SameboxError
from samebox.detector import Detector, load, padded_batch
from samebox.evaluation.agreement import agreement
from samebox.record.preprocess import Batch, read_image
from samebox.runners.torch import TorchRunner

CLASSES = ("disc", "square", "triangle", "star", "ring", "cross")


@pytest.fixture(scope="module")
def detector():
    with load(demo_forms.dynamic()) as detector:
        yield detector


@pytest.fixture(scope="module")
def fixed():
    with load(demo_forms.fixed()[0]) as detector:
        yield detector


def assert_same(detections, expected, boxes=1e-3, scores=1e-5):
    """The same detections in the same order."""
    np.testing.assert_array_equal(detections.labels, expected.labels)
    np.testing.assert_allclose(detections.boxes, expected.boxes, atol=boxes)
    np.testing.assert_allclose(detections.scores, expected.scores, atol=scores)


def test_the_file_alone_is_a_detector(detector, demo_images):
    detections = detector(demo_images[0])
    height, width = demo_images[0].shape[:2]
    assert detections.class_names == CLASSES
    assert len(detections) > 10
    assert (np.diff(detections.scores) <= 0).all()
    assert detections.scores[0] > 0.5 > detections.scores[-1] > 0
    assert (detections.boxes >= 0).all()
    assert (detections.boxes <= np.array([width, height, width, height]) + 1e-3).all()
    assert (detections.boxes[:, 2:] > detections.boxes[:, :2]).all()


def test_a_path_and_an_array_give_the_same_detections(detector):
    path = demo_forms.IMAGES / "000020000000.jpg"
    from_array = detector(read_image(path))
    assert_same(detector(path), from_array, 0, 0)
    assert_same(detector(str(path)), from_array, 0, 0)


def test_the_batch_does_not_change_detections_on_the_same_canvas(detector, demo_images):
    canvas = (384, 384)
    together = detector.batch(demo_images, canvas)
    assert len({image.shape for image in demo_images}) > 3
    assert len(together) == len(demo_images) == 8
    for image, detections in zip(demo_images, together, strict=True):
        assert_same(detections, detector.batch([image], canvas)[0])


def test_an_empty_batch_is_an_empty_list(detector):
    assert detector.batch([]) == []


def test_pytorch_and_onnxruntime_detect_the_same(detector, shapes, demo_images):
    with Detector(TorchRunner(shapes.network, shapes.spec).__enter__()) as reference:
        for expected, ours in zip(reference.batch(demo_images), detector.batch(demo_images), strict=True):
            assert agreement(expected, ours).share(box=0.01, score=1e-4) == 1


def test_a_fixed_batch_serves_any_number_of_images(fixed, demo_images):
    assert fixed.runner.batch == demo_forms.BATCH
    together = fixed.batch(demo_images[:3])  # a full batch, and a padded one
    assert len(together) == 3
    for image, detections in zip(demo_images, together, strict=False):
        assert_same(detections, fixed(image))


def test_pytorch_detects_the_same_on_a_fixed_canvas(fixed, demo_images):
    demo = demo_forms.loaded("export.shape={}x{}".format(*demo_forms.CANVAS))
    assert fixed.spec.preprocess == demo.spec.preprocess
    with Detector(TorchRunner(demo.network, demo.spec).__enter__()) as reference:
        for image in demo_images[:3]:
            assert agreement(reference(image), fixed(image)).share(box=0.01, score=1e-4) == 1


@pytest.mark.parametrize("shape", [(600, 90), (90, 900), (1024, 1024)])
def test_an_image_larger_than_a_fixed_canvas_is_resized_to_fit(fixed, shape):
    detections = fixed(enlarged(*shape))
    assert len(detections) > 0
    assert (detections.boxes <= np.array([shape[1], shape[0]] * 2) + 1e-2).all()


def enlarged(height, width):
    return cv2.resize(read_image(demo_forms.IMAGES / "000020000000.jpg"), (width, height))


def test_an_image_that_does_not_fit_the_canvas_is_an_error(detector, demo_images):
    with pytest.raises(SameboxError, match="after the resize exceeds the canvas 64x64"):
        detector.batch(demo_images[:1], (64, 64))


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (2, 2), (3000, 20)])
def test_images_of_extreme_shapes_are_accepted(detector, shape):
    detections = detector(np.full((*shape, 3), 128, np.uint8))
    assert (detections.boxes <= np.array([shape[1], shape[0]] * 2) + 1e-3).all()


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((0, 10, 3), np.uint8), r"an image of shape \(0, 10, 3\) has no pixels"),
        (np.zeros((10, 10, 3), np.float32), "an HxWx3 uint8 RGB array, not float32"),
        (np.zeros((10, 10), np.uint8), r"an HxWx3 uint8 RGB array, not uint8 of shape \(10, 10\)"),
        (np.zeros((10, 10, 4), np.uint8), r"not uint8 of shape \(10, 10, 4\)"),
        (np.zeros((3, 10, 10), np.uint8), r"not uint8 of shape \(3, 10, 10\)"),
        (np.zeros((10, 10, 3), np.uint16), "not uint16"),
    ],
)
def test_an_array_that_is_no_image_is_an_error(detector, image, message):
    with pytest.raises(SameboxError, match=message):
        detector(image)


@pytest.mark.parametrize("content", [b"", b"a text", b"\xff\xd8\xff\xe0 begins like a JPEG"])
def test_a_file_that_is_no_image_is_named(detector, tmp_path, content):
    path = tmp_path / "image.jpg"
    path.write_bytes(content)
    with pytest.raises(SameboxError, match=r"image\.jpg: not an image that OpenCV can decode"):
        detector(path)
    with pytest.raises(SameboxError, match=r"none\.jpg: no such image"):
        detector(tmp_path / "none.jpg")


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.95])
def test_a_truncated_jpeg_is_read_or_an_error_of_one_line(detector, tmp_path, share):
    whole = (demo_forms.IMAGES / "000020000000.jpg").read_bytes()
    path = tmp_path / "half.jpg"
    path.write_bytes(whole[: int(len(whole) * share)])
    try:
        outcome = f"{path}: {len(detector(path))} detections"
    except SameboxError as error:
        outcome = str(error)
    assert re.fullmatch(rf"{re.escape(str(path))}: (\d+ detections|not an image that .*)", outcome)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("colours", [1, 3, 4])
def test_every_kind_of_png_is_read(detector, tmp_path, kind, colours):
    image = cv2.imread(str(demo_forms.IMAGES / "000020000000.jpg"))
    grey = image.mean(2, keepdims=True).astype(np.uint8)
    opaque = np.concatenate([image, np.full_like(grey, 255)], 2)
    pixels = {1: grey, 3: image, 4: opaque}[colours].astype(kind) * (257 if kind is np.uint16 else 1)
    cv2.imwrite(str(tmp_path / "image.png"), pixels.astype(kind))
    expected = np.repeat(grey, 3, 2) if colours == 1 else image[..., ::-1]
    detections = detector(tmp_path / "image.png")
    assert agreement(detector(np.ascontiguousarray(expected)), detections).share(box=0.5, score=0.02) > 0.95


def test_safetensors_is_named_as_such(tmp_path):
    (tmp_path / "net.safetensors").write_bytes(b"")
    with pytest.raises(SameboxError, match="does not read safetensors files yet"):
        load(tmp_path / "net.safetensors")


def test_the_suffix_determines_the_runtime(tmp_path):
    for name in ("model.bin", "model", "model.trt"):
        with pytest.raises(SameboxError, match=rf"{name}: its suffix is not one of \.onnx, \.engine, "):
            load(tmp_path / name)
    with pytest.raises(SameboxError, match="runtime 'openvino' is not one of onnxruntime, tensorrt, torch"):
        load(demo_forms.dynamic(), runtime="openvino")
    renamed = tmp_path / "model.bin"
    renamed.symlink_to(demo_forms.dynamic())
    with load(renamed, runtime="onnxruntime") as detector:
        assert detector.spec.class_names == CLASSES


@pytest.mark.parametrize("name", ["model.onnx", "model.engine"])
def test_a_file_with_a_record_takes_no_detector(tmp_path, name):
    with pytest.raises(SameboxError, match=f"{name}: its record describes the detector; leave out .* 'd'"):
        load(tmp_path / name, detector="d")


@pytest.mark.parametrize("name", ["none.onnx", "none.engine"])
def test_an_absent_file_is_named(tmp_path, name):
    with pytest.raises(SameboxError, match=f"{name}: no such file"):
        load(tmp_path / name)


def test_an_onnx_file_of_another_program_is_an_error(tmp_path):
    model = tiny_model()
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "theirs.onnx")
    with pytest.raises(SameboxError, match=r"theirs\.onnx: has no samebox metadata; export it"):
        load(tmp_path / "theirs.onnx")


def test_a_damaged_record_is_an_error(tmp_path):
    with pytest.raises(SameboxError, match=r"tiny\.onnx: .*metadata") as error:
        load(tiny_file(tmp_path / "tiny.onnx"))
    assert "\n" not in str(error.value)


def test_a_truncated_file_is_an_error(tmp_path):
    content = demo_forms.dynamic().read_bytes()
    (tmp_path / "half.onnx").write_bytes(content[: len(content) // 2])
    with pytest.raises(SameboxError, match=r"half\.onnx: ONNX Runtime cannot load it") as error:
        load(tmp_path / "half.onnx")
    assert "\n" not in str(error.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is an NVIDIA GPU here")
def test_without_a_gpu_cuda_is_not_available():
    with pytest.raises(NotHere, match=r"^CUDAExecutionProvider: this machine has no NVIDIA GPU$"):
        load(demo_forms.dynamic(), device="cuda")


@pytest.mark.skipif(
    not torch.cuda.is_available() or "CUDAExecutionProvider" not in onnxruntime.get_available_providers(),
    reason="no NVIDIA GPU here",
)
def test_detections_on_a_gpu_are_the_cpus(detector, demo_images):
    with load(demo_forms.dynamic(), device="cuda") as on_gpu:
        for image in demo_images[:3]:
            assert agreement(detector(image), on_gpu(image)).share(box=0.5, score=0.01) > 0.98


def test_a_batch_is_padded_with_its_first_image():
    images = np.arange(2, dtype=np.float32)[:, None, None, None] * np.ones((1, 3, 2, 2), np.float32)
    batch = Batch(images, np.array([[2, 2], [1, 1]]), np.array([[4, 4], [2, 2]]))
    padded = padded_batch(batch, 4)
    assert padded.images[:, 0, 0, 0].tolist() == [0, 1, 0, 0]
    assert padded.sizes.tolist() == [[2, 2], [1, 1], [2, 2], [2, 2]]
    assert padded.originals.tolist() == [[4, 4], [2, 2], [4, 4], [4, 4]]
    assert padded_batch(batch, 2) is batch
    assert padded_batch(batch, 1) is batch
