import copy
import math
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as rle

from samebox.coco.checking import checked_instances
from samebox.core.errors import SameboxError

PATH = Path("instances.json")
SIZE = 6, 8  # height, width


def run_lengths(text=True):
    mask = np.zeros(SIZE, np.uint8, order="F")
    mask[1:4, 2:7] = 1
    code = rle.encode(mask)
    if text:
        return {"size": list(SIZE), "counts": code["counts"].decode()}
    pixels = mask.flatten(order="F")
    ends = np.flatnonzero(np.diff(pixels)) + 1
    return {"size": list(SIZE), "counts": np.diff([0, *ends, pixels.size]).tolist()}


def document():
    box = {"category_id": 1, "bbox": [1, 1, 3, 2], "area": 6, "iscrowd": 0}
    triangle = [[1, 1, 4, 1, 4, 3]]
    return {
        "images": [
            {"id": 1, "file_name": "a.jpg", "width": 8, "height": 6},
            {"id": 2, "file_name": "in/b.jpg", "width": 8, "height": 6},
        ],
        "annotations": [
            {"id": 1, "image_id": 1, **box, "segmentation": triangle},
            {"id": 2, "image_id": 2, **box, "segmentation": run_lengths(), "iscrowd": 1},
            {"id": 3, "image_id": 2, **box, "segmentation": run_lengths(text=False)},
        ],
        "categories": [{"id": 1, "name": "disc"}, {"id": 7, "name": "square"}],
    }


def changed(section, index, **values):
    result = copy.deepcopy(document())
    result[section][index] |= values
    return result


def test_a_sound_document_passes_unchanged():
    assert checked_instances(document(), PATH) == (document(), [])


def test_a_test_set_has_no_annotations():
    bare = {key: value for key, value in document().items() if key != "annotations"}
    assert checked_instances(bare, PATH) == (bare, [])


@pytest.mark.parametrize(
    "ids", [[1, 1, 2], [0, 1, 2], [-4, 1, 2], ["1", "2", "3"], [None, 1, 2], [1 << 70, 1, 2]]
)
def test_annotation_ids_that_pycocotools_confuses_are_renumbered(ids):
    broken = document()
    for entry, number in zip(broken["annotations"], ids, strict=True):
        entry["id"] = number
    clean, notes = checked_instances(broken, PATH)
    assert [entry["id"] for entry in clean["annotations"]] == [1, 2, 3]
    assert len(notes) == 1
    assert "objects renumbered" in notes[0]


CORRECTED = {
    "an image listed twice": (
        document() | {"images": [*document()["images"], document()["images"][0]]},
        "images listed twice and counted once: 1, the first in image 1",
        document(),
    ),
    "an object of no listed image": (
        changed("annotations", 0, image_id=9),
        "objects left out because their image is not listed: 1, the first in annotations[0] (id 1)",
        document() | {"annotations": document()["annotations"][1:]},
    ),
    "a flat polygon": (
        changed("annotations", 0, segmentation=[1, 1, 4, 1, 4, 3]),
        "polygons that were not within a list of polygons: 1",
        document(),
    ),
    "four numbers for a polygon": (
        changed("annotations", 0, segmentation=[[1, 1, 4, 1, 4, 3], [1, 1, 4, 2]]),
        "polygons left out because they have less than three points: 1",
        document(),
    ),
    "an empty box": (
        changed("annotations", 0, bbox=[1, 1, 0, 2]),
        "objects with an empty box, which no detection can match: 1",
        changed("annotations", 0, bbox=[1, 1, 0, 2]),
    ),
    "whole numbers with a decimal point": (changed("annotations", 0, image_id=1.0), None, document()),
    "no mask": (
        changed("annotations", 0, segmentation=None),
        None,
        changed("annotations", 0, segmentation=[]),
    ),
}


@pytest.mark.parametrize(("broken", "note", "expected"), CORRECTED.values(), ids=CORRECTED)
def test_what_needs_no_guess_is_corrected_and_noted(broken, note, expected):
    clean, notes = checked_instances(broken, PATH)
    assert clean == expected
    assert len(notes) == (note is not None)
    assert note is None or note in notes[0]


def test_one_file_under_two_ids_is_noted():
    clean, notes = checked_instances(changed("images", 1, file_name="a.jpg"), PATH)
    assert len(clean["images"]) == 2
    assert notes == [
        "annotations: files that are listed under two ids and count twice: 1, the first in image 2"
    ]


