import ctypes
import math
import subprocess
import sys
from types import SimpleNamespace

import fake_cuda
import numpy as np
import pytest
from tiny_engine import PROFILE, record

from samebox.core import cuda
from samebox.core.errors import NotHere, SameboxError
from samebox.engine import flavour
from samebox.engine.cache import cache_file
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
    """The array at an address."""
    return np.frombuffer(
        (ctypes.c_byte * (math.prod(shape) * dtype().itemsize)).from_address(address), dtype
    ).reshape(shape)


class Context:
    """Runs an engine that gives each image's sum, and the sizes of the images that are higher than wide.

    As on a GPU, the inputs are read from the device once the copies on the stream are done, and the number of
    the second output's rows is known only then.
    """

    def __init__(self, driver):
        self.driver = driver
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
        assert address in self.driver.allocated
        self.addresses[name] = address

    def set_output_allocator(self, name, allocator):
        self.allocators[name] = allocator

    def execute_async_v3(self, stream):
        assert stream == fake_cuda.STREAM
        assert self.driver.current == [fake_cuda.CONTEXT]
        self.driver.flush()
        images = at(self.addresses["images"], np.float32, self.shapes["images"])
        sizes = at(self.addresses["sizes"], np.int64, self.shapes["sizes"])
        at(self.addresses["sums"], np.float32, self.shapes["sums"])[:] = images.sum((1, 2, 3))
        tall = sizes[sizes[:, 0] > sizes[:, 1]]
        # more than needed: TensorRT requests the upper bound
        address = self.allocators["tall"].reallocate_output_async("tall", 0, sizes.nbytes, 256, stream)
        at(address, np.int64, tall.shape)[:] = tall
        self.allocators["tall"].notify_shape("tall", tall.shape)
        return True


class RuntimeConfig:
    """Takes a cache of kernels, to which each run adds one."""

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

    def __init__(self, driver):
        self.driver = driver

    def get_tensor_name(self, index):
        return list(TYPES)[index]

    def get_tensor_mode(self, name):
        return trt.TensorIOMode.INPUT if name in ("images", "sizes") else trt.TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name):
        return getattr(trt.DataType, TYPES[name])

    def create_runtime_config(self):
        return RuntimeConfig()

    def create_execution_context(self, config=None):
        return Context(self.driver)


@pytest.fixture
def gpu(monkeypatch):
    """A machine whose GPU is the host: TensorRT's runtime, and as its `driver` that of CUDA."""
    driver = fake_cuda.Driver()
    monkeypatch.setattr(cuda.ctypes, "CDLL", lambda name: driver)
    runtime = SimpleNamespace(
        driver=driver, deserialize_cuda_engine=lambda plan: Engine(driver) if plan == b"plan" else None
    )
    monkeypatch.setattr(trt, "Runtime", lambda logger: runtime)
    return runtime


def test_outputs_are_returned_whether_inputs_determine_their_shape_or_not(runner, gpu):
    random = np.random.default_rng(0)
    with runner:
        calls = []
        for shape in ((2, 3, 64, 96), (3, 3, 128, 64)):
            images = random.random(shape, np.float32)
            sizes = np.array([[90, 60], [60, 90], [95, 60]])[: len(images)]
            outputs = runner({"images": images, "sizes": sizes})
            calls.append((outputs, images.sum((1, 2, 3)), sizes[::2]))
        empty = runner({"images": images, "sizes": sizes[:, ::-1] * 0})
        assert empty["tall"].shape == (0, 2)
        with pytest.raises(SameboxError, match="outside the engine's profile"):
            runner(arrays(5, 3, 64, 64))
    for outputs, sums, tall in calls:  # later calls left them as they were
        assert list(outputs) == ["sums", "tall"]
        np.testing.assert_allclose(outputs["sums"], sums, rtol=1e-5)
        np.testing.assert_array_equal(outputs["tall"], tall)


def test_calls_of_the_same_shapes_allocate_once(runner, gpu):
    with runner:
        for _ in range(3):
            runner(arrays(2, 3, 64, 96))
        assert gpu.driver.calls["cuMemAlloc_v2"] == 4  # two inputs, two outputs
        assert gpu.driver.calls["cuStreamSynchronize"] == 3


def test_closing_frees_everything_and_may_be_repeated(runner, gpu):
    runner.__enter__()
    runner(arrays(2, 3, 64, 96))
    assert not gpu.driver.free()
    for _ in range(2):
        runner.__exit__(None, None, None)
        assert gpu.driver.free()


def test_a_full_gpu_is_not_a_crash(runner, gpu):
    gpu.driver.limit = 1 << 16
    with runner:
        with pytest.raises(NotHere, match="CUDA: cuMemAlloc_v2 failed: out of memory"):
            runner(arrays(2, 3, 64, 96))
        with pytest.raises(NotHere, match="out of memory"):
            runner(arrays(2, 3, 64, 96))
    assert gpu.driver.free()


def test_an_engine_that_fails_says_why(runner, gpu, monkeypatch):
    def fail(context, stream):
        flavour.tensorrt_logger(trt).errors.append("an illegal\naddress")
        return False

    monkeypatch.setattr(Context, "execute_async_v3", fail)
    with runner, pytest.raises(NotHere, match=r"net\.engine does not run: an illegal address$"):
        runner(arrays(2, 3, 64, 96))
    assert gpu.driver.free()


def test_engines_run_without_torch_and_onnx():
    code = (
        "import sys, samebox.runners.tensorrt, samebox.core.environment\n"
        "assert not {'torch', 'onnx', 'rich'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_kernels_compiled_for_the_gpu_are_cached(runner, gpu):
    for kernels in (b"kernel;", b"kernel;kernel;"):
        with runner:
            pass
        assert cache_file(trt, runner.path.parent / "cache").read_bytes() == kernels


def test_without_a_cache_folder_no_file_is_written(runner, gpu, tmp_path):
    with TensorRTRunner(runner.path):
        pass
    assert not (tmp_path / "cache").exists()


def test_a_plan_that_does_not_load_says_why(runner, gpu):
    def refuse(plan):
        flavour.tensorrt_logger(trt).errors.append("the driver\nis too old")

    gpu.deserialize_cuda_engine = refuse
    with pytest.raises(NotHere, match=r"net\.engine does not load: the driver is too old$"), runner:
        pass
    assert gpu.driver.free()


def test_the_json_file_describes_the_engine(runner):
    assert runner.metadata == {"samebox": "{}"}
    assert runner.batch is None  # any batch within the profile


def test_a_machine_without_a_gpu_cannot_run_it(runner, monkeypatch):
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
