"""samebox: the same boxes, from checkpoint to engine."""

import importlib
from typing import TYPE_CHECKING, Any

from samebox.core.errors import NotHere, SameboxError

if TYPE_CHECKING:
    from samebox.detector import Detector, load
    from samebox.postprocess.detections import Detections

    __version__: str

__all__ = ["Detections", "Detector", "NotHere", "SameboxError", "__version__", "load"]

# Public name → the module that defines it. They are imported on first use, because NumPy, OpenCV and
# importlib.metadata would take most of the time of `import samebox`.
_MODULES = {
    "Detections": "samebox.postprocess.detections",
    "Detector": "samebox.detector",
    "load": "samebox.detector",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from samebox.core.versions import samebox_version

        return samebox_version()
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'samebox' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
