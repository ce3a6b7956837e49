import ctypes
import math
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_engine import PROFILE, record

from samebox.core.errors import NotHere, SameboxError
from samebox.core.gpu import Gpu
from samebox.engine import flavour
from samebox.engine.cache import cache_file
from samebox.runners import tensorrt
from samebox.runners.tensorrt import TensorRTRunner, check_shapes

trt = pytest.importorskip("tensorrt_rtx")


@pytest.fixture
def runner(tmp_path):
    record(tmp_path / "net.engine")
    return TensorRTRunner(tmp_path / "net.engine", cache=tmp_path / "cache")


def arrays(*shape, sizes=None):
    return {"images": np.zeros(shape, np.float32), "sizes": np.zeros(sizes or (shape[0], 2), np.int64)}


TYPES = {"images": "FLOAT", "sizes": "INT64", "sums": "FLOAT", "tall": "INT64"}


def at(address, dtype, shape):
    """The array that lies at an address."""
    return np.frombuffer(
        (ctypes.c_byte * (math.prod(shape) * dtype().itemsize)).from_address(address), dtype
    ).reshape(shape)


class Context:
    """Runs an engine that gives each image's sum, and the sizes of those that are higher than wide."""

    def __init__(self):
        self.shapes, self.addresses, self.allocators = {}, {}, {}

    def set_input_shape(self, name, shape):
        self.shapes[name] = shape
        return True

    def infer_shapes(self):
        self.shapes |= {"sums": self.shapes["images"][:1], "tall": (-1, 2)}
        return []

    def get_tensor_shape(self, name):
        return self.shapes[name]

    def set_tensor_address(self, name, address):
        self.addresses[name] = address

    def set_output_allocator(self, name, allocator):
        self.allocators[name] = allocator

    def execute_async_v3(self, stream):
        assert stream == 7
        images = at(self.addresses["images"], np.float32, self.shapes["images"])
        sizes = at(self.addresses["sizes"], np.int64, self.shapes["sizes"])
        at(self.addresses["sums"], np.float32, self.shapes["sums"])[:] = images.sum((1, 2, 3))
        tall = sizes[sizes[:, 0] > sizes[:, 1]]
        # more than needed, as TensorRT asks for the most that there may be
        place = self.allocators["tall"].reallocate_output_async("tall", 0, sizes.nbytes, 256, stream)
        at(place, np.int64, tall.shape)[:] = tall
        self.allocators["tall"].notify_shape("tall", tall.shape)
        return True


class RuntimeConfig:
    """Takes a cache of kernels, to which whoever runs adds one."""

    def create_runtime_cache(self):
        self.kernels = []
        return SimpleNamespace(
            deserialize=lambda data: self.kernels.append(data.decode()),
            serialize=lambda: "".join([*self.kernels, "kernel;"]).encode(),
        )

    def set_runtime_cache(self, cache):
        self.cache = cache


class Engine:
    num_io_tensors = len(TYPES)

    def get_tensor_name(self, index):
        return list(TYPES)[index]

    def get_tensor_mode(self, name):
        return trt.TensorIOMode.INPUT if name in ("images", "sizes") else trt.TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name):
        return getattr(trt.DataType, TYPES[name])

    def create_runtime_config(self):
        return RuntimeConfig()

    def create_execution_context(self, config=None):
        return Context()


@pytest.fixture
def gpu(monkeypatch):
    """A machine whose GPU is the host."""
    stream = SimpleNamespace(cuda_stream=7, synchronize=lambda: None)
    monkeypatch.setattr(flavour, "gpus", lambda: [Gpu("NVIDIA Test", (8, 9), 1)])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "Stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: nullcontext())
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    monkeypatch.setattr(tensorrt, "DEVICE", torch.device("cpu"))
    runtime = SimpleNamespace(deserialize_cuda_engine=lambda plan: Engine() if plan == b"plan" else None)
    monkeypatch.setattr(trt, "Runtime", lambda logger: runtime)
    return runtime


def test_outputs_come_whether_their_shape_is_known_or_not(runner, gpu):
    random = np.random.default_rng(0)
    with runner:
        for shape in ((2, 3, 64, 96), (3, 3, 128, 64)):
            images = random.random(shape, np.float32)
            sizes = np.array([[90, 60], [60, 90], [95, 60]])[: len(images)]
            found = runner({"images": images, "sizes": sizes})
            assert list(found) == ["sums", "tall"]
            np.testing.assert_allclose(found["sums"], images.sum((1, 2, 3)), rtol=1e-5)
            np.testing.assert_array_equal(found["tall"], sizes[::2])
        none = runner({"images": images, "sizes": sizes[:, ::-1] * 0})
        assert none["tall"].shape == (0, 2)
        with pytest.raises(SameboxError, match="outside the engine's profile"):
            runner(arrays(5, 3, 64, 64))


def test_what_was_compiled_for_the_gpu_is_kept(runner, gpu):
    for kernels in (b"kernel;", b"kernel;kernel;"):
        with runner:
            pass
        assert cache_file(trt, runner.path.parent / "cache").read_bytes() == kernels


def test_without_a_folder_nothing_is_kept(runner, gpu, tmp_path):
    with TensorRTRunner(runner.path):
        pass
    assert not (tmp_path / "cache").exists()


def test_a_plan_that_does_not_load_says_why(runner, gpu):
    def refuse(plan):
        flavour.tensorrt_logger(trt).errors.append("the driver\nis too old")

    gpu.deserialize_cuda_engine = refuse
    with pytest.raises(NotHere, match=r"net\.engine does not load: the driver is too old$"), runner:
        pass


def test_the_engine_and_its_json_file_are_enough(runner):
    assert runner.metadata == {"samebox": "{}"}
    assert runner.batch is None  # any within the profile


def test_a_machine_without_a_gpu_is_not_the_place(runner, monkeypatch):
    monkeypatch.setattr(flavour, "gpus", list)
    with pytest.raises(NotHere, match="no GPU here"), runner:
        pass


@pytest.mark.parametrize("shape", [(1, 3, 64, 64), (4, 3, 256, 512), (2, 3, 96, 100)])
def test_shapes_within_the_profile_pass(shape):
    check_shapes(arrays(*shape), PROFILE)


@pytest.mark.parametrize(
    ("inputs", "fault"),
    [
        (arrays(5, 3, 64, 64), r"images of shape \[5, 3, 64, 64\] are outside .* batch 1\.\.4"),
        (arrays(1, 3, 32, 64), r"height 64\.\.256"),
        (arrays(1, 3, 64, 544), r"width 64\.\.512"),
        (arrays(1, 1, 64, 64), "outside the engine's profile"),
        (arrays(3, 64, 64), "outside the engine's profile"),
        (arrays(2, 3, 64, 64, sizes=(1, 2)), r"sizes of shape \[1, 2\] do not fit 2 images; give \[2, 2\]"),
        (
            {"images": np.zeros((1, 3, 64, 64), np.float32)},
            r"takes the arrays images and sizes, not \['images'\]",
        ),
    ],
)
def test_shapes_outside_the_profile_are_named(inputs, fault):
    with pytest.raises(SameboxError, match=fault):
        check_shapes(inputs, PROFILE)
