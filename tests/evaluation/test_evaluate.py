import json
import time
from collections import Counter
from dataclasses import replace

import demo_forms
import numpy as np
import pytest
from truth_runner import TruthRunner

import samebox.evaluation.evaluate
from samebox.coco.dataset import CocoDataset
from samebox.coco.results import results_from_detections
from samebox.comparing.measures import FURTHER, measure
from samebox.core.errors import NotHere, SameboxError
from samebox.detector import Detector, load
from samebox.evaluation.evaluate import evaluate_form, form_not_run
from samebox.evaluation.invariance import PADDING, SHAPES, InvarianceLimits
from samebox.evaluation.run import PARTS, DataSetRun, run_on_data_set
from samebox.evaluation.scores import NO_MASK_TRUTH, run_scores
from samebox.record.preprocess import read_image
from samebox.runners.torch import TorchRunner
from samebox.scoring.average_precision import coco_scores

# AP that MMDetection 3.3.0 measures for the demo's checkpoint on its 200 images, in points
MMDETECTION = {
    "AP": 35.5614,
    "AP50": 51.6404,
    "AP75": 43.0387,
    "APs": 36.6778,
    "APm": 39.1182,
    "APl": 30.7687,
}
FACTS = {"title": "ONNX Runtime", "dataset": "shapes", "runtime": "onnx", "notes": ["simplified"]}


@pytest.fixture(scope="module")
def detector():
    with load(demo_forms.dynamic()) as detector:
        yield detector


@pytest.fixture
def dataset(tmp_path):
    """Six images, all of which can be run."""
    return demo_forms.small_set(tmp_path / "set")


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    """Six images: the first is missing, the third is a text, the fourth is half a file."""
    folder = tmp_path_factory.mktemp("damaged")
    dataset = demo_forms.small_set(folder)
    missing, _, text, half, *_ = (dataset.path(record) for record in dataset.images)
    missing.unlink()
    text.write_text("no image")
    half.write_bytes(half.read_bytes()[:300])
    return dataset


def boxes_by_image(results):
    """Rows x, y, width, height, score by image id."""
    found = {}
    for result in results:
        found.setdefault(result["image_id"], []).append([*result["bbox"], result["score"]])
    return {image: np.array(rows) for image, rows in found.items()}


def test_every_image_is_run_once_in_the_order_of_ids(detector, dataset):
    run = run_on_data_set(detector, dataset, batch=4, warmup=0)
    assert run.skipped == {}
    ids = [result["image_id"] for result in run.results]
    assert list(dict.fromkeys(ids)) == [record.id for record in dataset.images] == sorted(set(ids))
    images = [read_image(dataset.path(record)) for record in dataset.images]
    answers = [found for group in (images[:4], images[4:]) for found in detector.batch(group)]
    expected = [score for found in answers for score in found.scores.tolist()]
    assert [result["score"] for result in run.results] == expected


def test_a_batch_may_have_images_of_different_sizes(detector, dataset, monkeypatch):
    shapes = []
    preprocess = Detector.preprocess
    monkeypatch.setattr(
        Detector,
        "preprocess",
        lambda self, images: shapes.append([i.shape for i in images]) or preprocess(self, images),
    )
    run_on_data_set(detector, dataset, batch=4, warmup=0)
    assert [len(batch) for batch in shapes] == [4, 2]
    assert len({shape for batch in shapes for shape in batch}) > 2


def test_results_have_the_category_ids_of_the_data_set(detector, dataset):
    run = run_on_data_set(detector, dataset, batch=6, warmup=0)
    labels = {result["category_id"] for result in run.results}
    assert labels <= set(dataset.category_ids(detector.spec.class_names))


def test_warmup_batches_are_run_and_not_timed(detector, dataset, monkeypatch):
    calls = []
    network = type(detector.runner).__call__
    monkeypatch.setattr(
        type(detector.runner), "__call__", lambda self, inputs: calls.append(1) or network(self, inputs)
    )
    run = run_on_data_set(detector, dataset, batch=2, warmup=2)
    assert len(calls) == 2 + 3
    assert {part: len(times) for part, times in run.times.items()} == dict.fromkeys(PARTS, 3)


def test_times_are_milliseconds_per_image():
    run = DataSetRun()
    run.times["network"] = [1.0, 2.0, 3.0, 100.0]
    assert run.timing() == {"network": {"median": 2.5, "p95": pytest.approx(85.45)}}
    assert run.timed("post", 4, lambda: "value") == "value"
    assert 0 <= run.times["post"][0] < 100


