"""A limit on the time that ONNX Runtime may run a graph."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from samebox.core.errors import SameboxError

_INTERVAL = 0.5  # seconds between two looks at the clock


class TimeLimit:
    """Stops a run of `name` that takes longer than `seconds` per image, and refuses all further runs.

    None sets no limit. ONNX Runtime looks at `RunOptions.terminate` between two nodes, also in the body of a
    loop. A single node is not stopped.
    """

    def __init__(self, name: str, seconds: float | None) -> None:
        """Raises SameboxError for a limit that is not positive."""
        if seconds is not None and not seconds > 0:
            raise SameboxError(f"time_limit: {seconds:g} is not above 0; give seconds per image, or None")
        self.name, self.seconds = name, seconds
        self.exceeded = False
        self._run: tuple[float, Any] | None = None  # when the current run must end, and its options
        self._stopped = threading.Event()

    def start(self) -> None:
        """Begin to watch. Does nothing without a limit."""
        if self.seconds is not None:
            self._stopped = threading.Event()
            threading.Thread(target=self._watch_clock, args=(self._stopped,), daemon=True).start()

    def stop(self) -> None:
        """End it; allowed twice."""
        self._stopped.set()

    @contextmanager
    def watch(self, options: Any, images: int) -> Iterator[None]:
        """Set `options.terminate` if the block takes too long for so many images.

        Raises SameboxError if a block took too long before.
        """
        self.check()
        if self.seconds is not None:
            self._run = (time.monotonic() + self.seconds * max(images, 1), options)
        try:
            yield
        finally:
            self._run = None

    def check(self) -> None:
        """Raise SameboxError if a run has taken too long."""
        if self.exceeded:
            raise SameboxError(
                f"{self.name}: stopped after {self.seconds:g} s per image; if its graph is not endless, "
                "raise the time limit"
            )

    def _watch_clock(self, stopped: threading.Event) -> None:
        while not stopped.wait(_INTERVAL):
            run = self._run
            if run is not None and time.monotonic() > run[0]:
                self.exceeded = run[1].terminate = True
