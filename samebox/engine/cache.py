"""What a TensorRT measured or compiled on a GPU, kept for the next time.

A file in the folder of caches belongs to one flavour, one version and one kind of GPU. It saves time and
changes no answer: losing it, or finding it unreadable, costs that time again.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from samebox.core.files import atomic_write
from samebox.engine.flavour import gpu_here


def cache_file(trt: Any, folder: Path) -> Path:
    """The file in `folder` for this flavour, its version and the GPU here; raises NotHere without a GPU."""
    gpu = gpu_here("what is kept in a cache was found on one")
    kind = re.sub(r"\W+", "_", gpu.name)
    return folder / f"{trt.__name__}-{trt.__version__}-{gpu.target}-{kind}.cache"


@contextmanager
def timing_cache(trt: Any, config: Any, folder: Path) -> Iterator[None]:
    """TensorRT's timings of its kernels, for the build with `config`; those it adds are kept.

    Not for TensorRT-RTX, which times nothing and whose functions of that name do nothing.
    """
    file = cache_file(trt, folder)
    cache = _attached(config, file.read_bytes() if file.exists() else b"")
    yield
    _keep(cache, file)


def _attached(config: Any, kept: bytes) -> Any:
    """The timings in `kept`, or none where TensorRT does not take them, in use by `config`."""
    cache = config.create_timing_cache(kept)
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, ignore_mismatch=False)
    return cache


@contextmanager
def runtime_cache(trt: Any, config: Any, folder: Path) -> Iterator[None]:
    """The kernels that TensorRT-RTX compiles on the GPU, for contexts of `config`; those it adds are kept.

    CUDA has to be in use by this process: what does not fit it, TensorRT-RTX refuses and compiles anew.
    """
    file = cache_file(trt, folder)
    cache = config.create_runtime_cache()
    if file.exists():
        cache.deserialize(file.read_bytes())
    config.set_runtime_cache(cache)
    yield
    _keep(cache, file)


def _keep(cache: Any, file: Path) -> None:
    with atomic_write(file) as aside:
        aside.write_bytes(cache.serialize())