@pytest.mark.parametrize("batch", [1, 4])
def test_an_image_that_cannot_be_read_is_left_out_and_named(detector, damaged, batch):
    run = run_on_data_set(detector, damaged, batch, warmup=1)
    names = [record.file_name for record in damaged.images]
    assert {*run.skipped} == {names[0], names[2], names[3]}
    assert "no such file; put the data set's images there" in run.skipped[names[0]]
    for name in (names[2], names[3]):
        assert f"{name}: not an image that OpenCV can decode" in run.skipped[name]
    assert {result["image_id"] for result in run.results} == {damaged.images[i].id for i in (1, 4, 5)}


def test_an_image_left_out_counts_as_without_detections(detector, damaged):
    form = evaluate_form(FACTS, lambda: open_again(detector), damaged, batches=[1, 4], warmup=0)
    assert [entry["file_name"] for entry in form.metrics["skipped"]] == [
        damaged.images[i].file_name for i in (0, 2, 3)
    ]
    assert all("\n" not in entry["reason"] for entry in form.metrics["skipped"])
    everything = coco_scores(damaged.ground_truth, form.results, [record.id for record in damaged.images])
    assert form.metrics["score"]["1"]["bbox"]["AP"] == everything.stats["AP"]
    readable = coco_scores(damaged.ground_truth, form.results, [damaged.images[i].id for i in (1, 4, 5)])
    assert readable.stats["AR100"] > everything.stats["AR100"] > 0


def open_again(detector):
    return load(detector.runner.path)


def test_metrics_curves_and_results_of_a_measured_form(detector, dataset):
    form = evaluate_form(FACTS, lambda: open_again(detector), dataset, batches=[2, 1], warmup=1)
    metrics = form.metrics
    assert metrics.items() >= FACTS.items()
    assert (metrics["status"], metrics["reason"]) == ("measured", None)
    assert (metrics["images"], metrics["skipped"]) == (6, [])
    assert set(metrics["timing"]) == set(PARTS)
    for times in metrics["timing"].values():
        assert 0 < times["median"] <= times["p95"] < 10_000
    assert metrics["images_per_second"] > 0
    assert metrics["peak_mb"] > 10  # the size of the session alone
    assert list(metrics["score"]) == ["2", "1"]
    assert set(metrics["score"]["1"]["bbox"]["per_class"]) == set(detector.spec.class_names)
    assert set(form.curves["bbox"]) == {"recall", "precision_50", "precision_75", "precision_mean"}
    assert (
        form.results == run_on_data_set(detector, dataset, batch=2, warmup=0).results
    )  # of the first batch size
    json.dumps([metrics, form.curves, form.results])


def test_images_of_a_batch_that_does_not_fit_are_run_one_by_one(detector, dataset, monkeypatch):
    """Two images together may need a canvas that the form refuses although each fits alone."""
    preprocess = Detector.preprocess

    def limited(self, images):
        batch = preprocess(self, images)
        if len(images) > 1 or batch.originals[0].tolist() == original:
            raise SameboxError("too large a canvas")
        return batch

    first = dataset.images[0]
    original = [first.height, first.width]
    unlike = [record for record in dataset.images if [record.height, record.width] != original]
    monkeypatch.setattr(Detector, "preprocess", limited)
    run = run_on_data_set(detector, dataset, batch=6, warmup=0)
    assert run.skipped[first.file_name] == "too large a canvas"
    assert {result["image_id"] for result in run.results} == {record.id for record in unlike}


def test_a_form_with_a_fixed_batch_is_evaluated_at_any_batch_size(dataset):
    with load(demo_forms.fixed()[0]) as fixed:
        by_batch = [run_on_data_set(fixed, dataset, batch, warmup=0) for batch in (1, 2, 3)]
    assert [run.skipped for run in by_batch] == [{}, {}, {}]
    alone, full, split = (boxes_by_image(run.results) for run in by_batch)
    assert len(alone) == 6
    for image, rows in alone.items():
        np.testing.assert_allclose(full[image], rows, atol=1e-2)
        np.testing.assert_allclose(split[image], rows, atol=1e-2)


def test_a_batch_above_a_fixed_batch_is_not_filled_with_the_answers_of_smaller_batches(dataset):
    facts = {"title": "fixed", "dataset": "shapes", "notes": []}
    form = evaluate_form(facts, lambda: load(demo_forms.fixed()[0]), dataset, [1, 2, 4], 0)
    assert set(form.metrics["score"]) == {"1", "2"}
    assert form.metrics["batches_not_run"] == {"4": "the form takes a batch of 2"}
    assert measure(form.metrics, "bbox", 4) == "the form takes a batch of 2"


@pytest.mark.parametrize("batches", [[], [0], [-4], [1, 0], ["4"], [2.0], [True]])
def test_batch_sizes_must_be_numbers_from_one_up(dataset, batches):
    with pytest.raises(
        SameboxError, match=r"evaluate\.batches: \[.*\]: give one number or more, each from 1"
    ):
        evaluate_form(FACTS, lambda: pytest.fail("was opened"), dataset, batches, warmup=0)


