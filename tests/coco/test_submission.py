import json
import zipfile

import cv2
import demo_forms
import numpy as np
import pytest

from samebox.coco.panoptic import Category, CategorySet, PanopticResult, PanopticResults
from samebox.coco.submission import write_detections, write_segments, write_voc

CODE = {"size": [4, 4], "counts": "04L0"}
RESULT = {
    "image_id": 7, "category_id": 3, "score": 0.5, "bbox": [1.0, 2.0, 3.0, 4.0],
    "segmentation": CODE, "keypoints": [1.0, 2.0, 0.9] * 17,
}  # fmt: skip


@pytest.mark.parametrize(
    ("task", "name", "key"),
    [
        ("bbox", "detections_val2017_mine_results", "bbox"),
        ("segm", "detections_val2017_mine_results", "segmentation"),
        ("keypoints", "person_keypoints_val2017_mine_results", "keypoints"),
    ],
)
def test_each_task_has_its_own_geometry_and_file_name(tmp_path, task, name, key):
    path = write_detections(tmp_path, task, "val2017_mine", [RESULT])
    assert path == tmp_path / task / f"{name}.zip"
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == [f"{name}.json"]
        [written] = json.loads(archive.read(f"{name}.json"))
    assert written == {"image_id": 7, "category_id": 3, "score": 0.5, key: RESULT[key]}


def test_no_results_are_an_empty_list(tmp_path):
    with zipfile.ZipFile(write_detections(tmp_path, "bbox", "a_b", [])) as archive:
        assert json.loads(archive.read("detections_a_b_results.json")) == []


def test_segments_are_a_json_file_and_a_folder_of_png_files(tmp_path):
    png = cv2.imencode(".png", np.full((4, 5, 3), 9, np.uint8))[1].tobytes()
    dataset = CategorySet("here", [Category(1, "disc", True)])
    results = PanopticResults(dataset, [PanopticResult(7, [{"id": 9, "category_id": 1}], png, b"")])
    path = write_segments(tmp_path, "test-dev2017_mine", results)
    name = "panoptic_test-dev2017_mine_results"
    assert path == tmp_path / "panoptic" / f"{name}.zip"
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == [f"{name}.json", f"{name}/000000000007.png"]
        document = json.loads(archive.read(f"{name}.json"))
        assert archive.read(f"{name}/000000000007.png") == png
    assert document["annotations"] == [
        {"image_id": 7, "file_name": "000000000007.png", "segments_info": [{"id": 9, "category_id": 1}]}
    ]


def test_equal_results_give_equal_bytes(tmp_path):
    first, second = (write_detections(tmp_path / at, "bbox", "a_b", [RESULT]) for at in "ab")
    assert first.read_bytes() == second.read_bytes()


def test_voc_has_a_text_file_for_each_class_with_pixels_counted_from_1(tmp_path):
    """The box of a whole image of 200x100 is 1 1 200 100."""
    dataset = demo_forms.whole_set()
    first, second = (record.id for record in dataset.images[:2])
    results = [
        {"image_id": first, "category_id": 2, "score": 0.25, "bbox": [0.0, 0.0, 200.0, 100.0]},
        {"image_id": second, "category_id": 2, "score": 0.125, "bbox": [10.5, 20.0, 3.0, 4.0]},
    ]
    paths = list(write_voc(tmp_path, results, dataset))
    assert [path.name for path in paths] == [f"comp4_det_test_{name}.txt" for name in dataset.class_names]
    assert paths[1].read_text() == (
        "000020000000 0.250000 1.00 1.00 200.00 100.00\n000020000001 0.125000 11.50 21.00 13.50 24.00\n"
    )
    assert paths[0].read_text() == ""
