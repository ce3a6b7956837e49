"""Versions of samebox and of the packages that it calls."""

import platform
from importlib import metadata

# Packages whose version can change a figure
PACKAGES = (
    "samebox", "torch", "onnx", "onnxscript", "onnxruntime", "onnxruntime-gpu", "onnxsim", "tensorrt-rtx",
    "tensorrt", "numpy", "opencv-python-headless", "pillow", "pycocotools",
)  # fmt: skip


def versions() -> dict[str, str]:
    """The versions of Python and of the installed `PACKAGES`."""
    installed = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            installed[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return installed


def samebox_version() -> str:
    """The version of the installed distribution, which pyproject.toml states."""
    return metadata.version("samebox")