def test_a_negative_warmup_is_an_error(dataset):
    with pytest.raises(SameboxError, match=r"evaluate\.warmup: -1: give a number from 0 up"):
        evaluate_form(FACTS, lambda: pytest.fail("was opened"), dataset, [1], warmup=-1)


class Capped(TruthRunner):
    """Counts all its images as having reached a cap, as PyTorch's runner counts those that have."""

    def __init__(self, dataset):
        super().__init__(dataset)
        self.notes = ("all nodes ran here",)
        self.caps = Counter()

    def __call__(self, inputs):
        self.caps["max_per_img=24"] += len(inputs["sizes"])
        self.caps["nms_pre=9"] += 0
        return super().__call__(inputs)


def test_reached_caps_and_the_notes_of_the_runner_become_notes(dataset):
    facts = {"title": "Capped", "dataset": "few", "notes": ["a note"]}
    form = evaluate_form(facts, lambda: Detector(Capped(dataset)), dataset, batches=[1, 3], warmup=2)
    count = len(dataset.images)
    cut = f"max_per_img=24 was reached in {count} of {count} images: detections beyond it are cut off"
    assert form.metrics["notes"] == ["a note", "all nodes ran here", cut]


def test_it_is_an_error_if_no_image_can_be_run(detector, damaged, tmp_path):
    elsewhere = CocoDataset(tmp_path, demo_forms.ANNOTATIONS)
    with pytest.raises(SameboxError, match=r"shapes: none of its images could be run: .*no such file"):
        evaluate_form(FACTS, lambda: open_again(detector), elsewhere, [4], warmup=0)


def test_classes_that_the_data_set_lacks_are_an_error_before_the_first_image(detector, dataset, monkeypatch):
    monkeypatch.setattr(dataset, "_ids", {"disc": 1})
    with pytest.raises(SameboxError, match="no category is called square, triangle, star, ring, cross"):
        run_on_data_set(detector, dataset, batch=1, warmup=0)


def test_not_here_is_passed_on(dataset):
    def not_here():
        raise NotHere("no GPU")

    with pytest.raises(NotHere, match="no GPU"):
        evaluate_form(FACTS, not_here, dataset, [1], warmup=0)


def test_a_form_that_was_not_run_has_the_reason():
    form = form_not_run(FACTS, "not run: no GPU")
    assert not form.measured
    assert form.metrics["reason"] == "not run: no GPU"
    assert form.metrics["score"] is form.metrics["timing"] is form.metrics["peak_mb"] is None


def with_truth(dataset, masks="true", batches=(1, 4)):
    """The form that returns the annotations."""
    return evaluate_form(FACTS, lambda: Detector(TruthRunner(dataset, masks)), dataset, batches, warmup=0)


def test_masks_are_scored_beside_boxes_at_each_batch(dataset):
    form = with_truth(dataset)
    for by_kind in form.metrics["score"].values():
        assert set(by_kind) == {"bbox", "segm", *FURTHER}
        assert set(form.curves) == {"bbox", "segm"}
        assert by_kind["voc"]["mAP"] == by_kind["voc07"]["mAP"] == by_kind["recall"]["AR100"] == 100
        assert set(by_kind["voc"]["per_class"]) == set(dataset.class_names)
        assert by_kind["bbox"]["AP"] == pytest.approx(100)
        assert by_kind["segm"]["AP"] > 95  # the accuracy of a shape in 28x28 cells
        assert set(by_kind["segm"]["per_class"]) == set(dataset.class_names)
    assert form.metrics["notes"] == FACTS["notes"]
    sizes = {record.id: [record.height, record.width] for record in dataset.images}
    assert all(result["segmentation"]["size"] == sizes[result["image_id"]] for result in form.results)
    json.dumps([form.metrics, form.curves, form.results])


def test_wrong_masks_lose_mask_ap_only(dataset):
    scores = with_truth(dataset, masks="full", batches=[1]).metrics["score"]["1"]
    assert scores["bbox"]["AP"] == pytest.approx(100)
    assert scores["segm"]["AP"] < 60


def test_a_network_without_masks_is_scored_by_boxes_only(dataset):
    form = with_truth(dataset, masks=None)
    assert set(form.metrics["score"]["1"]) == set(form.metrics["score"]["4"]) == {"bbox", *FURTHER}
    assert form.metrics["notes"] == FACTS["notes"]
    assert not any("segmentation" in result for result in form.results)


