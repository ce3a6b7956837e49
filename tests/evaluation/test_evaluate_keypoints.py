"""A keypoint detector, from the network's outputs to the table, the page and the pictures of `predict`."""

import json

import demo_forms
import numpy as np
import pytest
from report_forms import differences
from truth_runner import ROWS, TruthRunner

from samebox.comparing.measures import FURTHER
from samebox.detector import Detector
from samebox.evaluation.evaluate import evaluate_form
from samebox.evaluation.run import run_on_data_set
from samebox.evaluation.scores import NO_KEYPOINT_TRUTH
from samebox.predict import predict
from samebox.record.preprocess import read_image
from samebox.reporting.page import page
from samebox.reporting.section import Section
from samebox.scoring.average_precision import KEYPOINT_STATS

SIDE = 56


class KeypointTruth(TruthRunner):
    """A runner that also returns the annotated keypoints, to the accuracy of 56x56 cells.

    The first `displaced` keypoints of each object are moved to the upper left corner of its box.
    """

    def __init__(self, dataset, displaced=0):
        super().__init__(dataset, masks=None)
        self._displaced = displaced

    def _answer(self, size):
        record = self._dataset.images[self._next % len(self._dataset.images)]
        answer = super()._answer(size)
        objects = [one for one in self._dataset.ground_truth.imgToAnns[record.id] if not one["iscrowd"]]
        count = len(objects[0]["keypoints"]) // 3
        logits = np.full((ROWS, count, SIDE, SIDE), -9, np.float32)
        for row, entry in enumerate(objects):
            x, y, width, height = entry["bbox"]
            places = np.reshape(entry["keypoints"], (-1, 3))[:, :2] + 0.5
            cells = ((places - (x, y)) / (width, height) * SIDE).astype(int)
            cells[: self._displaced] = 0
            logits[row, range(count), cells[:, 1], cells[:, 0]] = 9
        return answer | {"keypoints": logits}


def with_keypoints(dataset, count=17):
    """Add keypoints to each object of the data set: random pixels of its box, the last two not labelled."""
    drawn = np.random.default_rng(0)
    for entry in dataset.ground_truth.anns.values():
        x, y, width, height = entry["bbox"]
        points = np.zeros((count, 3))
        points[:, 0] = x + drawn.integers(0, width, count)
        points[:, 1] = y + drawn.integers(0, height, count)
        points[:-2, 2] = 2
        entry["keypoints"], entry["num_keypoints"] = points.flatten().tolist(), count - 2
    return dataset


@pytest.fixture
def dataset(tmp_path):
    return with_keypoints(demo_forms.small_set(tmp_path / "set"))


def form(dataset, title="PyTorch", batches=(1, 4), runner=None, **options):
    facts = {
        "detector": "points", "model": "Points", "runtime": title, "title": title, "dataset": "shapes",
        "after": None, "artifact_mb": 1.0, "published": {"keypoints": 64.0}, "notes": [], "hardware": {},
        "versions": {},
    }  # fmt: skip
    runner = runner or KeypointTruth(dataset, **options)
    return evaluate_form(facts, lambda: Detector(runner), dataset, batches, warmup=0)


def test_keypoints_are_scored_beside_boxes_at_each_batch(dataset):
    found = form(dataset)
    for by_kind in found.metrics["score"].values():
        assert set(by_kind) == {"bbox", "keypoints", *FURTHER}
        assert set(found.curves) == {"bbox", "keypoints"}
        assert by_kind["bbox"]["AP"] == pytest.approx(100)
        assert by_kind["keypoints"]["AP"] > 90  # the accuracy of 56x56 cells
        assert set(by_kind["keypoints"]) == {*KEYPOINT_STATS, "per_class"}
        assert set(by_kind["keypoints"]["per_class"]) == set(dataset.class_names)
    assert found.metrics["notes"] == []
    assert all(len(result["keypoints"]) == 51 for result in found.results)
    json.dumps([found.metrics, found.curves, found.results])


def test_wrong_keypoints_lose_keypoint_ap_only(dataset):
    scores = form(dataset, batches=[1], displaced=8).metrics["score"]["1"]
    assert scores["bbox"]["AP"] == pytest.approx(100)
    assert scores["keypoints"]["AP"] < 40


def test_keypoints_that_cannot_be_scored_become_a_note(dataset, tmp_path):
    without = demo_forms.small_set(tmp_path / "without")
    others = with_keypoints(demo_forms.small_set(tmp_path / "others"), count=5)
    for scored_on, answering in ((without, dataset), (others, others), (dataset, others)):
        found = form(scored_on, batches=[1], runner=KeypointTruth(answering))
        assert set(found.metrics["score"]["1"]) == {"bbox", *FURTHER}
        assert found.metrics["notes"] == [NO_KEYPOINT_TRUTH]


def test_a_detector_without_detections_has_keypoint_ap_zero(dataset, tmp_path):
    empty = with_keypoints(demo_forms.small_set(tmp_path / "empty"))
    runner = KeypointTruth(empty)
    answer = runner._answer

    def nothing(size):
        return {name: 0 * value for name, value in answer(size).items()}

    runner._answer = nothing
    run = run_on_data_set(Detector(runner), dataset, 1, warmup=0)
    assert (run.results, run.keypoints) == ([], 17)
    assert form(dataset, batches=[1], runner=runner).metrics["score"]["1"]["keypoints"]["AP"] == 0


def test_the_page_shows_the_loss_of_a_form_whose_keypoints_differ(dataset):
    forms = [form(dataset), form(dataset, "ONNX Runtime", displaced=14)]
    section = Section(forms, dataset, [], differences(forms))
    shown = page([section], images=1)
    assert "Keypoint precision over recall" in shown
    assert "Keypoint AP of each class" in shown
    assert "Keypoint AP, step by step" in shown
    assert "OKS 0.50" in shown
    assert "published by the detector&#39;s authors: 64.0 keypoint AP" in shown
    loss = -section.comparison.rows[1].values["keypoints/AP_delta"]
    assert loss > 30
    assert f"is {loss:.2f}, by ONNX Runtime." in shown
    counts = [sum(not one["iscrowd"] for one in many) for many in dataset.ground_truth.imgToAnns.values()]
    assert f": {max(counts)} matched, {max(counts)} moved, 0 rescored, 0 lost, 0 new" in shown


def test_forms_that_agree_have_no_moved_detections(dataset):
    forms = [form(dataset), form(dataset, "ONNX Runtime")]
    shown = page([Section(forms, dataset, [], differences(forms))], images=1)
    assert " matched, 0 moved, 0 rescored, 0 lost, 0 new" in shown


def test_the_command_draws_keypoints_and_writes_them(dataset, tmp_path):
    images = [dataset.path(record) for record in dataset.images[:2]]
    for name, runner in (("points", KeypointTruth(dataset)), ("bare", TruthRunner(dataset, None))):
        assert predict(Detector(runner), images, tmp_path / name, threshold=0.3).errors == {}
    results = json.loads((tmp_path / "points/detections.json").read_text())
    assert all(len(result["keypoints"]) == 51 for result in results)
    picture = f"0001_{images[0].stem}.jpg"
    drawn, bare = (read_image(tmp_path / name / picture).astype(int) for name in ("points", "bare"))
    changed = np.abs(drawn - bare).max(-1) > 60
    for result in results:
        if result["image_id"] == 1:
            x, y = np.reshape(result["keypoints"], (-1, 3))[:, :2].round().astype(int).T
            assert changed[y, x].mean() > 0.5
