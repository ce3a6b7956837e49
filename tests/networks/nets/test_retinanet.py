import numpy as np
import pytest
import torch

from samebox.graph.output_comparison import Tolerance, compare_outputs
from samebox.networks.blocks.anchors import Anchors
from samebox.networks.nets.retinanet import RetinaHead
from samebox.record.preprocess import Batch

# With another shape of batch, convolutions sum in another order
CLOSE = Tolerance(score=1e-5, box=1e-3)
CANVAS = (384, 384)


def run(loaded, batch):
    with torch.inference_mode():
        inputs = {name: torch.from_numpy(array) for name, array in batch.inputs().items()}
        return {name: output.numpy() for name, output in loaded.network(**inputs).items()}


def row(outputs, index):
    return {name: output[index : index + 1] for name, output in outputs.items()}


@pytest.fixture(scope="module")
def mixed(shapes, demo_images):
    """Four images of different sizes on one canvas."""
    batch = shapes.spec.preprocess(demo_images[:4], canvas=CANVAS)
    assert len({tuple(size) for size in batch.sizes}) == 4
    return batch


@pytest.fixture(scope="module")
def outputs(shapes, mixed):
    return run(shapes, mixed)


def test_output_shapes_and_ranges(outputs):
    assert {name: (value.shape, value.dtype) for name, value in outputs.items()} == {
        "boxes": ((4, 100, 4), np.float32),
        "scores": ((4, 100), np.float32),
        "labels": ((4, 100), np.int64),
    }
    assert (np.diff(outputs["scores"]) <= 0).all()
    is_detection = outputs["scores"] > 0
    assert (is_detection.sum(1) > 50).all()
    assert (outputs["scores"][is_detection] > 0.05).all(), "a score does not exceed the threshold"
    assert set(np.unique(outputs["labels"][is_detection])) <= set(range(6))


def test_boxes_lie_within_their_own_image(outputs, mixed):
    for boxes, scores, (height, width) in zip(outputs["boxes"], outputs["scores"], mixed.sizes, strict=True):
        kept = boxes[scores > 0]
        assert (kept[:, :2] >= 0).all()
        assert (kept[:, 2:] <= [width, height]).all()
        assert (kept[:, 2:] > kept[:, :2]).all()
        assert not boxes[scores == 0].any()


@pytest.mark.parametrize("index", range(4))
def test_an_image_gives_the_same_results_in_a_batch_and_alone(shapes, demo_images, outputs, index):
    alone = run(shapes, shapes.spec.preprocess([demo_images[index]], canvas=CANVAS))
    assert compare_outputs(alone, row(outputs, index), CLOSE) == (alone["scores"] > 0).sum()


@pytest.mark.parametrize("order", [[3, 2, 1, 0], [1, 3, 0, 2]])
def test_the_order_of_images_in_the_batch_does_not_matter(shapes, demo_images, outputs, order):
    permuted = run(shapes, shapes.spec.preprocess([demo_images[i] for i in order], canvas=CANVAS))
    for place, index in enumerate(order):
        assert compare_outputs(row(outputs, index), row(permuted, place), CLOSE) > 50


def test_pixels_around_an_image_do_not_matter(shapes, mixed, outputs):
    images = np.random.default_rng(0).uniform(0, 255, mixed.images.shape).astype(np.float32)
    for canvas, image, (height, width) in zip(images, mixed.images, mixed.sizes, strict=True):
        canvas[:, :height, :width] = image[:, :height, :width]
    assert (images != mixed.images).any()
    surrounded = run(shapes, Batch(images, mixed.sizes, mixed.originals))
    for name, value in outputs.items():
        np.testing.assert_array_equal(surrounded[name], value)


@pytest.mark.parametrize(
    ("height", "width"), [(64, 64), (32, 32), (250, 333), (1, 1)], ids=lambda side: str(side)
)
def test_a_canvas_of_any_size(shapes, demo_images, height, width):
    """Levels may have fewer anchors than `nms_pre`, down to one cell; sides need not be multiples of 32."""
    outputs = run(shapes, shapes.spec.preprocess.on_canvas(height, width)([demo_images[0]]))
    assert outputs["boxes"].shape == (1, 100, 4)
    kept = outputs["boxes"][outputs["scores"] > 0]
    assert (kept >= 0).all()
    assert (kept <= [width, height, width, height]).all()


def test_an_image_without_area_has_no_detections(shapes, mixed):
    sizes = np.zeros_like(mixed.sizes)
    for value in run(shapes, Batch(mixed.images, sizes, mixed.originals)).values():
        assert not value.any()


def test_parameter_names_of_the_head():
    head = RetinaHead(8, 16, 2, 3, Anchors([8], [0.5, 1.0], [4.0]))
    shapes_by_name = {name: tuple(value.shape) for name, value in head.state_dict().items()}
    towers = {
        f"{tower}_convs.{i}.conv.{part}": shape
        for tower in ("cls", "reg")
        for i, inputs in enumerate((8, 16))
        for part, shape in (("weight", (16, inputs, 3, 3)), ("bias", (16,)))
    }
    assert shapes_by_name == towers | {
        "retina_cls.weight": (6, 16, 3, 3),
        "retina_cls.bias": (6,),
        "retina_reg.weight": (8, 16, 3, 3),
        "retina_reg.bias": (8,),
    }
