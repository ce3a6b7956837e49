import os
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from benchmarks import engine
from benchmarks.engine import BY_TARGET, DETECTORS, Measured, measured, sheets
from benchmarks.processes import in_own_process
from samebox.core.errors import NotHere, SameboxError
from samebox.engine.profile import Profile
from samebox.engine.record import EngineReport
from samebox.graph.simplify import SimplifyReport
from samebox.precision.convert import PrecisionReport
from stages.compose import CONF, compose

SIDE = (32, 64, 128)
SIMPLIFIED = SimplifyReport(True, None, {}, {}, detections=1, seconds=4.26)
BUILT = EngineReport(
    flavour="tensorrt_rtx",
    version="1",
    opset=18,
    targets=["SM86", "SM120"],
    profile=Profile((1, 1, 4), SIDE, SIDE),
    tf32=False,
    workspace_mb=1,
    layers=12,
    build_seconds=3.26,
    peak_memory_mb=512.4,
    onnx_sha256="",
    plan_sha256="",
    plan_bytes=2_500_000,
    metadata={},
    built_on={},
)


def family(detector: str) -> str:
    """The choice of conf/family of a detector."""
    first = yaml.safe_load((CONF / "detector" / f"{detector}.yaml").read_text())["defaults"][0]
    return next(iter(first)).removeprefix("/family/").removesuffix("@_here_")


def test_every_family_is_measured():
    known = {family(path.stem) for path in (CONF / "detector").glob("*.yaml")}
    assert {family(name) for name in DETECTORS} == known
    assert BY_TARGET in DETECTORS


def test_a_row_has_the_figures_of_each_step():
    result = Measured("one", 71.23, SIMPLIFIED, BUILT)
    assert result.row() == ["one", "71.2", "4.3", "3.3", "512", "2.5", "12"]
    assert result.remark() is None


def test_the_row_of_fp16_has_products_and_layers_by_type():
    half = PrecisionReport("fp16", 18, {"fp16": 5, "fp32": 1}, {}, [], {}, 2, None)
    built = replace(BUILT, types={"FLOAT": 7, "HALF": 4, "INT64": 1})
    result = Measured("one", 71.23, SIMPLIFIED, BUILT, half, built)
    assert result.half_row() == ["one", "5 fp16, 1 fp32", "3.3", "512", "2.5", "12", "7 fp32, 4 fp16"]
    assert Measured("one", 71.23, SIMPLIFIED, BUILT).half_row() == ["one", *["–"] * 6]


def test_a_graph_that_was_not_simplified_has_a_note():
    result = Measured("one", 71.23, replace(SIMPLIFIED, simplified=False, reason="boxes differs"), BUILT)
    assert result.remark() == "one was built unsimplified: boxes differs"


def test_the_table_by_target_follows_if_it_was_measured():
    result = Measured("one", 1.0, SIMPLIFIED, BUILT)
    assert [sheet.headings[0] for sheet in sheets([result], [])] == ["detector", "detector"]
    all_three = sheets([result], [["SM86", "3.3", "512", "2.5", "12"]])
    assert [len(sheet.rows[0]) - len(sheet.headings) for sheet in all_three] == [0, 0, 0]


@pytest.fixture
def steps(monkeypatch):
    """The reports that the steps of a detector return; a test may replace them, also by errors."""
    half = PrecisionReport("fp16", 18, {"fp16": 5}, {}, [], {}, 2, None)
    reports = {
        "export_seconds": 2.0,
        "simplify_onnx": SIMPLIFIED,
        "engine": BUILT,
        "half_precision": half,
    }

    def step(name):
        def run(*_args, **_limits):
            if isinstance(reports[name], Exception):
                raise reports[name]
            return reports[name]

        return run

    for name in reports:
        monkeypatch.setattr(engine, name, step(name))
    monkeypatch.setattr(engine, "in_own_process", lambda call, *args: call(*args))
    return reports


@pytest.mark.parametrize(
    ("step", "row"),
    [
        ("export_seconds", ["–", "–", "–", "–", "–", "–"]),
        ("simplify_onnx", ["2.0", "–", "–", "–", "–", "–"]),
        ("engine", ["2.0", "4.3", "–", "–", "–", "–"]),
    ],
)
@pytest.mark.parametrize("failure", [SameboxError, NotHere])
def test_a_failure_ends_the_row_with_its_reason(steps, tmp_path, capsys, step, row, failure):
    steps[step] = failure(f"{tmp_path}/model.onnx: no\nway")
    result = measured(compose("chain"), tmp_path)
    assert result.row() == ["retinanet_shapes", *row]
    assert result.remark() == "retinanet_shapes was not built: model.onnx: no way"
    assert result.remark() in capsys.readouterr().out


def test_a_failure_in_fp16_leaves_the_row_of_fp32(steps, tmp_path):
    steps["half_precision"] = SameboxError("precision: no way")
    result = measured(compose("chain"), tmp_path)
    assert result.row() == ["retinanet_shapes", "2.0", "4.3", "3.3", "512", "2.5", "12"]
    assert result.remark() == "retinanet_shapes was not built in fp16: precision: no way"


def test_a_run_over_all_detectors_writes_after_each(steps, monkeypatch):
    written = []
    monkeypatch.setattr(engine, "DETECTORS", ("retinanet_shapes", "mask_rcnn_shapes"))
    monkeypatch.setattr(engine, "BY_TARGET", "retinanet_shapes")
    monkeypatch.setattr(engine, "write", lambda name, title, tables, notes: written.append((name, tables)))
    monkeypatch.setattr("sys.argv", ["engine"])
    engine.main()
    assert [name for name, _ in written] == ["engine_build"] * 2
    assert [[row[0] for row in tables[0].rows] for _, tables in written] == [
        ["retinanet_shapes"],
        ["retinanet_shapes", "mask_rcnn_shapes"],
    ]
    assert [row[0] for row in written[1][1][2].rows] == ["SM86", "SM89", "SM120"]


def test_a_run_over_some_detectors_writes_nothing(steps, monkeypatch, capsys):
    monkeypatch.setattr(engine, "write", lambda *_: pytest.fail("written"))
    monkeypatch.setattr("sys.argv", ["engine", "mask_rcnn_shapes"])
    engine.main()
    assert "mask_rcnn_shapes: built in 3.3 s" in capsys.readouterr().out


def test_a_step_runs_in_its_own_process():
    assert in_own_process(os.getpid) != os.getpid()
    with pytest.raises(SameboxError, match="missing"):
        in_own_process(engine.export_seconds, "missing", Path("x.onnx"))
