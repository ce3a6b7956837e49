import numpy as np
import pytest
from pycocotools import mask as rle
from pycocotools.cocoeval import Params

from samebox.coco.dataset import coco_index
from samebox.core.errors import SameboxError
from samebox.scoring.average_precision import KEYPOINTS, score
from samebox.scoring.bootstrap import ClassMatches, ap_intervals, matches, resampled

IMAGES, CLASSES, SIDE = 24, 3, 200


def mask(box):
    x, y, width, height = box
    [code] = rle.frPyObjects([[x, y, x + width, y, x + width, y + height, x, y + height]], SIDE, SIDE)
    return {"size": code["size"], "counts": code["counts"].decode()}


def entry(rng, image, category, box):
    """An object or a result, with a mask a little smaller than its box, and keypoints within."""
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


def made(seed=0):
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


def found(ground_truth, seed):
    """Results that hit most objects more or less well, with others that hit none."""
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
    """The data set and the results with each image as often as it was drawn, under ids of their own."""
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
def test_with_every_image_once_the_ap_is_pycocotools(iou_type):
    ground_truth = made()
    results = found(ground_truth, 1)
    ap = matches(ground_truth, results, ground_truth.imgs, iou_type).average_precision(
        np.ones((IMAGES, 1), np.int32)
    )
    stats = score(ground_truth, results, ground_truth.imgs, iou_type).stats
    assert 10 < stats["AP"] < 90
    assert ap == pytest.approx([stats["AP"]], abs=1e-9)


@pytest.mark.parametrize("iou_type", ["bbox", "keypoints"])
def test_resamples_and_their_interval_are_those_of_a_data_set_with_images_repeated(iou_type):
    ground_truth = made()
    forms = [found(ground_truth, seed) for seed in (1, 2)]
    drawn = resampled(IMAGES, resamples=8, seed=5)
    slow = np.array(
        [
            [
                score(again, results, again.imgs, iou_type).stats["AP"]
                for again, results in (repeated(ground_truth, form, times) for form in forms)
            ]
            for times in (dict(zip(ground_truth.imgs, column, strict=True)) for column in drawn.T.tolist())
        ]
    )
    for form, aps in zip(forms, slow.T, strict=True):
        fast = matches(ground_truth, form, ground_truth.imgs, iou_type).average_precision(drawn)
        assert fast == pytest.approx(aps, abs=1e-9)
    [interval] = ap_intervals(ground_truth, forms, ground_truth.imgs, iou_type, resamples=8, seed=5)
    assert interval == pytest.approx(np.percentile(slow[:, 1] - slow[:, 0], [2.5, 97.5]), abs=1e-9)


def test_recalls_are_reached_where_pycocotools_says_so():
    """Objects of which the first are found: 57 of 100 are a recall below its 0.57, 29 of 100 are its 0.29."""
    recalls = Params().recThrs
    for objects in (1, 7, 50, 100, 300):
        for hits in range(1, objects + 1):
            images = np.zeros(hits, np.intp)
            one = ClassMatches(images, np.zeros(objects, np.intp), (np.arange(hits),), (images[:0],))
            ap = one.average_precision(np.ones((1, 1), np.int32))
            assert ap == pytest.approx([np.mean(recalls <= hits / objects)], abs=1e-12)


def test_identical_forms_differ_in_no_resample():
    ground_truth = made()
    results = found(ground_truth, 1)
    assert ap_intervals(ground_truth, [results] * 3, ground_truth.imgs) == [(0, 0), (0, 0)]


def test_noise_is_told_from_a_loss():
    """Forms that err alike differ by noise, one that misses two of three detections loses AP."""
    around = losses = 0
    for seed in range(10):
        ground_truth = made(seed)
        results = found(ground_truth, 100 + seed)
        forms = [results, found(ground_truth, 200 + seed), results[::3]]
        (low, high), (_, most) = ap_intervals(ground_truth, forms, ground_truth.imgs, resamples=100)
        around += low <= 0 <= high
        losses += most < 0
    assert around >= 8
    assert losses >= 8


def test_the_same_seed_gives_the_same_interval():
    ground_truth = made()
    forms = [found(ground_truth, seed) for seed in (1, 2)]
    first, again, other = (
        ap_intervals(ground_truth, forms, ground_truth.imgs, resamples=50, seed=seed) for seed in (0, 0, 1)
    )
    assert first == again != other


def test_without_objects_or_results_there_is_no_interval():
    empty = truth([1, 2], [])
    assert ap_intervals(empty, [[], []], empty.imgs) == [None]
    ground_truth = made()
    assert ap_intervals(ground_truth, [[], []], ground_truth.imgs, resamples=20) == [(0, 0)]


def test_no_resample_is_a_mistake():
    with pytest.raises(SameboxError, match=r"differences\.resamples: 0: give a number from 1 up"):
        ap_intervals(made(), [[], []], [1], resamples=0)
