"""The interface of all runtimes."""

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Runner(Protocol):
    """Runs one form of a detector: named arrays in, named arrays out. A context manager.

    `name` identifies the form in errors. `metadata` and `batch` are set on entry; `batch` is the only batch
    that the form accepts, or None if it accepts any. Exiting twice is allowed.
    """

    name: str
    metadata: dict[str, str]
    batch: int | None

    def __enter__(self) -> "Runner": ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def __call__(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.generic]]:
        """images [B,3,H,W] and sizes [B,2] → the outputs by name."""
        ...
