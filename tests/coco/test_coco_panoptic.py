import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny_panoptic import CATEGORIES, IMAGE, SHIFT, grid, panoptic_set

from samebox.coco.panoptic import Category, PanopticResults, PanopticSet, panoptic_result
from samebox.core.errors import SameboxError
from samebox.postprocess.panoptic import Panoptic, Segment


@pytest.fixture
def dataset(tmp_path):
    return panoptic_set(tmp_path, grid("0122", "0133"), {1: 1, 2: 3, 3: 8}, crowds=[2])


def prediction():
    """A disc, and water with an id of more than one byte; the classes beneath are sky and water."""
    segments = (Segment(1, "disc", True, 0.9), Segment(70000, "water", False))
    ids = np.array([[0, 1, 1, 70000], [0, 1, 1, 70000]], np.int32)
    return Panoptic(ids, segments, np.array([[1, 0, 0, 2], [1, 0, 0, 2]], np.uint8), ("sky", "water"))


def test_a_colour_of_three_bytes_is_an_id(dataset):
    truth = dataset.segment_map(IMAGE)
    assert truth.ids.tolist() == (np.array([[0, 1, 2, 2], [0, 1, 3, 3]]) * (SHIFT + 1)).tolist()
    assert truth.categories == {SHIFT + 1: 1, 2 * (SHIFT + 1): 3, 3 * (SHIFT + 1): 8}
    assert truth.crowds == {2 * (SHIFT + 1)}


def test_red_is_the_lowest_byte(tmp_path):
    dataset = panoptic_set(tmp_path, np.zeros((1, 3), int), {})
    cv2.imwrite(str(tmp_path / f"png/{IMAGE}.png"), np.array([[[0, 0, 5], [0, 5, 0], [5, 0, 0]]], np.uint8))
    assert dataset.segment_map(IMAGE).ids.tolist() == [[5, 5 * 256, 5 * 65536]]


def test_categories_are_matched_by_name_and_kind(dataset):
    assert dataset.category_ids(["ring", "disc"], is_thing=True) == [3, 1]
    assert dataset.category_ids(["water"], is_thing=False) == [9]
    with pytest.raises(
        SameboxError, match="no category of stuff is called disc; its categories are sky, water"
    ):
        dataset.category_ids(["disc"], is_thing=False)


def test_a_result_decodes_to_the_prediction(dataset):
    result = panoptic_result(IMAGE, prediction(), dataset)
    assert result.segments == [{"id": 1, "category_id": 1}, {"id": 70000, "category_id": 9}]
    assert (result.segment_map().ids == prediction().ids).all()
    assert result.stuff_map().tolist() == [[8, 0, 0, 9]] * 2


def test_written_results_are_read_as_a_panoptic_set(dataset, tmp_path):
    results = PanopticResults(dataset)
    results.add(IMAGE, prediction())
    results.write(tmp_path / "out/found.json", tmp_path / "out/found")
    assert [path.name for path in (tmp_path / "out/found").iterdir()] == ["000000000007.png"]
    again = PanopticSet(tmp_path / "out/found.json", tmp_path / "out/found")
    assert again.categories == dataset.categories
    assert (again.segment_map(IMAGE).ids == prediction().ids).all()
    assert again.segment_map(IMAGE).categories == {1: 1, 70000: 9}


def test_categories_are_ordered_by_id(tmp_path):
    (tmp_path / "set.json").write_text(json.dumps({"annotations": [], "categories": CATEGORIES[::-1]}))
    assert PanopticSet(tmp_path / "set.json", tmp_path).categories[0] == Category(1, "disc", True)


def test_the_demo_has_segments_for_every_image():
    shapes = Path(__file__).parents[2] / "demo/shapes"
    dataset = PanopticSet(shapes / "annotations/panoptic_val.json", shapes / "panoptic_val")
    truth = dataset.segment_map(20000000)
    assert truth.ids.shape == (172, 229)
    assert set(np.unique(truth.ids).tolist()) == set(truth.categories)
    assert [one.name for one in dataset.categories if not one.is_thing] == ["sky", "field", "water"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("categories"), "no list `categories`"),
        (lambda d: d["categories"][0].pop("isthing"), r"categories\[0\] has no `isthing`"),
        (lambda d: d["annotations"][0].pop("segments_info"), r"annotations\[0\] has no `segments_info`"),
        (
            lambda d: d["annotations"][0]["segments_info"][0].update(category_id=77),
            "a segment without an id or without a known",
        ),
    ],
)
def test_a_missing_key_is_named(dataset, tmp_path, change, message):
    path = tmp_path / "panoptic.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    with pytest.raises(SameboxError, match=message):
        PanopticSet(path, tmp_path / "png")


def test_an_image_without_segments_or_without_a_file_is_an_error(dataset, tmp_path):
    with pytest.raises(SameboxError, match="no segments of image 8"):
        dataset.check([IMAGE, 8])
    (tmp_path / "png/7.png").write_text("no image")
    with pytest.raises(SameboxError, match=r"7\.png: not a PNG image"):
        dataset.segment_map(IMAGE)
    (tmp_path / "png/7.png").unlink()
    with pytest.raises(SameboxError, match=r"7\.png: no such file"):
        dataset.segment_map(IMAGE)
