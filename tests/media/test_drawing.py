from dataclasses import replace

import numpy as np
import pytest

from samebox.media.drawing import class_colour, draw
from samebox.postprocess.detections import Detections
from samebox.postprocess.keypoints import SKELETON
from samebox.postprocess.panoptic import Panoptic, Segment

RED, GREEN, YELLOW = (255, 0, 0), (0, 255, 0), (255, 255, 0)


def blank(height=240, width=320):
    return np.full((height, width, 3), 100, np.uint8)


def detections(*boxes, scores=None, labels=None, masks=None):
    return Detections(
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        scores=np.array(scores or [0.9] * len(boxes), np.float32),
        labels=np.array(labels or [0] * len(boxes), np.int64),
        class_names=("disc", "ring"),
        masks=masks,
    )


def test_the_image_is_not_modified():
    image = blank()
    drawn = draw(image, detections([20, 60, 120, 160]))
    assert (image == 100).all()
    assert (drawn.shape, drawn.dtype) == (image.shape, np.uint8)


def test_a_box_is_outlined_in_the_given_colour():
    drawn = draw(blank(), detections([20, 60, 120, 160]), colour=RED)
    for x, y in [(20, 110), (120, 110), (70, 160)]:
        assert tuple(drawn[y, x]) == RED
    assert (drawn[80:150, 40:110] == 100).all()


def test_each_class_has_its_own_colour_by_default():
    drawn = draw(blank(), detections([20, 60, 120, 160], [180, 60, 280, 160], labels=[0, 1]))
    assert tuple(drawn[110, 20]) == class_colour(0)
    assert tuple(drawn[110, 180]) == class_colour(1)
    colours = {class_colour(label) for label in range(80)}
    assert len(colours) == 80


def test_the_threshold_is_the_lowest_score_drawn():
    low = detections([20, 60, 120, 160], scores=[0.5])
    assert (draw(blank(), low, threshold=0.51) == 100).all()
    assert not (draw(blank(), low, threshold=0.5) == 100).all()


def test_an_image_without_detections_is_unchanged():
    assert (draw(blank(), detections()) == 100).all()


def test_the_highest_score_is_on_top():
    both = detections([20, 60, 120, 160], [20, 60, 120, 160], scores=[0.9, 0.4], labels=[0, 1])
    for order in (both, detections(*both.boxes, scores=[0.4, 0.9], labels=[1, 0])):
        assert tuple(draw(blank(), order)[110, 20]) == class_colour(0)


def test_a_mask_is_blended_only_into_its_own_pixels():
    mask = np.zeros((1, 240, 320), bool)
    mask[0, 100:140, 60:100] = True
    drawn = draw(blank(), detections([20, 60, 120, 160], masks=mask), colour=GREEN)
    assert tuple(drawn[120, 80]) == (55, 170, 55)  # 0.55 * 100 + 0.45 * (0, 255, 0)
    assert tuple(drawn[120, 110]) == (100, 100, 100)


def test_a_mask_and_its_holes_are_outlined():
    mask = np.zeros((1, 240, 320), bool)
    mask[0, 90:150, 50:110] = True
    mask[0, 110:130, 70:90] = False
    for in_memory in (mask, np.asfortranarray(mask)):
        drawn = draw(blank(), detections([20, 60, 120, 160], masks=in_memory), colour=GREEN)
        for x, y in [(50, 120), (109, 120), (80, 90), (80, 149), (69, 120), (90, 120)]:
            assert tuple(drawn[y, x]) == GREEN
        assert tuple(drawn[120, 80]) == (100, 100, 100)


@pytest.mark.parametrize("fill", [False, True])
def test_a_full_or_empty_mask_is_drawn(fill):
    masks = np.full((1, 240, 320), fill)
    drawn = draw(blank(), detections([20, 60, 120, 160], masks=masks), colour=GREEN)
    assert tuple(drawn[200, 200]) == ((55, 170, 55) if fill else (100, 100, 100))


def test_names_are_drawn_above_masks_and_boxes():
    masks = np.zeros((2, 240, 320), bool)
    masks[1] = True
    named = detections([20, 60, 120, 160], [5, 50, 300, 230], scores=[0.4, 0.9], labels=[0, 1], masks=masks)
    field = draw(blank(), named)[51:58, 24:60].reshape(-1, 3)
    assert (field == class_colour(0)).all(-1).mean() > 0.2


