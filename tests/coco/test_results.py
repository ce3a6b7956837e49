import gzip
import json
from dataclasses import replace

import numpy as np
import pytest
from pycocotools import mask as rle

from samebox.coco.results import (
    decode_masks,
    detections_from_results,
    encode_masks,
    read_results,
    results_from_detections,
    results_writer,
    write_results,
)
from samebox.core.errors import SameboxError
from samebox.postprocess.detections import Detections

NAMES = ("disc", "ring")


def detections(masks=None):
    return Detections(
        boxes=np.array([[1.1, 2.2, 5.3, 9.4], [0, 0, 4, 3]], np.float32),
        scores=np.array([0.9, 0.123456789], np.float32),
        labels=np.array([1, 0], np.int64),
        class_names=NAMES,
        masks=masks,
    )


def some_masks():
    masks = np.zeros((2, 10, 8), bool)
    masks[0, 2:9, 1:5] = True
    masks[1, :3, :4] = True
    return masks


def test_a_result_has_the_unrounded_corner_and_size():
    first, second = results_from_detections(5, detections(), [70, 80])
    x1, y1, x2, y2 = (float(np.float32(value)) for value in (1.1, 2.2, 5.3, 9.4))
    assert first == {
        "image_id": 5,
        "category_id": 80,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "score": float(np.float32(0.9)),
    }
    assert (second["category_id"], second["bbox"]) == (70, [0, 0, 4, 3])


def test_a_given_file_name_is_added():
    assert {result["file_name"] for result in results_from_detections(5, detections(), [1, 2], "a.jpg")} == {
        "a.jpg"
    }


def test_masks_become_run_length_codes():
    results = results_from_detections(5, detections(some_masks()), [1, 2])
    assert json.loads(json.dumps(results)) == results
    assert rle.area([result["segmentation"] for result in results]).tolist() == [28, 12]
    assert results[0]["segmentation"]["size"] == [10, 8]


def masks_of_all_kinds():
    """Noise, stripes along each axis, empty, full, and a single pixel in each corner: [N,7,5]."""
    generator = np.random.default_rng(0)
    noise = generator.random((40, 7, 5)) < generator.random((40, 1, 1))
    stripes = np.zeros((2, 7, 5), bool)
    stripes[0, :, ::2], stripes[1, ::2] = True, True
    uniform = np.zeros((2, 7, 5), bool)
    uniform[1] = True
    corners = np.zeros((4, 7, 5), bool)
    corners[range(4), [0, 0, -1, -1], [0, -1, 0, -1]] = True
    return np.concatenate([noise, stripes, uniform, corners])


def columnwise(masks):
    return np.ascontiguousarray(masks.transpose(0, 2, 1)).transpose(0, 2, 1)


@pytest.mark.parametrize("in_memory", [np.ascontiguousarray, columnwise])
@pytest.mark.parametrize("factor", [1, 30])
def test_run_lengths_equal_pycocotools_for_any_memory_order(in_memory, factor):
    masks = masks_of_all_kinds().repeat(factor, 1).repeat(factor, 2)
    codes = encode_masks(in_memory(masks))
    theirs = rle.encode(np.asfortranarray(masks.transpose(1, 2, 0).astype(np.uint8)))
    assert [(code["size"], code["counts"].encode()) for code in codes] == [
        (code["size"], code["counts"]) for code in theirs
    ]
    np.testing.assert_array_equal(decode_masks(codes), masks)


def test_no_detections_give_no_results():
    none = Detections(np.zeros((0, 4), np.float32), np.zeros(0), np.zeros(0, np.int64), NAMES,
                      np.zeros((0, 10, 8), bool))  # fmt: skip
    assert results_from_detections(5, none, [1, 2]) == []


@pytest.mark.parametrize("masks", [None, some_masks()])
def test_detections_are_restored_from_their_results(masks):
    original = detections(masks)
    restored = detections_from_results(results_from_detections(5, original, [70, 80]), [70, 80], NAMES)
    np.testing.assert_array_equal(restored.boxes, original.boxes)
    np.testing.assert_array_equal(restored.scores, original.scores)
    np.testing.assert_array_equal(restored.labels, original.labels)
    assert (restored.masks is None) == (masks is None)
    assert masks is None or np.array_equal(restored.masks, masks)


def test_no_results_give_no_detections():
    restored = detections_from_results([], [70, 80], NAMES)
    assert (restored.boxes.shape, restored.scores.shape, restored.masks) == ((0, 4), (0,), None)


