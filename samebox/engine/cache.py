"""What TensorRT measured or compiled on a GPU, kept in files for the next time.

Each file belongs to one flavour, one version of it and one model of GPU. A cache saves time and does not
change outputs: if a file is lost or unreadable, the work is done again.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from samebox.core.files import atomic_write
from samebox.engine.flavour import default_gpu


def cache_file(trt: Any, folder: Path) -> Path:
    """The file in `folder` for this flavour, its version and the default GPU.

    Raises NotHere without a GPU.
    """
    gpu = default_gpu("a cache holds what was measured or compiled on a GPU")
    model = re.sub(r"\W+", "_", gpu.name)
    return folder / f"{trt.__name__}-{trt.__version__}-{gpu.target}-{model}.cache"


@contextmanager
def timing_cache(trt: Any, config: Any, folder: Path) -> Iterator[None]:
    """Gives the builder configuration `config` the kernel timings of earlier builds, and saves new ones.

    For TensorRT only: TensorRT-RTX times no kernels, and its functions of the same names do nothing. If the
    block raises, the file stays unchanged.
    """
    file = cache_file(trt, folder)
    cache = _attached_timing_cache(config, file.read_bytes() if file.exists() else b"")
    yield
    _save(cache, file)


def _attached_timing_cache(config: Any, data: bytes) -> Any:
    """A timing cache with `data`, or an empty one if TensorRT refuses the data, in use by `config`."""
    cache = config.create_timing_cache(data)
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, ignore_mismatch=False)
    return cache


@contextmanager
def runtime_cache(trt: Any, config: Any, folder: Path) -> Iterator[None]:
    """Gives the runtime configuration `config` the kernels of earlier runs, and saves newly compiled ones.

    For TensorRT-RTX, which compiles kernels when it first runs an engine. This process must have initialized
    CUDA. If the data does not fit, TensorRT-RTX refuses it and compiles again. If the block raises, the file
    stays unchanged.
    """
    file = cache_file(trt, folder)
    cache = config.create_runtime_cache()
    if file.exists():
        cache.deserialize(file.read_bytes())
    config.set_runtime_cache(cache)
    yield
    _save(cache, file)


def _save(cache: Any, file: Path) -> None:
    with atomic_write(file) as temporary:
        temporary.write_bytes(cache.serialize())
