"""The stages that DVC runs after an edit, in a copy of the repository."""

import json
import re
import shutil
import subprocess

import demo_forms
import pytest
from dvc.repo import Repo

from stages.axes import axis


def run(project, *arguments):
    return subprocess.run(
        demo_forms.dvc(*arguments),
        cwd=project,
        env=demo_forms.environment(),
        capture_output=True,
        text=True,
        check=False,
    )


def dvc(project, *arguments):
    done = run(project, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def changed(project):
    return set(json.loads(dvc(project, "status", "--json")))


def resolve(project):
    dvc(project, "repro", "--single-item", "resolve")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A pipeline that is up to date. `resolve` has run; the outputs of the other stages are placeholders."""
    project = demo_forms.project(tmp_path_factory.mktemp("dvc") / "project")
    resolve(project)
    for stage in Repo(project).index.stages:
        for out in stage.outs if stage.addressing != "resolve" else ():
            target = project / out.def_path
            file = target if target.suffix else target / "made.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(stage.addressing)
    dvc(project, "commit", "--force")
    assert changed(project) == set()
    return project


@pytest.fixture
def project(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "project", symlinks=True)


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


EVALUATIONS = {f"evaluate@{d}-{r}" for d in axis("detectors") for r in axis("runtimes")}


def test_a_gpu_that_appears_reruns_every_evaluation_and_nothing_else(project):
    devices = project / "conf/machine/devices"
    loaded = devices.read_text()
    devices.unlink()
    devices.write_text(loaded + "195 nvidia\n")
    assert changed(project) == EVALUATIONS


def test_an_edited_step_reruns_that_step_and_its_record_in_mlflow(project):
    edit(project / "conf/step/simplify.yaml", "seconds: 600", "seconds: 601")
    tracks = {f"track@{detector}" for detector in axis("detectors")}
    assert changed(project) == tracks | {f"simplify@{detector}" for detector in axis("detectors")}


@pytest.mark.parametrize("group", ["dataset", "detector", "family", "precision", "runtime"])
def test_a_new_choice_reruns_no_stage_but_resolve(project, group):
    folder = project / "conf" / group
    shutil.copy(sorted(folder.glob("*.yaml"))[0], folder / "other.yaml")
    assert changed(project) == {"resolve"}
    resolve(project)
    assert changed(project) == set()


def test_a_config_of_an_unused_detector_reruns_no_stage_but_resolve(project):
    edit(project / "conf/detector/retinanet_r50_fpn.yaml", "bbox: 36.5", "bbox: 36.4")
    assert changed(project) == {"resolve"}
    resolve(project)
    assert changed(project) == set()


def test_a_published_figure_reruns_no_other_detector(project):
    edit(project / "conf/detector/retinanet_shapes.yaml", "bbox: 35.56", "bbox: 35.57")
    resolve(project)
    evaluations = {name for name in EVALUATIONS if "retinanet_shapes" in name}
    assert changed(project) == {*evaluations, "export@retinanet_shapes", "track@retinanet_shapes"}


def test_an_edited_data_set_reruns_every_stage_that_uses_it(project):
    edit(project / "conf/dataset/shapes.yaml", "name: shapes", "name: figures")
    resolve(project)
    steps = ("download", "export", "differences", "compare", "track")
    of_detectors = {f"{step}@{detector}" for step in steps for detector in axis("detectors")}
    assert changed(project) == {*EVALUATIONS, *of_detectors, "report"}


def test_an_edited_runtime_reruns_its_own_stages(project):
    edit(project / "conf/runtime/tensorrt_rtx.yaml", "TensorRT-RTX fp32", "TensorRT-RTX")
    resolve(project)
    stages = ("engine@{}-tensorrt_rtx", "evaluate@{}-tensorrt_rtx")
    assert changed(project) == {stage.format(name) for stage in stages for name in axis("detectors")}


def test_a_name_without_a_config_ends_in_one_line(project):
    edit(project / "params.yaml", "engines: [tensorrt_rtx]", "engines: [tensorflow]")
    done = run(project, "repro", "--single-item", "resolve")
    assert done.returncode != 0
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
    assert re.match(r"error: .*Could not find 'runtime/tensorflow'.*tensorrt_rtx", line)
