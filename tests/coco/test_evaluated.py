import pytest

from samebox.coco.evaluated import EvaluatedForm, read_evaluated, write_evaluated
from samebox.coco.results import write_results
from samebox.core.errors import SameboxError
from samebox.core.files import write_json

METRICS = {
    "detector": "fcos", "model": "FCOS", "runtime": "pytorch", "title": "PyTorch", "dataset": "shapes",
    "status": "measured", "reason": None, "score": {}, "timing": {},
}  # fmt: skip


def test_a_measured_form_is_read_with_its_curves_and_results(tmp_path):
    write_json(tmp_path / "metrics.json", METRICS)
    write_json(tmp_path / "curves.json", {"bbox": {"recall": [0.0]}})
    write_results(tmp_path / "detections.json.gz", [{"image_id": 1}])
    form = read_evaluated(tmp_path)
    assert form == EvaluatedForm(METRICS, {"bbox": {"recall": [0.0]}}, [{"image_id": 1}])
    assert form.measured
    assert form.title == "PyTorch"


def test_results_on_other_canvases_are_written_and_read(tmp_path):
    form = EvaluatedForm(METRICS, other_canvases={"padding grown": {7: [{"image_id": 7}], 12: []}})
    write_evaluated(tmp_path, form)
    assert read_evaluated(tmp_path) == form


def test_a_form_that_was_not_run_has_only_metrics(tmp_path):
    write_json(tmp_path / "metrics.json", {**METRICS, "status": "not run", "reason": "no GPU here"})
    form = read_evaluated(tmp_path)
    assert not form.measured
    assert (form.curves, form.results) == ({}, [])


def test_a_missing_file_or_key_is_named(tmp_path):
    with pytest.raises(SameboxError, match=r"metrics\.json: no such file"):
        read_evaluated(tmp_path)
    write_json(tmp_path / "metrics.json", {key: METRICS[key] for key in METRICS if key != "title"})
    with pytest.raises(SameboxError, match=r"metrics\.json: no `title`"):
        read_evaluated(tmp_path)
    write_json(tmp_path / "metrics.json", METRICS)
    with pytest.raises(SameboxError, match=r"curves\.json: no such file"):
        read_evaluated(tmp_path)
