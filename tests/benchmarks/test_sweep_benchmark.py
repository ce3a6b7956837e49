import sys

import pytest

from benchmarks import sweep
from samebox.core.errors import SameboxError
from samebox.core.files import read_json

BUSY = "import time\nwhile time.process_time() < 0.2: pass"


def test_the_cost_includes_child_processes():
    nested = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BUSY!r}], check=True)"
    cost = sweep.cost([sys.executable, "-c", nested])
    assert 0.2 <= cost.cpu < cost.wall + 1
    with pytest.raises(SameboxError, match="exit code 1: NameError: name 'nothing'"):
        sweep.cost([sys.executable, "-c", "nothing"])


def test_the_points_are_all_combinations_of_the_axes():
    points = list(sweep.points())
    assert len(points) == len(set(map(tuple, points))) == 12
    assert points[0] == ["export.opset=16", "precision.method=percentile", "precision.count=8"]


def test_a_subset_keeps_the_objects_of_its_images(tmp_path):
    override = sweep.subset(5, tmp_path / "few.json")
    assert override == f"dataset.annotations={tmp_path}/few.json"
    document = read_json(tmp_path / "few.json")
    image_ids = {image["id"] for image in document["images"]}
    assert len(image_ids) == 5
    assert {one["image_id"] for one in document["annotations"]} <= image_ids
    assert document["categories"]


def test_steps_are_counted_by_their_folders(tmp_path):
    for name in ("a/onnx/1", "b/onnx/1", "b/onnx/2", "b/evaluated/3"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "a/onnx/1.lock").touch()
    folders = sweep.done([tmp_path / "a", tmp_path / "b"])
    assert folders == {"onnx": ["1", "1", "2"], "simplified": [], "int8": [], "evaluated": ["3"]}
    assert sweep.shares(folders, folders).rows[0] == ["export", "3", "3"]


def test_the_ratio_is_of_the_sweep_to_the_runs():
    sheet = sweep.costs(sweep.Cost(30, 20), sweep.Cost(90, 80), 12)
    assert sheet.rows[-1] == ["sweep / runs", "0.33", "0.25"]
