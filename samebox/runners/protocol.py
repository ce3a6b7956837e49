"""What a runtime has to offer."""

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Runner(Protocol):
    """What a runtime has to offer: named arrays in, named arrays out.

    `metadata` and `batch`, the only batch its network takes or None, are there once it is entered.
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
