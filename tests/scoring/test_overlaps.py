import crowded
import numpy as np

from samebox.scoring.overlaps import overlaps


def entry(number, box, category=1, **changes):
    return {
        "id": number, "image_id": 2, "category_id": category, "bbox": box, "area": 50, "iscrowd": 0, **changes
    }  # fmt: skip


def result(box, score, category=1, image=2):
    return {"image_id": image, "category_id": category, "bbox": box, "score": score}


def test_boxes_are_sorted_by_score_and_crowds_come_last():
    ground_truth = crowded.ground_truth(
        [entry(1, [0, 0, 10, 10], 2, iscrowd=1, area=70), entry(2, [0, 0, 10, 5]), entry(3, [90, 90, 5, 5])]
    )
    results = [
        result([0, 0, 10, 10], 0.5, 2),
        result([5, 0, 10, 10], 0.9),
        result([0, 0, 10, 10], 0.5, 1),
        result([0, 0, 1, 1], 1.0, image=3),
    ]
    _, one, other = overlaps(ground_truth, results, [1, 2, 3])
    assert one.scores.tolist() == [0.9, 0.5, 0.5]
    assert one.categories.tolist() == [1, 1, 2]
    assert one.objects.tolist() == [1, 1, 2]
    assert one.areas.tolist() == [50, 50, 70]
    assert one.crowds.tolist() == [False, False, True]
    # the IoU with a crowd is an ordinary IoU, not the share of the box inside it
    np.testing.assert_allclose(one.iou, [[25 / 125, 0, 50 / 150], [0.5, 0, 1], [0.5, 0, 1]])
    assert (other.iou.shape, other.scores.tolist()) == ((1, 0), [1.0])


def test_an_image_without_boxes_and_objects():
    [empty] = overlaps(crowded.ground_truth([]), [], [1])
    assert (empty.iou.shape, empty.scores.shape, empty.crowds.dtype) == ((0, 0), (0,), np.bool_)
