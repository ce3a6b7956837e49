import csv
import json
import multiprocessing
from dataclasses import replace

import numpy as np
import pytest

from samebox.core.errors import SameboxError
from samebox.reporting.sweep_page import (
    pareto_front,
    ran_concurrently,
    scatter,
    sweep_notes,
    sweep_page,
    write_overview,
)
from samebox.reporting.sweep_points import (
    Point,
    point_path,
    read_point,
    read_points,
    varied_keys,
    write_point,
)
from samebox.reporting.sweep_table import flat_rows, sweep_rows


def form(runtime, ap, ms, kinds=("bbox",), **change):
    stats = {"AP": ap, "AP50": ap + 10, "AP75": ap + 5, "per_class": {}}
    steps = {"preprocess": 1.0, "network": ms - 1.5, "postprocess": 0.5}
    return {
        "detector": "retinanet", "dataset": "shapes", "runtime": runtime, "title": runtime.upper(),
        "status": "measured", "reason": None, "score": {"1": dict.fromkeys(kinds, stats)}, "skipped": [],
        "timing": {step: {"median": value, "p95": value} for step, value in steps.items()}, "notes": [],
        "peak_mb": 30.0, "device_peak_mb": None, "artifact_mb": 4.5, "hardware": {"cpus": 2},
        "published": None,
    } | change  # fmt: skip


def not_run(runtime):
    nothing = dict.fromkeys(("score", "timing", "peak_mb", "artifact_mb"))
    return form(runtime, 0, 0, status="not run", reason="no <GPU> here") | nothing


def point(opset, *forms, began=0.0, **change):
    plain = Point("k", ["export.opset"], [f"export.opset={opset}"], "measured", None, list(forms), {},
                  began, began + 1, "here")  # fmt: skip
    return replace(plain, **change)


@pytest.fixture
def points():
    return [
        point(9, status="failed", reason="export.opset: 9 is outside"),
        point(16, form("torch", 36.0, 40), form("onnx", 35.9, 20), began=1),
        point(18, form("torch", 36.0, 40), form("onnx", 36.0, 10), not_run("engine"), began=2),
    ]


def write_points(folder, points):
    for index, one in enumerate(points):
        path = point_path(folder, f"{index}")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_point(path, one)


def test_a_record_is_read_back(tmp_path, points):
    write_points(tmp_path, points)
    assert read_point(point_path(tmp_path, "2")) == points[2]
    point_path(tmp_path, "2").write_text('{"other": 1}')
    with pytest.raises(SameboxError, match=r"2\.json: not the record of a point"):
        read_points(tmp_path)


def test_points_are_sorted_by_their_values_as_numbers(tmp_path, points):
    write_points(tmp_path, reversed(points))
    assert [one.values["export.opset"] for one in read_points(tmp_path)] == ["9", "16", "18"]


def test_a_row_is_a_form_at_a_point_or_a_failure(points):
    found = sweep_rows(points)
    assert [(row.number, row.form, row.status) for row in found] == [
        (1, "", "failed"), (2, "TORCH", "measured"), (2, "ONNX", "measured"),
        (3, "TORCH", "measured"), (3, "ONNX", "measured"), (3, "ENGINE", "not run"),
    ]  # fmt: skip
    assert found[2].numbers["ms"] == 20
    assert found[2].numbers["bbox/AP_delta"] == pytest.approx(-0.1)
    assert found[0].reason == "export.opset: 9 is outside"


def test_the_interval_of_a_difference_is_shown_beside_it(tmp_path, points):
    write_points(tmp_path, [replace(points[1], intervals={"onnx": {"bbox": [-0.25, 0.5]}}), points[2]])
    write_overview(tmp_path)
    flat = json.loads((tmp_path / "sweep.json").read_text())
    ends = [(row["bbox/AP_delta_low"], row["bbox/AP_delta_high"]) for row in flat]
    assert ends == [(None, None), (-0.25, 0.5), (None, None), (None, None), (None, None)]
    html = (tmp_path / "sweep.html").read_text()
    assert "ΔAP 95%" in html
    assert "-0.25…+0.50" in html


def test_a_point_that_failed_halfway_keeps_its_measured_forms(points):
    halfway = replace(points[1], status="failed", reason="no space")
    assert [(row.form, row.reason) for row in sweep_rows([halfway])] == [
        ("TORCH", None), ("ONNX", None), ("", "no space"),
    ]  # fmt: skip


