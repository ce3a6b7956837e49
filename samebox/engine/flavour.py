"""The two flavours of TensorRT: their modules, loggers and runtimes, and the GPU that they use."""

import functools
import importlib
import logging
from typing import Any

from samebox.core.errors import NotHere, SameboxError
from samebox.core.gpu import Gpu, gpus

log = logging.getLogger(__name__)

# Module → (product name, command that installs it)
FLAVOURS = {
    "tensorrt_rtx": ("TensorRT-RTX", "pip install tensorrt-rtx"),
    "tensorrt": ("TensorRT", "pip install samebox[tensorrt]"),
}


def tensorrt_module(flavour: str) -> Any:
    """The module of a flavour. Raises SameboxError for an unknown flavour, NotHere if it is not installed."""
    if flavour not in FLAVOURS:
        raise SameboxError(f"flavour={flavour}: unknown; use one of {', '.join(FLAVOURS)}")
    name, install = FLAVOURS[flavour]
    try:
        return importlib.import_module(flavour)
    except ImportError:
        raise NotHere(f"{name} is not installed: {install}") from None


def flavour_name(trt: Any) -> str:
    """The product name of the flavour whose module is `trt`."""
    return FLAVOURS[trt.__name__][0]


def default_gpu(purpose: str) -> Gpu:
    """The GPU that CUDA uses by default. Raises NotHere, which ends in `purpose`, if there is none."""
    available = gpus()
    if not available:
        raise NotHere(f"no GPU here; {purpose}")
    return available[0]


def create_runtime(trt: Any, version_compatible: bool) -> Any:
    """A runtime that loads plans.

    A version-compatible plan contains a runtime of its own; loading it executes that code.
    """
    runtime = trt.Runtime(tensorrt_logger(trt))
    if version_compatible:
        runtime.engine_host_code_allowed = True
    return runtime


@functools.cache
def tensorrt_logger(trt: Any) -> Any:
    """A logger that passes TensorRT's messages to `logging`.

    There is one per process, because TensorRT keeps the first that it is given. Its `errors` are the error
    messages since the list was last cleared.
    """
    levels = {
        trt.ILogger.Severity.INTERNAL_ERROR: logging.ERROR,
        trt.ILogger.Severity.ERROR: logging.ERROR,
        trt.ILogger.Severity.WARNING: logging.WARNING,
        trt.ILogger.Severity.INFO: logging.DEBUG,
    }

    class Logger(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            level = levels.get(severity)
            if level is None:  # verbose: thousands of lines for TensorRT's developers
                return
            log.log(level, "%s: %s", trt.__name__, message)
            if level == logging.ERROR:
                self.errors.append(message)

        def error_text(self) -> str:
            return "; ".join(" ".join(error.split()) for error in self.errors) or "no reason given"

    return Logger()
