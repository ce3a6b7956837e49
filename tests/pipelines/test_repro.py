"""The order in which stages run side by side, and what a failure does."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Lock

import networkx as nx
import pytest
from omegaconf import OmegaConf

from pipelines import repro
from samebox.core.errors import SameboxError

# An edge from each stage to those that need it: a long way, a short one, and where they meet
GRAPH = nx.DiGraph([("a", "b"), ("b", "end"), ("c", "end")])


def run_through(run, jobs=2, stages=GRAPH):
    with ThreadPoolExecutor(jobs) as pool:
        repro.run_in_order(stages, pool, run, jobs)


def test_a_stage_waits_for_those_before_it_and_the_longest_way_goes_first():
    order = []
    run_through(lambda stage: not order.append(stage), jobs=1)
    assert order == ["a", "b", "c", "end"]


def test_stages_alike_go_in_the_order_of_the_graph():
    order, alike = [], nx.DiGraph()
    alike.add_nodes_from(["second", "first", "third"])
    run_through(lambda stage: not order.append(stage), jobs=1, stages=alike)
    assert order == ["second", "first", "third"]


def test_as_many_run_at_once_as_are_asked_for():
    together, lock, most, now = Barrier(2, timeout=20), Lock(), [], []

    def run(stage):
        with lock:
            now.append(stage)
            most.append(len(now))
        if stage in {"a", "c"}:
            together.wait()  # breaks unless both are run at once
        with lock:
            now.remove(stage)
        return True

    run_through(run)
    assert max(most) == 2


def test_after_a_failure_no_other_begins():
    order = []

    def run(stage):
        order.append(stage)
        return stage != "a"

    with pytest.raises(SameboxError, match="a: failed"):
        run_through(run, jobs=1)
    assert order == ["a"]


def test_the_graph_has_the_order_of_dvc_yaml_and_of_the_axes(monkeypatch):
    root = Path(repro.__file__).parents[1]
    monkeypatch.chdir(root)
    axes = OmegaConf.load(root / "params.yaml")
    stages = list(repro.graph())
    evaluated = [stage for stage in stages if stage.startswith("evaluate@")]
    assert stages[:2] == ["resolve", f"download@{axes.detectors[0]}"]
    assert stages[-1] == "report"
    assert evaluated == [f"evaluate@{one}-{form}" for one in axes.detectors for form in axes.runtimes]


PROJECT = """
stages:
  first: {cmd: echo 1 > one.txt, outs: [one.txt]}
  other: {cmd: %s, outs: [two.txt]}
  last: {cmd: cat one.txt two.txt > both.txt, deps: [one.txt, two.txt], outs: [both.txt]}
"""


def repro_in(project, other):
    (project / "dvc.yaml").write_text(PROJECT % other)
    (project / ".dvc").mkdir(exist_ok=True)
    (project / ".dvc/config").write_text("[core]\n  analytics = false\n  no_scm = true\n")
    root = Path(repro.__file__).parents[1]
    return subprocess.run(
        [sys.executable, "-m", "pipelines.repro"],
        cwd=project, env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(root)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_dvc_runs_the_stages_and_a_failed_one_ends_the_run(tmp_path):
    done = repro_in(tmp_path, "exit 1")
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith("error: other: failed; the reason is above")
    assert not (tmp_path / "both.txt").exists()
    done = repro_in(tmp_path, "echo 2 > two.txt")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "both.txt").read_text() == "1\n2\n"
    assert done.stdout.count("Running stage 'last'") + done.stderr.count("Running stage 'last'") == 1
    assert "'first' didn't change" in done.stdout
    done = repro_in(tmp_path, "[")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "dvc.yaml" in done.stderr
