import numpy as np
import pytest
from pycocotools import mask as rle

from benchmarks.masks import COUNT, HEIGHT, WIDTH, by_grid_sample, drawn_boxes, drawn_maps
from samebox.coco.results import encode_masks
from samebox.postprocess.masks import paste_sampled


@pytest.mark.parametrize("share", [(0.1, 0.6), (1.0, 1.0)])
def test_boxes_lie_in_the_image_and_have_the_stated_sides(share):
    boxes = drawn_boxes(*share)
    assert boxes.shape == (COUNT, 4)
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] <= [WIDTH, HEIGHT]).all()
    sides = (boxes[:, 2:] - boxes[:, :2]) / [WIDTH, HEIGHT]
    assert share[0] - 1e-6 <= sides.min() <= sides.max() <= share[1] + 1e-6


def test_both_methods_give_the_same_codes():
    probabilities, boxes = drawn_maps(28), drawn_boxes(0.1, 0.6)
    ours = encode_masks(paste_sampled(probabilities, boxes, HEIGHT, WIDTH))
    theirs = rle.encode(by_grid_sample(probabilities, boxes))
    equal = [code["counts"].encode() == other["counts"] for code, other in zip(ours, theirs, strict=True)]
    assert np.mean(equal) >= 0.98
    assert np.mean(rle.area(theirs)) > 5000
