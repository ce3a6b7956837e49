"""`dvc repro` with several stages side by side: each as soon as those before it are done.

python -m pipelines.repro [-j JOBS]

What gates the most goes first, of those alike what dvc.yaml and params.yaml name first. Times are comparable
where a stage takes one core: set OMP_NUM_THREADS=1.
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
    """Run one stage where it is out of date; whether it came through."""
    return dvc(["--wait-for-lock", "repro", "--single-item", stage]) == 0


def graph() -> nx.DiGraph:
    """The stages of dvc.yaml by their names, an edge from each to those that need what it makes.

    They are in the order of the file. Raises SameboxError where DVC does not take it.
    """
    try:
        needs = Repo().index.graph
    except DvcException as error:
        raise SameboxError(f"{error}; `dvc status` tells more") from None
    return nx.relabel_nodes(needs, {stage: stage.addressing for stage in needs}).reverse()


def in_turn(stages: nx.DiGraph, pool: Executor, run: Callable[[str], bool], jobs: int) -> None:
    """Run every stage, at most `jobs` at once, the first with most others after it in a row.

    Those alike in that go in the order of `stages`. Raises SameboxError when one has failed; those that run
    then come to their end, and no other begins.
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
        raise SameboxError(f"{', '.join(failed)}: failed, for the reason above")


def main() -> None:
    """Run the graph for the command line."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.repro", description=__doc__.splitlines()[0])
    parser.add_argument("-j", dest="jobs", type=int, default=2, help="how many stages run at once (2)")
    jobs = parser.parse_args().jobs
    if jobs < 1:
        raise SameboxError(f"-j: {jobs}: give a number from 1 up")
    # spawned, for DVC would tell everything once more to the log that a fork inherits
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        in_turn(graph(), pool, reproduce, jobs)


if __name__ == "__main__":
    guarded(main)