def name_height(height):
    """The height in pixels of the name of a box in the middle of an image of the given height."""
    box = detections([height // 4, height // 2, height, height * 3 // 4])
    drawn = draw(blank(height, height * 4 // 3), box, colour=RED)
    return (drawn[: height // 2, height // 4 + 2] != 100).any(-1).sum()


def test_letters_and_lines_scale_with_the_image():
    rows = [name_height(height) for height in (120, 240, 1080, 2160)]
    assert rows[0] == rows[1] < 20 < rows[2] < rows[3] < 80
    thick = draw(blank(2160, 2880), detections([200, 900, 1200, 1600]), colour=RED)[1200, :600]
    assert 5 < (thick == RED).all(-1).sum() < 12


def test_the_name_is_above_the_box_or_inside_it_at_the_upper_edge_of_the_image():
    above = draw(blank(), detections([20, 60, 120, 160]), colour=RED)
    assert (above[50:58, 22:60] != 100).any()
    inside = draw(blank(), detections([20, 2, 120, 160]), colour=RED)
    assert (inside[5:15, 25:60] != 100).any()


@pytest.mark.parametrize(
    "box", [[-50, -50, 20, 20], [310, 230, 400, 300], [-10, -10, 500, 500], [5, 5, 5, 5]]
)
def test_boxes_beyond_the_edge_are_clipped(box):
    drawn = draw(blank(), detections(box))
    assert drawn.shape == (240, 320, 3)
    assert (drawn != 100).any()


def test_text_is_dark_on_light_colours_and_light_on_dark_ones():
    box = detections([20, 60, 120, 160])
    light = draw(blank(), box, colour=(255, 255, 0))[42:60, 20:110].reshape(-1, 3)
    dark = draw(blank(), box, colour=(0, 0, 150))[42:60, 20:110].reshape(-1, 3)
    assert light.min(0).tolist() == [0, 0, 0]
    assert dark.max(0).min() > 200


def with_keypoints(points):
    """One box with keypoints at the given places x y."""
    scored = np.array([[*place, 0.7] for place in points], np.float32)[None]
    return replace(detections([20, 60, 220, 220]), keypoints=scored)


def test_a_keypoint_is_a_dot_with_a_white_ring_on_its_pixel():
    drawn = draw(blank(), with_keypoints([(60.9, 100.2), (150, 180)]), colour=GREEN)
    assert tuple(drawn[100, 60]) == tuple(drawn[180, 150]) == GREEN
    assert tuple(drawn[100, 62]) == (255, 255, 255)
    assert tuple(drawn[140, 105]) == (100, 100, 100)  # no limb between them: they are not the 17 of a person


def test_the_keypoints_of_a_person_are_joined_by_limbs():
    points = [(40 + 40 * (i % 5), 80 + 30 * (i // 5)) for i in range(17)]
    person = draw(blank(), with_keypoints(points), colour=GREEN)
    for one, other in SKELETON:
        x, y = (np.array(points[one]) + points[other]) // 2
        assert (person[y - 1 : y + 2, x - 1 : x + 2] == GREEN).all(-1).any()


def test_the_dots_are_smaller_in_a_small_box():
    one = with_keypoints([(300, 400)])
    large, small = (
        draw(blank(1000, 1400), replace(one, boxes=np.array([box], np.float32)), colour=YELLOW)
        for box in ([20, 60, 900, 900], [280, 380, 340, 440])
    )
    white = [(drawn[350:450, 250:350] == 255).all(-1).sum() for drawn in (large, small)]
    assert 0 < 3 * white[1] < white[0]


def test_keypoints_beyond_the_edge_are_clipped():
    drawn = draw(blank(), with_keypoints([(-500, 40)] * 16 + [(160, 120)]), colour=GREEN)
    assert drawn.shape == (240, 320, 3)
    assert tuple(drawn[120, 160]) == GREEN


def segmented(ids, *segments):
    classes = np.zeros((240, 320), np.uint8)
    return replace(detections(), panoptic=Panoptic(ids, segments, classes, ("sky", "field", "water")))


def test_stuff_is_tinted_in_its_own_colour_and_named_in_its_middle():
    ids = np.zeros((240, 320), np.int32)
    ids[:200], ids[200:, :100] = 7, 9
    drawn = draw(blank(), segmented(ids, Segment(7, "field", False), Segment(9, "disc", True, 0.9)))
    tinted = 0.55 * 100 + 0.45 * np.array(class_colour(len(detections().class_names) + 1))
    np.testing.assert_allclose(drawn[150, 300], tinted, atol=0.6)
    assert (drawn[210:] == 100).all()  # neither an object nor a pixel without a segment is tinted
    rows, _ = np.nonzero((drawn[10:190, 10:310] != drawn[150, 300]).any(-1))  # within the outline
    assert len(rows) > 100
    assert abs(rows.mean() + 10 - 100) < 15


def test_stuff_of_a_single_pixel_is_drawn():
    ids = np.zeros((240, 320), np.int32)
    ids[239, 319] = 1
    assert not (draw(blank(), segmented(ids, Segment(1, "sky", False))) == 100).all()
