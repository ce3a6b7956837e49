"""The evaluation of a detector with segments, by a runner that returns the annotations."""

import demo_forms
import pytest
from panoptic_truth import SEGMENTS, PanopticTruth

from samebox.coco.dataset import CocoDataset
from samebox.coco.evaluated import read_evaluated, write_evaluated
from samebox.comparing.measures import FURTHER
from samebox.core.errors import SameboxError
from samebox.detector import Detector
from samebox.evaluation.evaluate import evaluate_form
from samebox.evaluation.run import run_on_data_set
from samebox.evaluation.scores import NO_SEGMENT_TRUTH

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
    return evaluate_form(
        FACTS, lambda: Detector(PanopticTruth(dataset, **options)), dataset, [1, 4], warmup=0
    )


@pytest.fixture(scope="module")
def form(dataset):
    return measured(dataset)


def test_segments_are_scored_beside_boxes_and_masks(form):
    scores = form.metrics["score"]["1"]
    assert list(scores) == ["bbox", "segm", "panoptic", "semantics", *FURTHER]
    # masks of 28x28 cells and logits of stride 4 are inexact, and crowds are not detected
    assert scores["panoptic"]["RQ"] > 95
    assert 80 < scores["panoptic"]["SQ"] < 99
    assert scores["panoptic"]["PQ_stuff"] > 90
    assert scores["semantics"]["mIoU"] > 90
    assert list(scores["semantics"]["per_class"]) == ["things", "sky", "field", "water"]
    assert form.metrics["notes"] == []
    assert list(form.curves) == ["bbox", "segm"]


def test_a_batch_of_different_sizes_changes_little(form):
    alone, together = (form.metrics["score"][batch] for batch in ("1", "4"))
    assert together["panoptic"]["PQ"] == pytest.approx(alone["panoptic"]["PQ"], abs=1)
    assert together["semantics"]["mIoU"] == pytest.approx(alone["semantics"]["mIoU"], abs=1)


def test_wrong_stuff_does_not_change_the_score_of_things(dataset, form):
    """All pixels are sky; the objects are still on top."""
    scores, truth = measured(dataset, none=True).metrics["score"]["1"], form.metrics["score"]["1"]
    assert scores["panoptic"]["PQ_things"] == truth["panoptic"]["PQ_things"]
    assert scores["panoptic"]["PQ_stuff"] < 50
    assert scores["semantics"]["per_class"]["field"] == scores["semantics"]["per_class"]["things"] == 0


def test_segments_are_written_in_cocos_format_and_read_again(form, tmp_path, dataset):
    write_evaluated(tmp_path, form)
    again = read_evaluated(tmp_path)
    for result, record in zip(form.panoptic.results, dataset.images, strict=True):
        assert result.image_id == record.id
        assert (again.panoptic.segment_map(record.id).ids == result.segment_map().ids).all()
    assert again.panoptic.categories == dataset.panoptic.categories
    assert len(list((tmp_path / "panoptic").iterdir())) == len(dataset.images)


def test_a_data_set_without_segments_gives_a_note(dataset, tmp_path):
    bare = demo_forms.small_set(tmp_path)
    form = measured(bare)
    assert list(form.metrics["score"]["1"]) == ["bbox", "segm", *FURTHER]
    assert form.metrics["notes"] == [NO_SEGMENT_TRUTH]
    assert form.panoptic is None
    write_evaluated(tmp_path, form)
    assert read_evaluated(tmp_path).panoptic is None


def test_stuff_that_the_data_set_lacks_is_an_error_before_the_first_image(dataset):
    with pytest.raises(
        SameboxError, match="no category of stuff is called lava; its categories are sky, field, water"
    ):
        run_on_data_set(
            Detector(PanopticTruth(dataset, stuff=("lava", "sky", "field"))), dataset, 1, warmup=0
        )


def test_an_image_without_segments_is_an_error_before_the_first_image(dataset, tmp_path):
    folder = dataset._folder
    elsewhere = CocoDataset(folder, folder.parent / "annotations.json", (SEGMENTS[0], tmp_path))
    with pytest.raises(
        SameboxError, match=r"000020000000\.png: no such file; put the panoptic PNG files there"
    ):
        run_on_data_set(Detector(PanopticTruth(elsewhere)), elsewhere, 1, warmup=0)
