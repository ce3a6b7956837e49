"""`dvc repro` with several stages at once: each stage starts when its dependencies are done.

python -m pipelines.repro [-j JOBS]

The stage with the longest chain of stages after it starts first; among equals, the order is that of dvc.yaml
and params.yaml. Times are comparable if a stage uses one core: set OMP_NUM_THREADS=1.
"""

import argparse
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context

import networkx as nx
from dvc.cli import main as dvc
from dvc.exceptions import DvcException
from dvc.repo import Repo

from samebox.core.errors import SameboxError
from stages.compose import guarded


def reproduce(stage: str) -> bool:
    """Run one stage if it is out of date; false if it fails."""
    return dvc(["--wait-for-lock", "repro", "--single-item", stage]) == 0


def graph() -> nx.DiGraph:
    """The names of the stages in dvc.yaml, in its order, with an edge from each to those that depend on it.

    Raises SameboxError if DVC does not accept the file.
    """
    try:
        dependencies = Repo().index.graph
    except DvcException as error:
        raise SameboxError(f"{error}; `dvc status` gives the details") from None
    return nx.relabel_nodes(dependencies, {stage: stage.addressing for stage in dependencies}).reverse()


def run_in_order(stages: nx.DiGraph, pool: Executor, run: Callable[[str], bool], jobs: int) -> None:
    """Run every stage after those that it depends on, at most `jobs` at once.

    The stage with the longest chain of stages after it starts first; among equals, the order is that of
    `stages`. When a stage fails, no other starts; those that are running finish, then SameboxError is raised.
    """
    depth: dict[str, int] = {}
    for stage in reversed(list(nx.topological_sort(stages))):
        depth[stage] = 1 + max((depth[after] for after in stages.successors(stage)), default=0)
    waiting = sorted(stages, key=lambda stage: -depth[stage])
    running: dict[Future[bool], str] = {}
    done: set[str] = set()
    failed: list[str] = []
    while running or (waiting and not failed):
        ready = [] if failed else [stage for stage in waiting if done.issuperset(stages.predecessors(stage))]
        for stage in ready[: jobs - len(running)]:
            waiting.remove(stage)
            running[pool.submit(run, stage)] = stage
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            stage = running.pop(future)
            (done.add if future.result() else failed.append)(stage)
    if failed:
        raise SameboxError(f"{', '.join(failed)}: failed; the reason is above")


def main() -> None:
    """Run the stages, as many at once as the command line states."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.repro", description=__doc__.splitlines()[0])
    parser.add_argument("-j", dest="jobs", type=int, default=2, help="how many stages run at once (2)")
    jobs = parser.parse_args().jobs
    if jobs < 1:
        raise SameboxError(f"-j: {jobs}: give a number from 1 up")
    # spawn: DVC in a forked process would write every message to the inherited log as well
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        run_in_order(graph(), pool, reproduce, jobs)


if __name__ == "__main__":
    guarded(main)
