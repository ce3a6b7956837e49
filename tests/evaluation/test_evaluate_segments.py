"""Evaluation of a detector that gives segments, by one that answers what the annotations say."""

import demo_forms
import pytest
from panoptic_truth import SEGMENTS, PanopticTruth

from samebox.coco.dataset import CocoDataset
from samebox.coco.evaluated import read_evaluated, write_evaluated
from samebox.comparing.measures import FURTHER
from samebox.core.errors import SameboxError
from samebox.detector import Detector
from samebox.evaluation.evaluate import NO_SEGMENTS, evaluated, run_over

FACTS = {
    "detector": "truth", "model": "Truth", "title": "Truth", "dataset": "few", "runtime": "truth",
    "notes": [],
}  # fmt: skip


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Six images with their segments."""
    folder = tmp_path_factory.mktemp("segments")
    demo_forms.small_set(folder)
    return CocoDataset(folder / "val", folder / "annotations.json", SEGMENTS)


def measured(dataset, **options):
    return evaluated(FACTS, lambda: Detector(PanopticTruth(dataset, **options)), dataset, [1, 4], warmup=0)


@pytest.fixture(scope="module")
def done(dataset):
    return measured(dataset)


def test_segments_are_scored_beside_boxes_and_masks(done):
    scores = done.metrics["score"]["1"]
    assert list(scores) == ["bbox", "segm", "panoptic", "semantics", *FURTHER]
    # masks of 28 by 28 cells and logits of stride 4 are not quite exact, nor are crowds found
    assert scores["panoptic"]["RQ"] > 95
    assert 80 < scores["panoptic"]["SQ"] < 99
    assert scores["panoptic"]["PQ_stuff"] > 90
    assert scores["semantics"]["mIoU"] > 90
    assert list(scores["semantics"]["per_class"]) == ["things", "sky", "field", "water"]
    assert done.metrics["notes"] == []
    assert list(done.curves) == ["bbox", "segm"]


def test_a_batch_of_different_sizes_changes_little(done):
    alone, together = (done.metrics["score"][batch] for batch in ("1", "4"))
    assert together["panoptic"]["PQ"] == pytest.approx(alone["panoptic"]["PQ"], abs=1)
    assert together["semantics"]["mIoU"] == pytest.approx(alone["semantics"]["mIoU"], abs=1)


def test_what_is_nowhere_is_no_loss_of_objects(dataset, done):
    """Everything is sky: objects are found still, and lie on top."""
    scores, truth = measured(dataset, none=True).metrics["score"]["1"], done.metrics["score"]["1"]
    assert scores["panoptic"]["PQ_things"] == truth["panoptic"]["PQ_things"]
    assert scores["panoptic"]["PQ_stuff"] < 50
    assert scores["semantics"]["per_class"]["field"] == scores["semantics"]["per_class"]["things"] == 0


def test_the_results_can_be_read_by_other_tools_and_again(done, tmp_path, dataset):
    write_evaluated(tmp_path, done)
    again = read_evaluated(tmp_path)
    for result, record in zip(done.panoptic.results, dataset.images, strict=True):
        assert result.image_id == record.id
        assert (again.panoptic.segment_map(record.id).ids == result.segment_map().ids).all()
    assert again.panoptic.categories == dataset.panoptic.categories
    assert len(list((tmp_path / "panoptic").iterdir())) == len(dataset.images)


def test_a_data_set_without_segments_is_told_in_a_note(dataset, tmp_path):
    bare = demo_forms.small_set(tmp_path)
    done = measured(bare)
    assert list(done.metrics["score"]["1"]) == ["bbox", "segm", *FURTHER]
    assert done.metrics["notes"] == [NO_SEGMENTS]
    assert done.panoptic is None
    write_evaluated(tmp_path, done)
    assert read_evaluated(tmp_path).panoptic is None


def test_stuff_that_the_data_set_lacks_ends_it_before_the_first_image(dataset):
    with pytest.raises(SameboxError, match="no category of stuff is called lava; it has sky, field, water"):
        run_over(Detector(PanopticTruth(dataset, stuff=("lava", "sky", "field"))), dataset, 1, warmup=0)


def test_an_image_without_segments_ends_it_before_the_first_image(dataset, tmp_path):
    folder = dataset._folder
    elsewhere = CocoDataset(folder, folder.parent / "annotations.json", (SEGMENTS[0], tmp_path))
    with pytest.raises(
        SameboxError, match=r"000020000000\.png: no such file; put the panoptic PNG files there"
    ):
        run_over(Detector(PanopticTruth(elsewhere)), elsewhere, 1, warmup=0)