@pytest.mark.parametrize("name", ["detections.json", "detections.json.gz"])
def test_written_results_are_read_back(tmp_path, name):
    results = results_from_detections(5, detections(some_masks()), [1, 2])
    write_results(tmp_path / name, results)
    assert read_results(tmp_path / name) == results
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_the_suffix_determines_the_compression(tmp_path):
    write_results(tmp_path / "a.json", [])
    write_results(tmp_path / "a.json.gz", [])
    assert json.loads((tmp_path / "a.json").read_text()) == []
    assert json.loads(gzip.decompress((tmp_path / "a.json.gz").read_bytes())) == []


@pytest.mark.parametrize("counts", [(), (0,), (1,), (2, 0, 3)])
def test_results_added_one_by_one_give_the_same_bytes(tmp_path, counts):
    results = results_from_detections(5, detections(some_masks()), [1, 2])
    parts = [results[:1] * count for count in counts]
    with results_writer(tmp_path / "parts.json") as add:
        for part in parts:
            add(part)
    write_results(tmp_path / "whole.json", [result for part in parts for result in part])
    assert (tmp_path / "parts.json").read_bytes() == (tmp_path / "whole.json").read_bytes()


def test_a_failed_block_leaves_no_file(tmp_path):
    with pytest.raises(KeyError), results_writer(tmp_path / "parts.json") as add:
        add([{"image_id": {}["none"]}])
    assert list(tmp_path.iterdir()) == []


def test_compressed_results_contain_no_time_or_name(tmp_path):
    results = results_from_detections(5, detections(), [1, 2])
    write_results(tmp_path / "a.json.gz", results)
    write_results(tmp_path / "b.json.gz", results)
    content = (tmp_path / "a.json.gz").read_bytes()
    assert content == (tmp_path / "b.json.gz").read_bytes()
    assert content[3:8] == bytes(5)  # gzip's flags (no name) and time


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", b"nonsense"),
        ("a.json", b"{}"),
        ("a.json.gz", b"[]"),
        ("a.json.gz", gzip.compress(b"[" + b"1," * 500, mtime=0)[:-12]),
    ],
    ids=["not JSON", "not a list", "not compressed", "cut off"],
)
def test_a_file_without_results_is_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SameboxError, match=f"{name}: .*evaluate again"):
        read_results(tmp_path / name)


def with_keypoints():
    """Two detections with three keypoints each."""
    drawn = np.random.default_rng(1).uniform(-3, 600, (2, 3, 3)).astype(np.float32)
    return replace(detections(), keypoints=drawn)


def test_keypoints_are_written_flat_and_count_from_the_centre_of_the_first_pixel():
    original = with_keypoints()
    first, _ = results_from_detections(5, original, [1, 2])
    expected = original.keypoints[0].astype(float) - np.array([0.5, 0.5, 0])
    assert first["keypoints"] == expected.flatten().tolist()
    assert json.loads(json.dumps(first)) == first


def test_keypoints_are_restored_from_their_results():
    original = with_keypoints()
    restored = detections_from_results(results_from_detections(5, original, [70, 80]), [70, 80], NAMES)
    np.testing.assert_array_equal(restored.keypoints, original.keypoints)
    assert restored.keypoints.dtype == np.float32
    assert restored.masks is None


def test_detections_without_keypoints_have_none_in_their_results():
    (first, _) = results = results_from_detections(5, detections(), [70, 80])
    assert "keypoints" not in first
    assert detections_from_results(results, [70, 80], NAMES).keypoints is None


def test_inclusive_boxes_end_after_their_last_pixel_and_keypoints_are_unchanged():
    """As maskrcnn-benchmark writes its results: a box of one pixel has width 1."""
    original = replace(with_keypoints(), inclusive=True)
    first, second = results_from_detections(5, original, [1, 2])
    x1, y1, x2, y2 = original.boxes[0].astype(float)
    assert first["bbox"] == [x1, y1, x2 - x1 + 1, y2 - y1 + 1]
    assert second["bbox"] == [0, 0, 5, 4]
    assert first["keypoints"] == original.keypoints[0].astype(float).flatten().tolist()
    restored = detections_from_results([first, second], [1, 2], NAMES)
    assert not restored.inclusive
    np.testing.assert_array_equal(restored.boxes[1], [0, 0, 5, 4])
    np.testing.assert_array_equal(restored.keypoints[..., :2], original.keypoints[..., :2] + np.float32(0.5))
