"""Measurements in processes of their own."""

import logging
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import TypeVar

Result = TypeVar("Result")


def in_own_process(call: Callable[..., Result], *arguments: object) -> Result:
    """The result of `call` in a new process, whose memory and imports are measured from zero.

    Raises what `call` raises, and BrokenProcessPool if the process dies.
    """
    quiet = partial(logging.basicConfig, level=logging.ERROR)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), quiet) as pool:
        return pool.submit(call, *arguments).result()
