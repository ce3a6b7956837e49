import json
from pathlib import Path

import pytest

from samebox.coco.dataset import CocoDataset, ImageRecord, dataset_of
from samebox.core.errors import SameboxError

SHAPES = Path(__file__).parents[2] / "demo/shapes"
ANNOTATIONS = SHAPES / "annotations/instances_val.json"


@pytest.fixture
def document():
    return json.loads(ANNOTATIONS.read_text())


def opened(tmp_path, document):
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(document))
    return CocoDataset(SHAPES / "val", path)


def test_images_are_ordered_by_id(tmp_path, document):
    document["images"].reverse()
    dataset = opened(tmp_path, document)
    assert dataset.images[0] == ImageRecord(20000000, "000020000000.jpg", 229, 172)
    assert [record.id for record in dataset.images] == list(range(20000000, 20000200))


def test_every_image_of_the_demo_exists():
    dataset = CocoDataset(SHAPES / "val", ANNOTATIONS)
    assert all(dataset.path(record).is_file() for record in dataset.images)


def test_a_missing_image_is_named(tmp_path):
    dataset = CocoDataset(tmp_path, ANNOTATIONS)
    with pytest.raises(SameboxError, match=r"000020000000\.jpg: no such file"):
        dataset.path(dataset.images[0])


def test_class_names_follow_the_category_ids_not_the_file_order(tmp_path, document):
    document["categories"].reverse()
    dataset = opened(tmp_path, document)
    assert dataset.class_names == ("disc", "square", "triangle", "star", "ring", "cross")


def test_classes_are_matched_by_name(tmp_path, document):
    shift = {"disc": 70, "cross": 3}
    document["categories"] = [{"id": id, "name": name} for name, id in shift.items()]
    document["annotations"] = []
    dataset = opened(tmp_path, document)
    assert dataset.category_ids(["disc", "cross", "disc"]) == [70, 3, 70]
    with pytest.raises(
        SameboxError, match=r"no category is called person, car; its categories are cross, disc;"
    ):
        dataset.category_ids(["person", "disc", "car"])


def test_reading_prints_nothing(capsys):
    assert len(CocoDataset(SHAPES / "val", ANNOTATIONS).ground_truth.anns) == 987
    assert capsys.readouterr() == ("", "")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SameboxError, match=r"none\.json: no such file"):
        CocoDataset(SHAPES / "val", tmp_path / "none.json")


@pytest.mark.parametrize("annotations", [{}, {"annotations": []}])
def test_a_test_set_has_only_images_and_categories(tmp_path, document, annotations):
    assert opened(tmp_path, document).annotated
    del document["annotations"]
    dataset = opened(tmp_path, document | annotations)
    assert not dataset.annotated
    assert len(dataset.images) == 200
    assert dataset.category_ids(["disc"]) == [1]


@pytest.mark.parametrize("section", ["images", "categories"])
def test_a_missing_section_is_named(tmp_path, document, section):
    del document[section]
    with pytest.raises(SameboxError, match=f"instances.json: no list `{section}`"):
        opened(tmp_path, document)


def test_a_missing_key_is_named(tmp_path, document):
    del document["annotations"][7]["area"]
    with pytest.raises(SameboxError, match=r"annotations\[7\] has no `area`"):
        opened(tmp_path, document)


def test_categories_with_the_same_name_are_an_error(tmp_path, document):
    document["categories"][1]["name"] = "disc"
    with pytest.raises(SameboxError, match="categories has 2 entries with the name disc"):
        opened(tmp_path, document)


def test_what_was_corrected_is_noted(tmp_path, document):
    """Ids that restart in each image would keep one object per id: an AP of 2.75 in place of 38.93."""
    for number, entry in enumerate(document["annotations"]):
        entry["id"] = number % 5
    dataset = opened(tmp_path, document)
    assert len(dataset.ground_truth.anns) == 987
    assert [note.partition(":")[0] for note in dataset.notes] == ["annotations"]


RECORD = {"images": SHAPES / "val", "annotations": ANNOTATIONS}
SEGMENTS = {"annotations": SHAPES / "annotations/panoptic_val.json", "segments": SHAPES / "panoptic_val"}


def test_a_data_set_is_opened_from_its_record_with_and_without_segments():
    bare, whole = dataset_of(RECORD), dataset_of(RECORD | {"panoptic": SEGMENTS})
    assert bare.images == whole.images
    assert bare.panoptic is None
    assert len(whole.panoptic.categories) == 9


def test_segments_are_read_at_the_first_access(tmp_path):
    """A detector without segments does not need them."""
    dataset = dataset_of(RECORD | {"panoptic": SEGMENTS | {"segments": tmp_path}})
    assert len(dataset.images) == 200
    with pytest.raises(SameboxError, match=r"000020000000\.png: no such file"):
        dataset.panoptic  # noqa: B018 - the access reads them
