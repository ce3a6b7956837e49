import numpy as np
import pytest
from pycocotools import mask as rle
from pycocotools.cocoeval import Params

from samebox.coco.dataset import coco_index
from samebox.core.errors import SameboxError
from samebox.scoring.average_precision import KEYPOINTS, coco_scores
from samebox.scoring.bootstrap import ClassMatches, ap_intervals, coco_matches, draw_counts

IMAGES, CLASSES, SIDE = 24, 3, 200


def mask(box):
    x, y, width, height = box
    [code] = rle.frPyObjects([[x, y, x + width, y, x + width, y + height, x, y + height]], SIDE, SIDE)
    return {"size": code["size"], "counts": code["counts"].decode()}


def entry(rng, image, category, box):
    """An object or a result, with a mask slightly smaller than its box, and keypoints inside."""
    points = np.column_stack([box[:2] + rng.uniform(0, 1, (KEYPOINTS, 2)) * box[2:], np.full(KEYPOINTS, 2)])
    inner = [*(box[:2] + rng.uniform(0, 3, 2)), *(box[2:] - 3)]
    return {
        "image_id": image,
        "category_id": category,
        "bbox": box.tolist(),
        "segmentation": mask(inner),
        "keypoints": points.ravel().tolist(),
    }


def box(rng):
    return np.concatenate([rng.uniform(0, 120, 2), rng.uniform(20, 80, 2)])


def random_truth(seed=0):
    """A ground truth with crowds, and an image and a class without objects."""
    rng = np.random.default_rng(seed)
    objects = [
        {**entry(rng, image, int(rng.integers(1, CLASSES)), box(rng)), "iscrowd": int(rng.random() < 0.1)}
        for image in range(2, IMAGES + 1)
        for _ in range(rng.integers(1, 5))
    ]
    for index, one in enumerate(objects, start=1):
        visible = int(rng.integers(0, 3))
        one |= {"id": index, "area": one["bbox"][2] * one["bbox"][3], "num_keypoints": visible}
    return truth(range(1, IMAGES + 1), objects)


def truth(images, objects):
    return coco_index(
        {
            "images": [{"id": i, "file_name": f"{i}.jpg", "width": SIDE, "height": SIDE} for i in images],
            "categories": [{"id": c, "name": f"class {c}"} for c in range(1, CLASSES + 1)],
            "annotations": objects,
        }
    )


def detected(ground_truth, seed):
    """Results near most objects, and others that match none."""
    rng = np.random.default_rng(seed)
    results = []
    for one in ground_truth.dataset["annotations"]:
        for _ in range(rng.integers(0, 3)):
            near = np.array(one["bbox"]) + rng.normal(0, 4, 4)
            moved = entry(rng, one["image_id"], one["category_id"], near)
            points = np.array(one["keypoints"]).reshape(-1, 3) + rng.normal(0, 1, (KEYPOINTS, 3))
            results.append(moved | {"keypoints": points.ravel().tolist()})
    for image in ground_truth.imgs:
        for category in rng.integers(1, CLASSES + 1, 3):
            results.append(entry(rng, image, int(category), box(rng)))  # noqa: PERF401
    scores = rng.permutation(len(results)) / len(results)
    return [result | {"score": float(own)} for result, own in zip(results, scores, strict=True)]


def repeated(ground_truth, results, drawn):
    """The data set and the results with each image repeated as often as it was drawn, under new ids."""
    copies = [(100 * image + n, image) for image, times in drawn.items() for n in range(times)]
    objects = ground_truth.imgToAnns
    annotations = [{**one, "image_id": new} for new, image in copies for one in objects[image]]
    for index, one in enumerate(annotations, start=1):
        one["id"] = index
    return truth([new for new, _ in copies], annotations), [
        {**result, "image_id": new}
        for new, image in copies
        for result in results
        if result["image_id"] == image
    ]