@pytest.mark.parametrize("given", [None, []])
def test_a_data_set_without_masks_is_scored_by_boxes_with_a_note(dataset, given):
    form_of = TruthRunner(demo_forms.whole_set())
    entry = next(iter(dataset.ground_truth.anns.values()))
    if given is None:
        del entry["segmentation"]
    else:
        entry["segmentation"] = given
    form = evaluate_form(FACTS, lambda: Detector(form_of), dataset, [1], warmup=0)
    assert set(form.metrics["score"]["1"]) == {"bbox", *FURTHER}
    assert form.metrics["notes"] == [*FACTS["notes"], NO_MASK_TRUTH]


def test_a_network_with_masks_and_no_detections_has_mask_ap_zero(dataset, tmp_path):
    crowds = demo_forms.small_set(tmp_path / "crowds")
    for entry in crowds.ground_truth.anns.values():
        entry["iscrowd"] = 1
    run = run_on_data_set(Detector(TruthRunner(crowds)), dataset, 1, warmup=0)
    assert run.results == []
    found = run_scores(run, dataset)
    assert {kind: found[kind].stats["AP"] for kind in ("bbox", "segm")} == {"bbox": 0, "segm": 0}
    assert found["voc"].stats["mAP"] == found["recall"].stats["AR100"] == 0


def test_the_postprocessing_time_includes_pasting_and_encoding(dataset, monkeypatch):
    def slow(call):
        return lambda *given: time.sleep(0.02) or call(*given)

    monkeypatch.setattr("samebox.evaluation.run.results_from_detections", slow(results_from_detections))
    monkeypatch.setattr(Detector, "postprocess", slow(Detector.postprocess))
    run = run_on_data_set(Detector(TruthRunner(dataset)), dataset, 1, warmup=0)
    assert len(run.times["postprocess"]) == len(dataset.images)
    assert min(run.times["postprocess"]) >= 40
    assert min(run.times["network"]) < 20


def test_invariance_is_checked_on_a_few_images_after_all_measurements(dataset, monkeypatch):
    order = []
    for name in ("peak_memory_mb", "check_answers"):
        call = getattr(samebox.evaluation.evaluate, name)
        monkeypatch.setattr(
            samebox.evaluation.evaluate,
            name,
            lambda *given, name=name, call=call: order.append(name) or call(*given),
        )
    limits = InvarianceLimits(images=3, box=0.05, score=1e-3, mask=0.99, share=0.99)
    form = evaluate_form(FACTS, lambda: load(demo_forms.dynamic()), dataset, [1], warmup=0, limits=limits)
    assert order == ["peak_memory_mb", "check_answers"]
    assert [(entry["images"], entry["passed"]) for entry in form.metrics["invariance"]] == [(3, True)] * 3
    chosen = [dataset.images[place].id for place in (0, 2, 5)]
    assert {check: [*answers] for check, answers in form.other_canvases.items()} == {
        PADDING: chosen, SHAPES: chosen,
    }  # fmt: skip
    assert all(one["image_id"] == chosen[0] for one in form.other_canvases[PADDING][chosen[0]])
    assert form.metrics["notes"] == FACTS["notes"]
    json.dumps([form.metrics, form.other_canvases])


def test_images_that_cannot_be_read_are_not_checked_for_invariance(damaged):
    limits = InvarianceLimits(images=9, box=0.05, score=1e-3, mask=0.99, share=0.99)
    form, unchecked = (
        evaluate_form(FACTS, lambda: Detector(TruthRunner(damaged)), damaged, [1], warmup=0, limits=given)
        for given in (limits, replace(limits, images=0))
    )
    assert [*form.other_canvases[SHAPES]] == [damaged.images[place].id for place in (1, 4, 5)]
    # the runner returns the annotations in the order of the data set, whatever its inputs are
    assert [entry["passed"] for entry in form.metrics["invariance"]] == [False] * 3
    assert len([note for note in form.metrics["notes"] if note.startswith("invariance, ")]) == 3
    assert (unchecked.metrics["invariance"], unchecked.other_canvases) == ([], {})


def test_ap_on_the_whole_set_equals_that_measured_by_mmdetection(detector, shapes):
    """ONNX Runtime against the figures of MMDetection, and PyTorch against ONNX Runtime."""
    dataset = demo_forms.whole_set()
    with Detector(TorchRunner(shapes.network, shapes.spec).__enter__()) as reference:
        by_torch, by_onnx = (
            coco_scores(
                dataset.ground_truth,
                run_on_data_set(form, dataset, 1, 0).results,
                [r.id for r in dataset.images],
            ).stats
            for form in (reference, detector)
        )
    assert len(dataset.images) == 200
    for name, points in MMDETECTION.items():
        assert by_onnx[name] == pytest.approx(points, abs=0.1)
        assert by_torch[name] == pytest.approx(by_onnx[name], abs=0.02)