ENTRY = r"instances\.json: annotations\[0\] \(id 1\): "
REFUSED = {
    "no object": ([], r"no list `images`"),
    "a text for an entry": (document() | {"images": ["a.jpg"]}, r"images\[0\] is no object"),
    "no key": (document() | {"images": [{"id": 1}]}, r"images\[0\] has no `file_name`"),
    "an image id as text": (changed("images", 0, id="1"), r"images\[0\]: id is '1'; give a whole number"),
    "a negative image id": (changed("images", 0, id=-1), r"images\[0\]: id is -1; give a whole number"),
    "an id beyond 64 bits": (changed("images", 0, id=1 << 64), r"images\[0\]: id is 18446744073709551616"),
    "a fraction for an id": (changed("images", 0, id=1.5), r"images\[0\]: id is 1\.5"),
    "two images of one id": (
        changed("images", 1, id=1),
        r"images\[1\]: id 1 is also the id of another image",
    ),
    "no file name": (changed("images", 0, file_name=None), r"images\[0\]: file_name is None; give the path"),
    "a file outside": (
        changed("images", 0, file_name="../a.jpg"),
        r"file_name is '\.\./a\.jpg'; give the path",
    ),
    "an absolute path": (changed("images", 0, file_name="/a.jpg"), r"file_name is '/a\.jpg'; give the path"),
    "a drive": (changed("images", 0, file_name="C:\\a.jpg"), r"file_name is 'C:"),
    "no width": (
        changed("images", 0, width=None),
        r"images\[0\] \(id 1\): width is None; give a whole number",
    ),
    "a height of zero": (changed("images", 0, height=0), r"height is 0; give a whole number of pixels"),
    "an image of a kilometre": (changed("images", 0, height=1 << 40), "height is 1099511627776"),
    "a category id as text": (changed("categories", 0, id="1"), r"categories\[0\]: id is '1'"),
    "two categories of one id": (
        changed("categories", 1, id=1),
        "2 entries with the id 1; give each its own",
    ),
    "two categories of one name": (changed("categories", 1, name="disc"), "2 entries with the name disc"),
    "a category without a name": (
        changed("categories", 0, name=3),
        r"categories\[0\]: name is 3; give a text",
    ),
    "an image id of an object as text": (changed("annotations", 0, image_id="1"), ENTRY + "image_id is '1'"),
    "a category as text": (changed("annotations", 0, category_id="1"), ENTRY + "category_id is '1'"),
    "an unknown category": (changed("annotations", 0, category_id=3), ENTRY + "category_id is 3; list it in"),
    "no box": (changed("annotations", 0, bbox=None), ENTRY + "bbox is None; give finite numbers"),
    "a box of three": (changed("annotations", 0, bbox=[1, 2, 3]), ENTRY + r"bbox is \[1, 2, 3\]; give x, y"),
    "a box of NaN": (
        changed("annotations", 0, bbox=[1, 2, 3, math.nan]),
        ENTRY + r"bbox is .*nan\]; give finite",
    ),
    "an infinite box": (
        changed("annotations", 0, bbox=[1, 2, math.inf, 3]),
        ENTRY + "bbox is .*; give finite",
    ),
    "a box of huge numbers": (
        changed("annotations", 0, bbox=[1, 2, 3, 10**400]),
        ENTRY + "bbox is .*; give finite",
    ),
    "a box of true": (changed("annotations", 0, bbox=[1, 2, 3, True]), ENTRY + "bbox is .*; give finite"),
    "a negative width": (
        changed("annotations", 0, bbox=[1, 2, -3, 4]),
        ENTRY + r"bbox is .*last two from 0 up",
    ),
    "no area": (changed("annotations", 0, area=None), ENTRY + r"area is \[None\]; give finite"),
    "a negative area": (changed("annotations", 0, area=-1), ENTRY + "area is -1; give a number from 0 up"),
    "a crowd of two": (changed("annotations", 0, iscrowd=2), ENTRY + "iscrowd is 2; give 0 or 1"),
    "a mask in words": (
        changed("annotations", 0, segmentation="x"),
        ENTRY + "segmentation is 'x'; give polygons",
    ),
    "a polygon of NaN": (
        changed("annotations", 0, segmentation=[[math.nan] * 6]),
        ENTRY + "segmentation is .*finite",
    ),
    "half a keypoint": (
        changed("annotations", 0, keypoints=[1, 2]),
        ENTRY + r"keypoints is \[1, 2\]; give x, y",
    ),
    "the code of another size": (
        changed("annotations", 0, segmentation=run_lengths() | {"size": [8, 6]}),
        ENTRY + r"segmentation\.size is \[8, 6\]; the image's height and width are \[6, 8\]",
    ),
    "a cut code": (
        changed("annotations", 0, segmentation={"size": [6, 8], "counts": run_lengths()["counts"][:-2]}),
        ENTRY + r"segmentation\.counts is .* do not add up to 6x8 pixels",
    ),
    "a garbage code": (
        changed("annotations", 0, segmentation={"size": [6, 8], "counts": "\x00\xff~~"}),
        ENTRY + r"segmentation\.counts is ",
    ),
    "a code without an end": (
        changed("annotations", 0, segmentation={"size": [6, 8], "counts": "o" * 100}),
        ENTRY + r"segmentation\.counts is ",
    ),
    "negative runs": (
        changed("annotations", 0, segmentation={"size": [6, 8], "counts": [50, -2]}),
        ENTRY + r"segmentation\.counts is \[50, -2\]",
    ),
    "runs in words": (
        changed("annotations", 0, segmentation={"size": [6, 8], "counts": ["48"]}),
        ENTRY + r"segmentation\.counts is \['48'\]",
    ),
    "no runs": (
        changed("annotations", 0, segmentation={"size": [6, 8]}),
        ENTRY + r"segmentation\.counts is None",
    ),
}


@pytest.mark.parametrize(("broken", "message"), REFUSED.values(), ids=REFUSED)
def test_what_needs_a_guess_is_one_line(broken, message):
    with pytest.raises(SameboxError, match=message) as error:
        checked_instances(broken, PATH)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 250


@pytest.mark.parametrize("seed", range(20))
def test_every_code_that_pycocotools_writes_is_accepted(seed):
    """Codes of one to three characters a run, with differences of either sign."""
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 400, 2)
    mask = np.asfortranarray(rng.random((height, width)) < rng.random() ** 3, np.uint8)
    code = rle.encode(mask)
    entry = {"size": [int(height), int(width)], "counts": code["counts"].decode()}
    broken = changed("annotations", 0, segmentation=entry)
    broken["images"][0] |= {"height": int(height), "width": int(width)}
    assert checked_instances(broken, PATH)[0]["annotations"][0]["segmentation"] == entry
