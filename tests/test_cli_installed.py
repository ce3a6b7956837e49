"""samebox as a wheel installs it, outside the repository, beside the packages of this environment."""

import json
import os
import shutil
import subprocess
import sys
import venv

import demo_forms
import pytest

ROOT = demo_forms.ROOT
WHEEL_OF = ("samebox", "stages", "pipelines", "conf", "pyproject.toml", "setup.py", "README.md", "LICENSE")


def run(command, folder):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


def pip(*arguments):
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *map(str, arguments)]
    subprocess.run(command, check=True)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy: setuptools leaves files beside the sources."""
    sources = tmp_path_factory.mktemp("sources")
    for name in WHEEL_OF:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, sources / name)
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", sources / "dist", sources)
    (path,) = (sources / "dist").glob("samebox-*.whl")
    return path


@pytest.fixture(scope="module")
def samebox(wheel, tmp_path_factory):
    """The command of an environment in which the wheel is installed; runs in an empty folder."""
    target = tmp_path_factory.mktemp("environment")
    venv.create(target, with_pip=False)
    python = target / "bin/python"
    pip("--python", python, "install", "--no-deps", "--no-index", wheel)
    (packages,) = target.glob("lib/python*/site-packages")
    # after the wheel's own; a .pth file does not run those that make the repository importable
    visible = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "visible.pth").write_text("\n".join(visible) + "\n")
    return lambda folder, *arguments: run([target / "bin/samebox", *arguments], folder)


def test_the_help_of_a_command_lists_the_keys_of_the_packaged_configs(samebox, tmp_path):
    code, printed, _ = samebox(tmp_path, "export", "--help")
    assert code == 0
    assert "Usage: samebox export" in printed
    assert "export.opset=18" in printed


def test_a_config_is_adopted_to_the_users_own_folder_and_exported(samebox, tmp_path):
    code, printed, error = samebox(tmp_path, "adopt", demo_forms.CHECKPOINT, "name=mine")
    assert (code, printed) == (0, "conf/detector/mine.yaml: retinanet; run it with detector=mine\n"), error
    shape = ["export.shape=64x96", "export.batch=1"]
    export = ["export", "detector=mine", f"checkpoint={demo_forms.CHECKPOINT}", "out=mine.onnx", *shape]
    code, printed, error = samebox(tmp_path, *export)
    assert code == 0, error
    assert printed.splitlines()[-1].startswith("mine.onnx: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["conf", "mine.onnx"]


def test_a_benchmark_leaves_table_and_report_below_the_working_directory(samebox, tmp_path):
    demo_forms.small_set(tmp_path / "data", 3)
    data = ["--data", "data/annotations.json", "--images", "data/val"]
    few = ["evaluate.batches=[1]", "evaluate.warmup=0", "evaluate.invariance.images=0"]
    code, printed, error = samebox(
        tmp_path, "benchmark", demo_forms.CHECKPOINT, *data, "--formats", "torch", *few
    )
    assert code == 0, error
    out = tmp_path / "artifacts/benchmark/retinanet_shapes"
    assert printed.endswith("report: artifacts/benchmark/retinanet_shapes/index.html\n")
    assert (out / "index.html").exists()
    (row,) = json.loads((out / "table.json").read_text())["rows"]
    assert row["bbox/AP"] > 20
    assert sorted(path.name for path in tmp_path.iterdir()) == ["artifacts", "data"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["chain", "runtimes=[torch]"],
            "demo/checkpoints/retinanet_shapes.pth: no such file; demo/ is in samebox's repository: ",
        ),
        (["report"], "params.yaml: no such file; "),
    ],
)
def test_what_only_the_repository_has_is_missed_in_one_line(arguments, message, samebox, tmp_path):
    code, _, error = samebox(tmp_path, *arguments)
    assert code == 1
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1
