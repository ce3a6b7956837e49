"""Cases computed by hand. Digits are segments, 0 is void."""

import numpy as np
import pytest
from tiny_panoptic import IMAGE, grid, panoptic_set

from samebox.coco.panoptic import panoptic_result
from samebox.core.errors import SameboxError
from samebox.postprocess.panoptic import Panoptic, Segment
from samebox.scoring.panoptic_quality import panoptic_scores

THINGS = {1: "disc", 3: "ring"}
STUFF = {8: "sky", 9: "water"}


def scores(folder, truth, categories, found, of_found, crowds=(), image_ids=(IMAGE,)):
    """The scores, from rows of digits and the category of each digit, of the truth and of the result.

    Each pixel's class is that of its predicted segment, or things if it has none.
    """
    dataset = panoptic_set(folder, grid(*truth), categories, crowds)
    if found is None:
        return panoptic_scores(dataset, [], image_ids)
    digits = np.array([[int(digit) for digit in row] for row in found], np.int32)
    segments = tuple(
        Segment(digit, (THINGS | STUFF)[category], category in THINGS) for digit, category in of_found.items()
    )
    classes = np.zeros(digits.shape, np.uint8)
    for digit, category in of_found.items():
        if category in STUFF:
            classes[digits == digit] = 1 + list(STUFF).index(category)
    result = panoptic_result(IMAGE, Panoptic(digits, segments, classes, tuple(STUFF.values())), dataset)
    return panoptic_scores(dataset, [result], image_ids)


def test_exact_segments_score_100(tmp_path):
    rows = ["1122", "1122", "3333"]
    both = scores(tmp_path, rows, {1: 1, 2: 3, 3: 8}, rows, {1: 1, 2: 3, 3: 8})
    assert both["panoptic"].stats == dict.fromkeys(
        [f"{name}{whose}" for whose in ("", "_things", "_stuff") for name in ("PQ", "SQ", "RQ")], 100
    )
    assert both["panoptic"].per_class == {"disc": 100, "ring": 100, "sky": 100, "water": None}
    assert both["semantics"].stats == {"mIoU": 100}
    assert both["semantics"].per_class == {"things": 100, "sky": 100, "water": None}


def test_an_object_split_in_two(tmp_path):
    """Parts of eight and two of ten pixels: one matches with IoU 0.8, the other is false; sky is exact."""
    truth, found = ["1111111111", "2222222222"], ["1111111133", "2222222222"]
    stats = scores(tmp_path, truth, {1: 1, 2: 8}, found, {1: 1, 3: 1, 2: 8})["panoptic"].stats
    assert stats["PQ_things"] == pytest.approx(100 * 0.8 / 1.5)
    assert stats["SQ_things"] == pytest.approx(80)
    assert stats["RQ_things"] == pytest.approx(100 / 1.5)
    assert stats["PQ"] == pytest.approx((100 * 0.8 / 1.5 + 100) / 2)
    assert stats["PQ_stuff"] == 100


@pytest.mark.parametrize(("found", "quality"), [("1111112222", 100 * 6 / 10), ("1111122222", 0)])
def test_an_iou_of_exactly_one_half_is_no_match(tmp_path, found, quality):
    """Six or five of a disc's ten pixels are predicted as disc, the rest as sky."""
    stats = scores(tmp_path, ["1111111111"], {1: 1}, [found], {1: 1, 2: 8})["panoptic"].stats
    assert stats["PQ_things"] == pytest.approx(quality)
    assert stats["PQ_stuff"] == 0  # a false segment of a class that does not occur


def test_void_counts_neither_in_a_union_nor_as_false(tmp_path):
    """The predicted disc has the disc's six pixels and four void ones: all that are not void are right.

    The predicted ring is void in five of eight pixels, so it is not false; the sky in four of eight, so it
    is.
    """
    truth, found = ["1111110000", "0000022200", "0000222200"], ["1111111111", "3333333300", "4444444400"]
    stats = scores(tmp_path, truth, {1: 1, 2: 9}, found, {1: 1, 3: 3, 4: 8})["panoptic"]
    assert stats.per_class == {"disc": 100, "ring": None, "sky": 0, "water": 0}


def test_a_crowd_is_neither_missed_nor_false(tmp_path):
    """Digit 2 is a crowd of rings: a ring inside is ignored; a ring half outside, or a disc, is false."""
    truth = ["1122222222", "1122222222"]
    inside = scores(tmp_path / "a", truth, {1: 1, 2: 3}, ["1122220000", "1100000000"], {1: 1, 2: 3}, [2])
    assert inside["panoptic"].per_class == {"disc": 100, "ring": None, "sky": None, "water": None}
    across = scores(tmp_path / "b", truth, {1: 1, 2: 3}, ["2222000000", "0000000000"], {2: 3}, [2])
    assert across["panoptic"].per_class == {"disc": 0, "ring": 0, "sky": None, "water": None}
    other = scores(tmp_path / "c", truth, {1: 1, 2: 3}, ["1122220000", "1100000000"], {1: 1, 2: 1}, [2])
    assert other["panoptic"].per_class["disc"] == pytest.approx(100 / 1.5)


def test_the_right_pixels_with_the_wrong_class(tmp_path):
    both = scores(tmp_path, ["1122"], {1: 1, 2: 8}, ["1122"], {1: 3, 2: 8})
    assert both["panoptic"].per_class == {"disc": 0, "ring": 0, "sky": 100, "water": None}
    assert both["panoptic"].stats["PQ"] == pytest.approx(100 / 3)
    assert both["semantics"].stats == {"mIoU": 100}  # things are one class


def test_mean_iou_of_pixel_classes(tmp_path):
    """Sky: 3 of 4 pixels, and 1 of water. Water: 2 of 3. Things: 2 of 2, and 1 of sky."""
    truth, found = ["11222233300"], ["11122223355"]
    both = scores(tmp_path, truth, {1: 1, 2: 8, 3: 9}, found, {1: 1, 2: 8, 3: 9, 5: 9})
    assert both["semantics"].per_class == pytest.approx({"things": 200 / 3, "sky": 300 / 5, "water": 200 / 3})
    assert both["semantics"].stats["mIoU"] == pytest.approx((200 / 3 + 60 + 200 / 3) / 3)


def test_an_image_without_a_result_scores_zero(tmp_path):
    both = scores(tmp_path, ["1122"], {1: 1, 2: 8}, None, {})
    assert both["panoptic"].stats["PQ"] == 0
    assert both["semantics"].per_class == {"things": 0, "sky": 0, "water": None}


def test_no_images_give_no_scores(tmp_path):
    both = scores(tmp_path, ["1122"], {1: 1, 2: 8}, None, {}, image_ids=())
    assert set(both["panoptic"].stats.values()) == set(both["semantics"].stats.values()) == {None}


def test_a_png_of_another_size_is_an_error(tmp_path):
    with pytest.raises(SameboxError, match="image 7: its panoptic PNG is 1 by 4, the image 2 by 4 pixels"):
        scores(tmp_path, ["1122"], {1: 1, 2: 8}, ["1122", "1122"], {1: 1, 2: 8})
