"""The progress bar of a run over a data set."""

import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

T = TypeVar("T")


def with_progress(batches: Sequence[T], size: int, title: str) -> Iterator[T]:
    """Yield the batches under a progress bar that shows images per second. `size`: images per batch."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:.1f} images/s"),
        TimeRemainingColumn(),
    )
    started = time.perf_counter()
    with Progress(*columns, transient=True) as progress:
        task = progress.add_task(f"{title}, batch {size}", total=len(batches), rate=0.0)
        for count, batch in enumerate(batches, start=1):
            yield batch
            progress.update(task, advance=1, rate=count * size / (time.perf_counter() - started))
