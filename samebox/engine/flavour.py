"""The two TensorRTs: which is installed, what it logs, and the GPU it would use."""

import functools
import importlib
import logging
from typing import Any

from samebox.core.errors import NotHere, SameboxError
from samebox.core.gpu import Gpu, gpus

log = logging.getLogger(__name__)

# Module → what it is called, and how it is installed.
FLAVOURS = {
    "tensorrt_rtx": ("TensorRT-RTX", "pip install tensorrt-rtx"),
    "tensorrt": ("TensorRT", "pip install samebox[tensorrt]"),
}


def tensorrt_module(flavour: str) -> Any:
    """The module of that name, once it can build or run here."""
    if flavour not in FLAVOURS:
        raise SameboxError(f"flavour={flavour}: unknown; take one of {', '.join(FLAVOURS)}")
    name, install = FLAVOURS[flavour]
    try:
        return importlib.import_module(flavour)
    except ImportError:
        raise NotHere(f"{name} is not installed: {install}") from None


def called(trt: Any) -> str:
    """What people call the flavour whose module this is."""
    return FLAVOURS[trt.__name__][0]


def gpu_here(purpose: str) -> Gpu:
    """The GPU that CUDA takes by default. Raises NotHere, with the `purpose`, where there is none."""
    found = gpus()
    if not found:
        raise NotHere(f"no GPU here; {purpose}")
    return found[0]


def runtime(trt: Any, version_compatible: bool) -> Any:
    """What opens plans. A version-compatible plan brings a runtime of its own, code that is then run."""
    opened = trt.Runtime(tensorrt_logger(trt))
    if version_compatible:
        opened.engine_host_code_allowed = True
    return opened


@functools.cache
def tensorrt_logger(trt: Any) -> Any:
    """TensorRT's messages into `logging`. One for the process: TensorRT keeps to the first it is given.

    Its `errors` are the messages of failures since they were last cleared.
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
            if level is None:  # thousands of lines that are of use to TensorRT's authors
                return
            log.log(level, "%s: %s", trt.__name__, message)
            if level == logging.ERROR:
                self.errors.append(message)

        def said(self) -> str:
            return "; ".join(" ".join(error.split()) for error in self.errors) or "it does not say why"

    return Logger()
