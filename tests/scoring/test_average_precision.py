import copy
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as rle

from samebox.coco.dataset import CocoDataset, coco_index
from samebox.core.errors import SameboxError
from samebox.scoring.average_precision import STATS, coco_scores

SHAPES = Path(__file__).parents[2] / "demo/shapes"


@pytest.fixture(scope="module")
def dataset():
    return CocoDataset(SHAPES / "val", SHAPES / "annotations/instances_val.json")


@pytest.fixture
def perfect(dataset):
    """Every object that is not a crowd, as a detection."""
    kept = ("image_id", "category_id", "bbox", "segmentation")
    annotations = dataset.ground_truth.dataset["annotations"]
    return [
        {**{key: copy.deepcopy(entry[key]) for key in kept}, "score": 0.5}
        for entry in annotations
        if not entry["iscrowd"]
    ]


def ids(dataset):
    return [record.id for record in dataset.images]


def tiny(boxes):
    """One image and one class with the boxes (x, y, width, height) as objects."""
    return coco_index(
        {
            "images": [{"id": 1, "file_name": "a.jpg", "width": 100, "height": 100}],
            "categories": [{"id": 7, "name": "disc"}, {"id": 9, "name": "absent"}],
            "annotations": [
                {
                    "id": index,
                    "image_id": 1,
                    "category_id": 7,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                }
                for index, box in enumerate(boxes, 1)
            ],
        }
    )


def result(box, confidence):
    return {"image_id": 1, "category_id": 7, "bbox": box, "score": confidence}


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_the_annotations_as_results_score_100(dataset, perfect, iou_type):
    scores = coco_scores(dataset.ground_truth, perfect, ids(dataset), iou_type)
    assert tuple(scores.stats) == STATS
    assert scores.stats["AP"] == pytest.approx(100)
    assert scores.stats["AR100"] == pytest.approx(100)
    assert tuple(scores.per_class) == dataset.class_names
    assert all(ap == pytest.approx(100) for ap in scores.per_class.values())
    assert scores.precision["precision_75"] == pytest.approx([1] * 101)


def test_shifted_boxes_score_lower(dataset, perfect):
    for entry in perfect:
        entry["bbox"][0] += 0.3 * entry["bbox"][2]  # IoU 0.7 / 1.3 = 0.538
    scores = coco_scores(dataset.ground_truth, perfect, ids(dataset))
    assert scores.stats["AP50"] > 95
    assert scores.stats["AP75"] < 1
    # one threshold of ten is met; neighbours of the same class may match by chance
    assert scores.stats["AP"] == pytest.approx(10, abs=1)


def test_a_case_computed_by_hand():
    """Two objects: the first detection matches none, the second one exactly, the third one at IoU 0.6.

    At IoU 0.50, precision is 1/2 at recall 1/2 and 2/3 at recall 1, so 2/3 everywhere. At 0.75 it is 1/2
    up to recall 1/2 (51 of the 101 grid points) and then 0.
    """
    ground_truth = tiny([[0, 0, 10, 10], [50, 50, 10, 10]])
    results = [result([80, 0, 10, 10], 0.9), result([0, 0, 10, 10], 0.8), result([50, 50, 10, 6], 0.7)]
    scores = coco_scores(ground_truth, results, [1])
    half = 0.5 * 51 / 101
    assert scores.stats["AP50"] == pytest.approx(100 * 2 / 3)
    assert scores.stats["AP75"] == pytest.approx(100 * half)
    # the third detection counts at the thresholds 0.50, 0.55 and 0.60
    assert scores.stats["AP"] == pytest.approx(100 * (3 * 2 / 3 + 7 * half) / 10)
    assert scores.stats["AR1"] == 0
    assert scores.precision["precision_50"] == pytest.approx([2 / 3] * 101)
    assert scores.precision["precision_75"] == pytest.approx([0.5] * 51 + [0] * 50)
    assert np.mean(scores.precision["precision_mean"]) == pytest.approx(scores.stats["AP"] / 100)


def test_the_score_of_absent_objects_is_none():
    scores = coco_scores(tiny([[0, 0, 10, 10]]), [result([0, 0, 10, 10], 0.9)], [1])
    assert scores.per_class == {"disc": pytest.approx(100), "absent": None}
    assert (scores.stats["APs"], scores.stats["APl"]) == (pytest.approx(100), None)


def test_no_results_score_0():
    scores = coco_scores(tiny([[0, 0, 10, 10]]), [], [1])
    assert scores.stats["AP"] == scores.per_class["disc"] == 0
    assert scores.precision["precision_50"] == [0] * 101


def test_no_objects_score_none():
    scores = coco_scores(tiny([]), [result([0, 0, 10, 10], 0.9)], [1])
    assert set(scores.stats.values()) == {None}
    assert scores.precision["precision_50"] == [0] * 101


def test_only_the_given_images_count(dataset, perfect):
    first, *_ = ids(dataset)
    kept = [entry for entry in perfect if entry["image_id"] == first]
    assert coco_scores(dataset.ground_truth, kept, [first]).stats["AP"] == pytest.approx(100)
    assert coco_scores(dataset.ground_truth, kept, ids(dataset)).stats["AP"] < 10


def test_the_size_of_a_mask_is_its_own_area():
    """The box of 40x40 is medium, the thin mask in it is small."""
    mask = np.zeros((100, 100), np.uint8, order="F")
    np.fill_diagonal(mask[:40, :40], 1)
    code = rle.encode(mask)
    entry = {"id": 1, "image_id": 1, "category_id": 7, "segmentation": code, "iscrowd": 0}
    ground_truth = tiny([[0, 0, 40, 40]])
    ground_truth.dataset["annotations"] = [{**entry, "bbox": [0, 0, 40, 40], "area": 40}]
    scores = coco_scores(
        coco_index(ground_truth.dataset), [{**result([0, 0, 40, 40], 1.0), "segmentation": code}], [1], "segm"
    )
    assert (scores.stats["APs"], scores.stats["APm"]) == (pytest.approx(100), None)


def test_the_results_are_not_modified_and_nothing_is_printed(dataset, perfect, capsys):
    before = copy.deepcopy(perfect)
    coco_scores(dataset.ground_truth, perfect, ids(dataset))
    assert perfect == before
    assert capsys.readouterr() == ("", "")


def test_results_of_another_data_set_are_an_error():
    with pytest.raises(SameboxError, match="results for image 2"):
        coco_scores(tiny([[0, 0, 10, 10]]), [{**result([0, 0, 1, 1], 1.0), "image_id": 2}], [1])


def test_boxes_cannot_be_scored_as_masks():
    with pytest.raises(SameboxError, match="no `segmentation`"):
        coco_scores(tiny([[0, 0, 10, 10]]), [result([0, 0, 1, 1], 1.0)], [1], "segm")
