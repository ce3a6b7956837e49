"""DVC shows the numbers of the table, in a copy of the repository."""

import json

import demo_forms
import pytest
import report_forms
import yaml
from dvc.render.match import match_defs_renderers
from dvc.repo import Repo

import stages.compare
from samebox.coco.evaluated import write_evaluated
from samebox.comparing.compared_forms import ComparedForms
from samebox.core.files import read_json, write_json
from samebox.reporting.plots import COLOURS, LEVELS
from stages.compose import compose

DETECTOR = "mask_rcnn_shapes"
TEMPLATES = demo_forms.ROOT / ".dvc/plots"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project with the compared forms of one detector. One form, an engine, was built but not run."""
    project = demo_forms.project(tmp_path_factory.mktemp("shown") / "project")
    forms = [form for form in report_forms.all_forms(artifact_mb=12.345) if form["runtime"] != "fp16"]
    runtimes = [form["runtime"] for form in forms]
    (project / "params.yaml").write_text(
        yaml.safe_dump({"detectors": [DETECTOR], "precisions": [], "engines": [], "runtimes": runtimes})
    )
    made = project / "artifacts"
    for form in forms:
        write_evaluated(made / "evaluated" / DETECTOR / form["runtime"], report_forms.evaluated(form))
    intervals = {"int8": {"bbox": (-2.4, -1.6), "segm": (-1.9, -1.1)}}
    compared = ComparedForms(forms, {}, intervals)
    write_json(made / "differences" / DETECTOR / "differences.json", compared.as_dict())
    names = ("evaluated", "differences", "compared", "metrics", "plots")
    asked = [f"detector={DETECTOR}", "compare.images=0"]
    asked += ["compare.max_ap_drop_of.int8=9"]
    asked += [f"paths.{name}={made}/{name}" for name in names]
    stages.compare.run(compose("compare", asked))
    return project


@pytest.fixture(scope="module")
def table(project):
    rows = json.loads((project / "artifacts/compared" / DETECTOR / "table.json").read_text())["rows"]
    return {row["runtime"]: row for row in rows}


def test_metrics_are_the_rounded_numbers_of_the_table(project, table):
    shown = Repo(project).metrics.show()[""]["data"]
    assert set(shown) == {f"artifacts/metrics/{DETECTOR}/{runtime}.json" for runtime in table}
    text = (project / "artifacts/compared" / DETECTOR / "table.md").read_text()
    for runtime, row in table.items():
        data = shown[f"artifacts/metrics/{DETECTOR}/{runtime}.json"]["data"]
        numbers = {key: value for key, value in row.items() if isinstance(value, float)}
        assert data == {key: pytest.approx(value, abs=0.051) for key, value in numbers.items()}
        for key in {"bbox/AP", "segm/AP"} & set(data):
            assert f" {data[key]:.2f} " in text
    int8 = shown[f"artifacts/metrics/{DETECTOR}/int8.json"]["data"]
    assert (int8["bbox/AP_delta"], int8["bbox/AP_delta_low"], int8["ms_network"]) == (-2.0, -2.4, 20.0)
    assert shown[f"artifacts/metrics/{DETECTOR}/tensorrt_rtx.json"]["data"] == {"artifact_mb": 12.3}


def fields(spec):
    """The fields of a point that a Vega-Lite spec draws."""
    if isinstance(spec, list):
        return set().union(*map(fields, spec))
    if not isinstance(spec, dict):
        return set()
    own = {spec["field"]} if "field" in spec else set()
    return own | fields(list(spec.values()))


def test_each_plot_is_an_output_of_the_stage_with_a_template(project):
    repo = Repo(project)
    declared = {out.def_path: out.plot for out in repo.index.plots}
    left = project.glob(f"artifacts/plots/{DETECTOR}/*")
    assert set(declared) == {str(path.relative_to(project)) for path in left}
    found = match_defs_renderers(repo.plots.show(), templates_dir=str(TEMPLATES))
    assert {one.renderer.name for one in found} == set(declared)
    for one in found:
        assert one.source_errors == one.definition_errors == {}
        plot = declared[one.renderer.name]
        assert (TEMPLATES / plot["template"]).with_suffix(".json").exists()
        spec = one.renderer.get_filled_template()
        assert spec["title"]["text"].startswith(f"{DETECTOR}: ")
        points = spec.pop("data")["values"]
        assert "<DVC_METRIC" not in json.dumps(spec)
        calculated = {step["as"] for step in spec.get("transform", [])}
        assert {plot["x"], plot["y"]} <= fields(spec) <= {*points[0], *calculated}


def test_curves_look_as_they_do_in_the_report():
    encoding = read_json(TEMPLATES / "curves.json")["encoding"]
    assert tuple(encoding["color"]["scale"]["range"]) == COLOURS
    assert encoding["column"]["sort"] == list(LEVELS.values())
