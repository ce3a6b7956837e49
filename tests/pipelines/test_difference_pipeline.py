"""pipelines.difference and the stage `differences` on two forms made by hand."""

import copy
import json
import sys
from pathlib import Path

import cv2
import demo_forms
import pytest

import pipelines.chain
import pipelines.difference
import stages.compare
import stages.differences
from samebox.coco.dataset import CocoDataset
from samebox.coco.evaluated import EvaluatedForm, write_evaluated
from samebox.core.errors import SameboxError
from samebox.scoring.average_precision import coco_scores
from stages.compose import compose

MOVED = 20000003  # the image in which the other form's detections lie elsewhere


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The demo's first six images, and their objects."""
    folder = tmp_path_factory.mktemp("set")
    demo_forms.small_set(folder)
    return [f"dataset.images={folder}/val", f"dataset.annotations={folder}/annotations.json"]


def asked(place, *overrides):
    return [*place, "differences.resamples=20", *overrides]


@pytest.fixture(scope="module")
def dataset(place):
    return CocoDataset(*(Path(override.partition("=")[2]) for override in place))


def form(dataset, runtime, results, **changes):
    found = coco_scores(dataset.ground_truth, results, [record.id for record in dataset.images])
    metrics = {
        "detector": "retinanet_shapes", "runtime": runtime, "title": runtime, "dataset": "shapes",
        "model": "RetinaNet", "after": "torch", "status": "measured", "reason": None, "images": 6,
        "skipped": [],
        "score": {"1": {"bbox": {**found.stats, "per_class": found.per_class}}},
        "timing": {part: {"median": 1.5, "p95": 2.5} for part in ("preprocess", "network", "postprocess")},
        "images_per_second": 40.0, "peak_mb": 321.0, "device_peak_mb": None, "artifact_mb": 4.8,
        "published": None, "notes": [], "hardware": {}, "versions": {}, **changes,
    }  # fmt: skip
    return EvaluatedForm(metrics, {"bbox": found.precision}, results)


@pytest.fixture(scope="module")
def forms(dataset):
    """What is true, once as it is and once with an image's boxes moved by half their width."""
    results = [
        {key: one[key] for key in ("image_id", "category_id", "bbox")} | {"score": 0.8}
        for one in dataset.ground_truth.dataset["annotations"]
        if not one["iscrowd"]
    ]
    moved = copy.deepcopy(results)
    for result in moved:
        if result["image_id"] == MOVED:
            result["bbox"][0] += result["bbox"][2] / 2
    return [form(dataset, "torch", results), form(dataset, "simplified", moved)]


def not_run(measured, runtime="simplified"):
    nothing = dict.fromkeys(("score", "timing", "images_per_second", "peak_mb", "artifact_mb"))
    named = {"runtime": runtime, "title": runtime, "status": "not run", "reason": "no GPU here"}
    return EvaluatedForm(measured.metrics | nothing | named)


def test_the_figures_and_the_pictures(place, forms, tmp_path, monkeypatch, capsys):
    wanted = []

    def chain(config, runtimes):
        wanted.extend(runtimes)
        return iter(forms)

    monkeypatch.setattr(pipelines.difference, "chain", chain)
    pipelines.difference.run(compose("difference", asked(place, f"out={tmp_path}", "to=simplified")))
    assert wanted == ["torch", "simplified"]
    printed = capsys.readouterr().out
    moved = sum(result["image_id"] == MOVED for result in forms[0].results)
    left = len(forms[0].results) - moved
    assert (
        f"{left} matched, 0 moved (IoU below 0.99), 0 rescored (by more than 0.001), {moved} lost" in printed
    )
    assert "images that differ: 1\n" in printed
    assert "ΔAP 95%" in printed
    document = json.loads((tmp_path / "difference.json").read_text())
    assert document["counts"]["new"] == moved
    assert document["images"] == [[MOVED, pytest.approx(1.6 * moved)]]
    low, high = document["intervals"]["bbox"]
    assert low < high <= 0
    picture = cv2.imread(str(tmp_path / "gallery.jpg"))
    height, width, _ = cv2.imread(str(demo_forms.IMAGES / f"0000{MOVED}.jpg")).shape
    assert picture.shape == (height, 2 * width, 3)
    assert abs(picture[:, :width].astype(int) - picture[:, width:]).max() > 100


def test_the_chain_writes_the_table_and_the_report(place, forms, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pipelines.chain, "chain", lambda config, runtimes: forms)
    monkeypatch.setattr(pipelines.chain, "track_detector", lambda *_, **__: None)
    monkeypatch.setattr(sys, "argv", ["samebox chain", "runtimes=[torch,simplified]"])
    config = compose("chain", asked(place, f"out={tmp_path}", "compare.images=1"))
    pipelines.chain.run(config)
    names = {"index.html", "report.md", "table.csv", "table.json", "table.md", "table.txt"}
    assert {path.name for path in tmp_path.iterdir()} == names
    printed = capsys.readouterr().out
    assert printed == f"{(tmp_path / 'table.txt').read_text()}report: {tmp_path}/index.html\n"
    report = (tmp_path / "report.md").read_text()
    assert "samebox chain 'runtimes=[torch,simplified]'" in report
    assert "Changes of detections" in report


def test_a_form_that_does_not_run_here_is_a_mistake(place, forms, tmp_path, monkeypatch):
    monkeypatch.setattr(pipelines.difference, "chain", lambda config, runtimes: [forms[0], not_run(forms[1])])
    with pytest.raises(SameboxError, match="simplified: no GPU here; compare forms that run here"):
        pipelines.difference.run(compose("difference", asked(place, f"out={tmp_path}")))
    assert list(tmp_path.iterdir()) == []


def test_the_stages_leave_them_and_judge_by_them(place, forms, tmp_path, monkeypatch, capsys):
    names = ["torch", "simplified", "tensorrt_rtx"]
    monkeypatch.setattr(stages.differences, "axis", lambda _: names)
    for name, one in zip(names, [*forms, not_run(forms[1], "tensorrt_rtx")], strict=True):
        write_evaluated(tmp_path / "evaluated/retinanet_shapes" / name, one)
    written = ("evaluated", "differences", "compared", "metrics", "plots")
    places = [f"paths.{name}={tmp_path}/{name}" for name in written]
    stages.differences.run(compose("differences", asked(place, *places[:2])))
    document = json.loads((tmp_path / "differences/retinanet_shapes/differences.json").read_text())
    assert list(document["detections"]) == list(document["intervals"]) == ["simplified"]
    low, high = document["intervals"]["simplified"]["bbox"]
    loss = forms[0].metrics["score"]["1"]["bbox"]["AP"] - forms[1].metrics["score"]["1"]["bbox"]["AP"]
    assert -high < loss < -low
    compare = [*place, "compare.images=0", *places]
    within = (loss - high) / 2  # between what is lost and the least that may be
    stages.compare.run(compose("compare", [*compare, f"compare.max_ap_drop={within}"]))
    assert "the interval reaches within the limit" in capsys.readouterr().out
    row = json.loads((tmp_path / "compared/retinanet_shapes/table.json").read_text())["rows"][1]
    assert (row["bbox/AP_delta_low"], row["bbox/AP_delta_high"]) == (low, high)
