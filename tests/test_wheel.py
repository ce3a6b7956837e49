"""The wheel in an environment that has the runtime's dependencies alone."""

import json
from importlib.metadata import distribution, packages_distributions

import demo_forms
import installed_wheel
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import samebox
from samebox.coco.results import results_from_detections

ABSENT = ("torch", "onnx", "dvc", "mlflow", "hydra", "omegaconf", "rich", "matplotlib", "requests", "yaml")
IMAGE = demo_forms.IMAGES / "000020000000.jpg"


def run(*command, **options):
    """The finished process, away from the repository."""
    return installed_wheel.run(command[0].parent, *command, **options)


def installed(requirement):
    """The installed distribution of a requirement. Either build of ONNX Runtime serves."""
    if requirement.name == "onnxruntime":
        return distribution(packages_distributions()["onnxruntime"][0])
    return distribution(requirement.name)


def closure(requires):
    """The installed distributions that the texts of requirements need without extras, by name."""
    distributions = {}
    texts = list(requires)
    while texts:
        requirement = Requirement(texts.pop())
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        required = installed(requirement)
        if canonicalize_name(required.name) not in distributions:
            distributions[canonicalize_name(required.name)] = required
            texts += required.requires or []
    return distributions


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The interpreter of an environment with the wheel and links to what it requires."""
    python = installed_wheel.environment(tmp_path_factory.mktemp("runtime"))
    site = installed_wheel.site_packages(python)
    (metadata,) = site.glob("samebox-*.dist-info/METADATA")
    lines = [line.partition(": ") for line in metadata.read_text().splitlines()]
    requires = [text for key, _, text in lines if key == "Requires-Dist"]
    for required in closure(requires).values():
        for name in {file.parts[0] for file in required.files if file.parts[0] not in ("..", "__pycache__")}:
            (site / name).symlink_to(required.locate_file(name))
    return python


def test_the_environment_has_none_of_the_pipelines_packages(python):
    code = f"import importlib.util as u; print([n for n in {ABSENT} if u.find_spec(n)])"
    assert run(python, "-c", code).stdout == "[]\n"


def test_predict_writes_what_the_full_environment_writes(python, tmp_path):
    out = tmp_path / "out"
    done = run(python.with_name("samebox"), "predict", demo_forms.dynamic(), IMAGE, "--out", out)
    assert (done.returncode, done.stderr) == (0, "")
    with samebox.load(demo_forms.dynamic()) as detector:
        expected = results_from_detections(1, detector(IMAGE), range(1, 7), str(IMAGE))
    assert json.loads((out / "detections.json").read_text()) == expected
    assert (out / "0001_000020000000.jpg").exists()


def test_load_detects_and_imports_only_what_it_needs(python):
    code = f"""
import sys, samebox
assert not {{"numpy", "cv2", "onnxruntime"}} & set(sys.modules)
print(samebox.__version__)
with samebox.load({str(demo_forms.dynamic())!r}) as detector:
    print(len(detector({str(IMAGE)!r})) > 10, detector.spec.samebox_version)
assert not {{"samebox.coco", "samebox.networks", "samebox.graph.reading"}} & set(sys.modules)
"""
    done = run(python, "-c", code)
    assert done.stderr == ""
    assert done.stdout.split() == [samebox.__version__, "True", samebox.__version__]


def test_a_command_of_the_pipeline_names_the_extra(python):
    command = python.with_name("samebox")
    assert "predict" in run(command, "--help").stdout
    for arguments in (["export"], ["predict", demo_forms.CHECKPOINT, IMAGE, "--out", "out"]):
        done = run(command, *arguments)
        assert done.returncode == 1
        assert done.stderr.startswith("error: ")
        assert done.stderr.endswith("run pip install 'samebox[pipeline]'\n")
        assert done.stderr.count("\n") == 1