@pytest.mark.parametrize("iou_type", ["bbox", "segm", "keypoints"])
def test_the_ap_of_each_image_once_equals_pycocotools(iou_type):
    ground_truth = random_truth()
    results = detected(ground_truth, 1)
    ap = coco_matches(ground_truth, results, ground_truth.imgs, iou_type).average_precision(
        np.ones((IMAGES, 1), np.int32)
    )
    stats = coco_scores(ground_truth, results, ground_truth.imgs, iou_type).stats
    assert 10 < stats["AP"] < 90
    assert ap == pytest.approx([stats["AP"]], abs=1e-9)


@pytest.mark.parametrize("iou_type", ["bbox", "keypoints"])
def test_resamples_equal_a_data_set_with_repeated_images(iou_type):
    ground_truth = random_truth()
    forms = [detected(ground_truth, seed) for seed in (1, 2)]
    drawn = draw_counts(IMAGES, resamples=8, seed=5)
    slow = np.array(
        [
            [
                coco_scores(again, results, again.imgs, iou_type).stats["AP"]
                for again, results in (repeated(ground_truth, form, times) for form in forms)
            ]
            for times in (dict(zip(ground_truth.imgs, column, strict=True)) for column in drawn.T.tolist())
        ]
    )
    for form, aps in zip(forms, slow.T, strict=True):
        fast = coco_matches(ground_truth, form, ground_truth.imgs, iou_type).average_precision(drawn)
        assert fast == pytest.approx(aps, abs=1e-9)
    [interval] = ap_intervals(ground_truth, forms, ground_truth.imgs, iou_type, resamples=8, seed=5)
    assert interval == pytest.approx(np.percentile(slow[:, 1] - slow[:, 0], [2.5, 97.5]), abs=1e-9)


def test_recalls_are_compared_with_the_numbers_of_pycocotools():
    """57 of 100 objects are a recall below pycocotools' 0.57; 29 of 100 equal its 0.29."""
    recalls = Params().recThrs
    for objects in (1, 7, 50, 100, 300):
        for hits in range(1, objects + 1):
            images = np.zeros(hits, np.intp)
            matches = ClassMatches(images, np.zeros(objects, np.intp), (np.arange(hits),), (images[:0],))
            ap = matches.average_precision(np.ones((1, 1), np.int32))
            assert ap == pytest.approx([np.mean(recalls <= hits / objects)], abs=1e-12)


def test_the_interval_of_identical_forms_is_zero():
    ground_truth = random_truth()
    results = detected(ground_truth, 1)
    assert ap_intervals(ground_truth, [results] * 3, ground_truth.imgs) == [(0, 0), (0, 0)]


def test_the_interval_separates_noise_from_a_loss():
    """Forms with equally large errors differ by noise; a form with a third of the results loses AP."""
    around = losses = 0
    for seed in range(10):
        ground_truth = random_truth(seed)
        results = detected(ground_truth, 100 + seed)
        forms = [results, detected(ground_truth, 200 + seed), results[::3]]
        (low, high), (_, most) = ap_intervals(ground_truth, forms, ground_truth.imgs, resamples=100)
        around += low <= 0 <= high
        losses += most < 0
    assert around >= 8
    assert losses >= 8


def test_the_same_seed_gives_the_same_interval():
    ground_truth = random_truth()
    forms = [detected(ground_truth, seed) for seed in (1, 2)]
    first, again, other = (
        ap_intervals(ground_truth, forms, ground_truth.imgs, resamples=50, seed=seed) for seed in (0, 0, 1)
    )
    assert first == again != other


def test_there_is_no_interval_without_objects():
    empty = truth([1, 2], [])
    assert ap_intervals(empty, [[], []], empty.imgs) == [None]
    ground_truth = random_truth()
    assert ap_intervals(ground_truth, [[], []], ground_truth.imgs, resamples=20) == [(0, 0)]


def test_no_resamples_are_an_error():
    with pytest.raises(SameboxError, match=r"differences\.resamples: 0: give a number from 1 up"):
        ap_intervals(random_truth(), [[], []], [1], resamples=0)
