import pytest
from tiny_engine import full_tensorrt

from samebox.core.errors import NotHere, SameboxError
from samebox.core.gpu import Gpu
from samebox.engine import flavour
from samebox.engine.cache import cache_file, runtime_cache, timing_cache

trt = pytest.importorskip("tensorrt_rtx")


class Cache:
    """A timing cache or a runtime cache that holds bytes."""

    def __init__(self, data=b""):
        self.data = data

    def serialize(self):
        return self.data

    def deserialize(self, data):
        self.data = data
        return True


class Config:
    """A builder's or a runtime's configuration that refuses timings of another device."""

    def create_timing_cache(self, data):
        return None if data == b"damaged" else Cache(data)

    def set_timing_cache(self, cache, ignore_mismatch):
        assert ignore_mismatch is False
        if cache.data == b"of another device":
            return False
        self.cache = cache
        return True

    def create_runtime_cache(self):
        return Cache()

    def set_runtime_cache(self, cache):
        self.cache = cache


@pytest.fixture(autouse=True)
def gpu(monkeypatch):
    monkeypatch.setattr(flavour, "gpus", lambda: [Gpu("NVIDIA H200 (141 GB)", (9, 0), 1)])


def test_each_flavour_version_and_gpu_has_a_cache_file(tmp_path, monkeypatch):
    name = "tensorrt-10.13.3.9-SM90-NVIDIA_H200_141_GB_.cache"
    assert cache_file(full_tensorrt("10.13.3.9"), tmp_path) == tmp_path / name
    others = {cache_file(module, tmp_path) for module in (full_tensorrt("11.0"), trt)}
    monkeypatch.setattr(flavour, "gpus", lambda: [Gpu("NVIDIA H100", (9, 0), 1)])
    others.add(cache_file(full_tensorrt("10.13.3.9"), tmp_path))
    assert len(others) == 3
    assert tmp_path / name not in others
    monkeypatch.setattr(flavour, "gpus", list)
    with pytest.raises(NotHere, match="no GPU here"):
        cache_file(trt, tmp_path)


@pytest.mark.parametrize("cache", [timing_cache, runtime_cache])
def test_a_cache_is_saved_and_loaded_the_next_time(tmp_path, cache):
    for before, after in ((b"", b"one"), (b"one", b"one, two")):
        config = Config()
        with cache(trt, config, tmp_path / "folder"):
            assert config.cache.data == before
            config.cache.data = after
    [file] = (tmp_path / "folder").iterdir()
    assert file.read_bytes() == b"one, two"


@pytest.mark.parametrize("stale", [b"of another device", b"damaged"])
def test_timings_that_do_not_fit_are_replaced(tmp_path, stale):
    cache_file(trt, tmp_path).write_bytes(stale)
    config = Config()
    with timing_cache(trt, config, tmp_path):
        assert config.cache.data == b""
        config.cache.data = b"new"
    assert cache_file(trt, tmp_path).read_bytes() == b"new"


def test_a_build_that_fails_does_not_change_the_cache(tmp_path):
    cache_file(trt, tmp_path).write_bytes(b"kept")

    def fail():
        config = Config()
        with timing_cache(trt, config, tmp_path):
            config.cache.data = b"half"
            raise SameboxError("refused")

    with pytest.raises(SameboxError):
        fail()
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"kept"]
