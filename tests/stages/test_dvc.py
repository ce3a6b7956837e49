"""What DVC itself makes of the graph, in a copy of the repository."""

import json
import shutil
import subprocess

import demo_forms
import pytest
from dvc.repo import Repo

from stages.axes import axis


def dvc(project, *arguments):
    done = subprocess.run(
        demo_forms.dvc(*arguments),
        cwd=project,
        env=demo_forms.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def changed(project):
    return set(json.loads(dvc(project, "status", "--json")))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A pipeline whose every stage counts as run; in place of what they make lies a word."""
    project = demo_forms.project(tmp_path_factory.mktemp("dvc") / "project")
    for stage in Repo(project).index.stages:
        for out in stage.outs:
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


def test_a_gpu_that_appears_calls_for_every_evaluation_and_nothing_else(project):
    devices = project / "conf/machine/devices"
    loaded = devices.read_text()
    devices.unlink()
    devices.write_text(loaded + "195 nvidia\n")
    assert changed(project) == EVALUATIONS


def test_an_edited_step_calls_for_that_step_and_for_the_record(project):
    edit(project / "conf/step/simplify.yaml", "seconds: 600", "seconds: 601")
    tracks = {f"track@{detector}" for detector in axis("detectors")}
    assert changed(project) == tracks | {f"simplify@{detector}" for detector in axis("detectors")}


def test_another_detectors_config_calls_for_nothing(project):
    edit(project / "conf/detector/retinanet_r50_fpn.yaml", "bbox: 36.5", "bbox: 36.4")
    assert changed(project) == set()


def test_a_published_figure_calls_for_no_other_file(project):
    edit(project / "conf/detector/retinanet_shapes.yaml", "bbox: 35.56", "bbox: 35.57")
    found = changed(project)
    assert found >= {f"evaluate@retinanet_shapes-{r}" for r in axis("runtimes")} | {"track@retinanet_shapes"}
    assert not {name for name in found if "mask_rcnn_shapes" in name}
    assert not found & {"simplify@retinanet_shapes", "download@retinanet_shapes", "report"}