def test_csv_and_json_hold_the_same_rows(tmp_path, points):
    write_points(tmp_path, points)
    write_overview(tmp_path)
    flat = json.loads((tmp_path / "sweep.json").read_text())
    with (tmp_path / "sweep.csv").open() as file:
        written = list(csv.DictReader(file))
    assert [{key: "" if value is None else str(value) for key, value in row.items()} for row in flat] == [
        dict(sorted(row.items())) for row in written
    ]
    assert written[0]["reason"] == "export.opset: 9 is outside"
    assert (written[4]["export.opset"], written[4]["bbox/AP"], written[4]["ms"]) == ("18", "36.0", "10.0")


def test_the_pareto_front_has_the_pairs_that_no_other_beats():
    random = np.random.default_rng(0)
    found = [tuple(pair) for pair in random.integers(0, 12, (60, 2)).tolist()]
    kept = pareto_front(found)
    beaten = [any(x <= ms and y >= ap and (x, y) != (ms, ap) for x, y in found) for ms, ap in found]
    assert {found[index] for index in kept} == {one for one, by in zip(found, beaten, strict=True) if not by}
    assert len({found[index] for index in kept}) == len(kept)
    assert [found[index][0] for index in kept] == sorted(found[index][0] for index in kept)
    assert pareto_front([]) == []


def test_the_figure_shows_each_form_and_the_pareto_front(points):
    (axes,) = scatter(sweep_rows(points), "bbox").axes
    marks = {line.get_label(): list(zip(*line.get_data(), strict=True)) for line in axes.lines}
    assert marks["TORCH"] == [(40, 36.0), (40, 36.0)]
    assert marks["Pareto front"] == [(10, 36.0)]
    assert [text.get_text() for text in axes.texts] == ["3"]


def test_the_page_is_self_contained_and_escapes_text(points):
    html = sweep_page("opsets", points, sweep_rows(points))
    assert html.count("<svg") == 1
    assert "This sweep has 3 points, each a combination of values; 1 of them failed." in html
    assert "no &lt;GPU&gt; here" in html
    assert "failed: export.opset: 9 is outside" in html
    for outside in ("<script", "<link", 'src="', "url(http"):
        assert outside not in html


@pytest.mark.parametrize("count", [0, 1, 60])
def test_a_page_of_any_number_of_points(tmp_path, count):
    write_points(
        tmp_path, [point(index, form("onnx", 30 + index, 10 + index), began=index) for index in range(count)]
    )
    write_overview(tmp_path)
    html = (tmp_path / "sweep.html").read_text()
    assert html.count('<th scope="row">') == count
    assert html.count("<svg") == min(count, 1)


def test_masks_have_a_column_if_one_point_has_masks(points):
    masked = point(20, form("torch", 36.0, 40, ("bbox", "segm")), began=5)
    html = sweep_page("detectors", [*points, masked], sweep_rows([*points, masked]))
    assert html.count('<th scope="col">mask AP</th>') == html.count('<th scope="col">box AP</th>') == 1
    assert flat_rows(points, sweep_rows(points))[1].get("segm/AP") is None


def test_points_that_ran_concurrently_give_a_note(points):
    assert not ran_concurrently(points)
    concurrent = replace(points[2], began=1.5)
    assert ran_concurrently([*points[:2], concurrent])
    assert not ran_concurrently([*points[:2], replace(concurrent, host="elsewhere")])
    assert any("at the same time" in note for note in sweep_notes([*points[:2], concurrent]))


def test_a_note_names_its_points_unless_it_is_about_all(points):
    noted = [replace(one, forms=[form("onnx", 30, 5, notes=["slow"])]) for one in points[1:]]
    lost = replace(noted[1], reason="ONNX loses 1.00")
    assert list(sweep_notes([noted[0], lost])) == ["ONNX: slow", "point 2: ONNX loses 1.00"]


def test_varied_keys_are_listed_once_in_their_order(points):
    axes = ["export.opset", "detector"]
    more = replace(points[0], axes=axes, overrides=["detector=fcos", "export.opset=9"])
    assert list(more.values.items()) == [("export.opset", "9"), ("detector", "fcos")]
    assert varied_keys([*points, more]) == axes


def write_often(folder):
    for _ in range(3):
        write_overview(folder)


def test_several_processes_may_write_the_page(tmp_path, points):
    write_points(tmp_path, points)
    processes = [
        multiprocessing.get_context("fork").Process(target=write_often, args=(tmp_path,)) for _ in "ab"
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert (tmp_path / "sweep.html").read_text().endswith("</html>")
