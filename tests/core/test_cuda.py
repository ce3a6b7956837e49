import numpy as np
import pytest
from fake_cuda import Driver

from samebox.core import cuda
from samebox.core.cuda import Stream, memory_in_use
from samebox.core.errors import NotHere


@pytest.fixture
def driver(monkeypatch):
    driver = Driver()
    monkeypatch.setattr(cuda.ctypes, "CDLL", lambda name: driver)
    return driver


def test_an_array_returns_from_the_gpu_as_it_was_sent(driver):
    array = np.random.default_rng(0).random((3, 5))
    with Stream() as stream, stream.current():
        buffer = stream.buffer()
        buffer.upload(array, np.float32)
        stream.synchronize()
        returned = buffer.download(array.shape, np.float32)
        stream.synchronize()
        np.testing.assert_array_equal(returned, array.astype(np.float32))
    assert driver.free()


def test_copies_are_asynchronous(driver):
    with Stream() as stream, stream.current():
        buffer = stream.buffer()
        buffer.upload(np.ones(4), np.int64)
        array = buffer.download((4,), np.int64)
        assert driver.calls["cuStreamSynchronize"] == 0
        stream.synchronize()
        assert array.tolist() == [1] * 4


def test_a_buffer_allocates_only_when_it_grows(driver):
    with Stream() as stream, stream.current():
        buffer = stream.buffer()
        for size in (100, 10, 100, 200, 50):
            address = buffer.reserve(size)
        assert buffer.address == address
        assert driver.calls["cuMemAlloc_v2"] == 2
        assert len(driver.allocated) == 1
        for count in (8, 4, 16):
            buffer.upload(np.zeros(count), np.float32)
            stream.synchronize()
        assert driver.calls["cuMemAllocHost_v2"] == 2


def test_an_empty_array_has_an_address_and_no_copy(driver):
    with Stream() as stream, stream.current():
        buffer = stream.buffer()
        buffer.upload(np.zeros((0, 2)), np.int64)
        assert buffer.address
        assert buffer.download((0, 2), np.int64).shape == (0, 2)
        assert driver.calls["cuMemcpyHtoDAsync_v2"] == driver.calls["cuMemcpyDtoHAsync_v2"] == 0
    assert driver.free()


def test_everything_is_freed_after_an_error(driver):
    driver.limit = 1000
    with Stream() as stream, stream.current():
        stream.buffer().reserve(500)
        full = stream.buffer()
        with pytest.raises(NotHere, match=r"^CUDA: cuMemAlloc_v2 failed: out of memory$"):
            full.reserve(600)
    assert driver.free()


def test_a_stream_may_be_closed_twice(driver):
    stream = Stream()
    stream.__enter__()
    for _ in range(2):
        stream.__exit__(None, None, None)
    assert driver.free()


def test_the_memory_in_use_includes_that_of_other_processes(driver):
    assert memory_in_use() == 5 << 30
    assert driver.free()


def test_a_status_without_a_text_is_reported_by_its_number(monkeypatch):
    monkeypatch.setattr(cuda.ctypes, "CDLL", lambda name: Driver(status=999))
    with pytest.raises(NotHere, match=r"^CUDA: cuInit failed: error 999$"):
        memory_in_use()


def no_library(name):
    raise OSError(f"{name}: cannot open shared object file")


@pytest.mark.parametrize("library", [no_library, lambda name: object()])
def test_without_a_driver_there_is_no_cuda(monkeypatch, library):
    monkeypatch.setattr(cuda.ctypes, "CDLL", library)
    with pytest.raises(NotHere, match="the NVIDIA driver cannot be used"):
        memory_in_use()
