"""samebox as a wheel installs it, outside the repository, beside the packages of this environment."""

import json
import sys

import demo_forms
import installed_wheel
import pytest


@pytest.fixture(scope="module")
def samebox(tmp_path_factory):
    """Runs the installed command in a folder."""
    python = installed_wheel.environment(tmp_path_factory.mktemp("environment"))
    # a .pth file does not run those of the listed folders, which make the repository importable
    visible = [path for path in sys.path if path.endswith("site-packages")]
    (installed_wheel.site_packages(python) / "visible.pth").write_text("\n".join(visible) + "\n")
    return lambda folder, *arguments: installed_wheel.run(folder, python.with_name("samebox"), *arguments)


def test_the_help_of_a_command_lists_the_keys_of_the_packaged_configs(samebox, tmp_path):
    done = samebox(tmp_path, "export", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Usage: samebox export" in done.stdout
    assert "export.opset=18" in done.stdout


def test_a_config_is_adopted_to_the_users_own_folder_and_exported(samebox, tmp_path):
    adopted = samebox(tmp_path, "adopt", demo_forms.CHECKPOINT, "name=mine")
    assert adopted.stdout == "conf/detector/mine.yaml: retinanet; run it with detector=mine\n", adopted.stderr
    out = ["out=mine.onnx", "export.shape=64x96", "export.batch=1"]
    exported = samebox(tmp_path, "export", "detector=mine", f"checkpoint={demo_forms.CHECKPOINT}", *out)
    assert exported.returncode == 0, exported.stderr
    assert exported.stdout.splitlines()[-1].startswith("mine.onnx: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["conf", "mine.onnx"]


def test_a_benchmark_writes_table_and_report_below_the_working_directory(samebox, tmp_path):
    demo_forms.small_set(tmp_path / "data", 3)
    data = ["--data", "data/annotations.json", "--images", "data/val", "--formats", "torch"]
    few = ["evaluate.batches=[1]", "evaluate.warmup=0", "evaluate.invariance.images=0"]
    done = samebox(tmp_path, "benchmark", demo_forms.CHECKPOINT, *data, *few)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("report: artifacts/benchmark/retinanet_shapes/index.html\n")
    out = tmp_path / "artifacts/benchmark/retinanet_shapes"
    assert (out / "index.html").exists()
    (row,) = json.loads((out / "table.json").read_text())["rows"]
    assert row["bbox/AP"] > 20
    assert sorted(path.name for path in tmp_path.iterdir()) == ["artifacts", "data"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["chain", "runtimes=[torch]"],
            "demo/checkpoints/retinanet_shapes.pth: no such file; demo/ is in samebox's repository: run",
        ),
        (["report"], "params.yaml: no such file; run in the folder of dvc.yaml"),
    ],
)
def test_a_file_that_only_the_repository_has_is_named_in_one_line(arguments, message, samebox, tmp_path):
    done = samebox(tmp_path, *arguments)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {message}")
    assert done.stderr.count("\n") == 1
