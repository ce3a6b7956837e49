"""Evaluation of a detector that gives segments, by one that answers what the annotations say."""

from dataclasses import replace

import cv2
import demo_forms
import numpy as np
import pytest
from truth_runner import TruthRunner

from samebox.coco.dataset import CocoDataset
from samebox.coco.evaluated import read_evaluated, write_evaluated
from samebox.coco.panoptic import PanopticSet
from samebox.decoding import Decoding, PanopticRule
from samebox.detector import Detector
from samebox.errors import SameboxError
from samebox.evaluate import NO_SEGMENTS, evaluated, run_over
from samebox.spec import METADATA_KEY, Spec

FACTS = {"detector": "truth", "title": "Truth", "dataset": "few", "runtime": "truth", "notes": []}
STUFF = ("water", "sky", "field")  # in another order than the data set's
SEGMENTS = (
    demo_forms.ROOT / "demo/shapes/annotations/panoptic_val.json",
    demo_forms.ROOT / "demo/shapes/panoptic_val",
)


class PanopticTruth(TruthRunner):
    """Says besides of every point whether it is a thing's or which stuff it is, as the annotations have it.

    With `none` it says sky of every point.
    """

    def __init__(self, dataset, none=False, stuff=STUFF):
        super().__init__(dataset)
        spec = Spec.from_metadata(self.metadata, "truth")
        rule = PanopticRule(stuff, stuff_area=64)
        self.metadata = {METADATA_KEY: replace(spec, decoding=Decoding(panoptic=rule)).to_json()}
        self._truth, self._none = PanopticSet(*SEGMENTS), none

    def __call__(self, inputs):
        first = self._next
        answer = super().__call__(inputs)
        height, width = inputs["images"].shape[2] // 4, inputs["images"].shape[3] // 4
        semantics = np.zeros((len(inputs["sizes"]), 1 + len(STUFF), height, width), np.float32)
        for index, size in enumerate(inputs["sizes"]):
            record = self._dataset.images[(first + index) % len(self._dataset.images)]
            classes = self._classes(record.id)
            rows, columns = (-(-int(side) // 4) for side in size)
            for number, values in enumerate(semantics[index]):
                one = (classes == number).astype(np.float32)
                values[:rows, :columns] = cv2.resize(one, (columns, rows), interpolation=cv2.INTER_AREA)
        return answer | {"semantics": semantics}

    def _classes(self, image_id):
        truth = self._truth.segmented(image_id)
        if self._none:
            return np.full(truth.ids.shape, 1 + STUFF.index("sky"))
        numbers = dict(zip(self._truth.category_ids(STUFF, is_thing=False), range(1, 4), strict=True))
        classes = np.zeros(truth.ids.shape, int)
        for number, category in truth.categories.items():
            classes[truth.ids == number] = numbers.get(category, 0)
        return classes


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
    assert list(scores) == ["bbox", "segm", "panoptic", "semantics"]
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
        assert (again.panoptic.segmented(record.id).ids == result.segmented().ids).all()
    assert again.panoptic.categories == dataset.panoptic.categories
    assert len(list((tmp_path / "panoptic").iterdir())) == len(dataset.images)


def test_a_data_set_without_segments_is_told_in_a_note(dataset, tmp_path):
    bare = demo_forms.small_set(tmp_path)
    done = measured(bare)
    assert list(done.metrics["score"]["1"]) == ["bbox", "segm"]
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
