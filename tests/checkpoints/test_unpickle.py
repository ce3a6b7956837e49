import os
import pickle
import random
import sys
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from crafted import Calls, Marks, opcodes, payloads, tensor_pickle, zip_file

from samebox.checkpoints.machine import Placeholder
from samebox.checkpoints.unpickle import Checkpoint, read_checkpoint
from samebox.core.errors import SameboxError

ROOT = Path(__file__).parents[2]
SHARED = Path(os.environ.get("SAMEBOX_CHECKPOINTS", ROOT.parent / "shared" / "checkpoints"))
DEMO = ROOT / "demo" / "checkpoints" / "retinanet_shapes.pth"
REAL = sorted({path.name: path for path in [*SHARED.glob("*.pth"), DEMO] if path.exists()}.values())
CLASSES = ("disc", "square", "triangle", "star", "ring", "cross")
STATE = {
    "transposed": torch.randn(3, 4).t(),
    "double": torch.randn(2).double(),
    "half": torch.randn(2).half(),
    "bfloat": torch.randn(2).bfloat16(),
    "bool": torch.tensor([True, False]),
    "byte": torch.tensor([1, 255], dtype=torch.uint8),
    "scalar": torch.tensor(3),
    "empty": torch.empty(0, 3),
    "sliced": torch.arange(12.0).reshape(3, 4)[1:, ::2],
    "parameter": torch.nn.Parameter(torch.ones(2)),
}
DATA = np.arange(4, dtype="<f4").tobytes()


def error_of(path):
    """The line of the error that reading raises."""
    with pytest.raises(SameboxError) as error:
        read_checkpoint(path)
    line = str(error.value)
    assert line.startswith(f"{path}: ")
    assert "\n" not in line
    return line


def equal(a, b):
    return a.dtype == b.dtype and torch.equal(a, b)


def read_by_torch(path, monkeypatch):
    """The file as torch unpickles it, with stand-ins for the MMEngine classes that it needs."""
    history = types.ModuleType("mmengine.logging.history_buffer")
    methods = dict.fromkeys(("min", "max", "current", "mean"), print)
    history.HistoryBuffer = type("HistoryBuffer", (), methods)
    for name in ("mmengine", "mmengine.logging"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, history.__name__, history)
    return torch.load(path, weights_only=False)


@pytest.mark.skipif(not REAL, reason="no MMDetection checkpoint in demo/checkpoints or SAMEBOX_CHECKPOINTS")
@pytest.mark.filterwarnings("ignore:numpy.core")  # numpy 1 wrote this name into the files
@pytest.mark.parametrize("path", REAL, ids=lambda path: path.stem)
def test_mmdetection_checkpoint(path, monkeypatch):
    read, expected = read_checkpoint(path), read_by_torch(path, monkeypatch)
    assert list(read.state) == list(expected["state_dict"])
    assert all(equal(read.state[name], value) for name, value in expected["state_dict"].items())
    assert read.meta == expected["meta"]
    assert read.class_names == CLASSES
    has_log = bool(expected["message_hub"])
    log_names = ("__builtin__.getattr", "mmengine.logging.history_buffer.HistoryBuffer")
    assert read.refused == (log_names if has_log else ())


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_torch_files_keep_dtypes_strides_and_shared_storages(tmp_path, zipped):
    shared = torch.arange(6.0)
    state = STATE | {"first": shared[:3], "last": shared[3:]}
    torch.save({"model": state}, tmp_path / "net.pth", _use_new_zipfile_serialization=zipped)
    read = read_checkpoint(tmp_path / "net.pth")
    assert all(equal(read.state[name], value) for name, value in state.items())
    assert read.state["transposed"].stride() == STATE["transposed"].stride()
    assert read.state["first"].untyped_storage().data_ptr() == read.state["last"].untyped_storage().data_ptr()
    assert not any(value.requires_grad for value in read.state.values())
    read.state["half"].zero_()
    assert read.refusal_line() is None
    assert read.meta == {}
    assert read.class_names is None


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_file_with_only_a_state_dict(tmp_path, zipped):
    network = torch.nn.BatchNorm2d(3)
    torch.save(network.state_dict(), tmp_path / "net.pth", _use_new_zipfile_serialization=zipped)
    read = read_checkpoint(tmp_path / "net.pth")
    assert all(equal(read.state[name], value) for name, value in network.state_dict().items())


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("key", ["model", "blobs"])
def test_pickles_of_numpy_arrays(tmp_path, protocol, key):
    weight = np.random.default_rng(0).random((3, 2), dtype=np.float32)
    arrays = {"weight": weight, "fortran": np.asfortranarray(weight), "n": np.array(2)}
    (tmp_path / "net.pkl").write_bytes(pickle.dumps({key: arrays, "__author__": "them"}, protocol=protocol))
    read = read_checkpoint(tmp_path / "net.pkl")
    assert all(equal(read.state[name], torch.from_numpy(value)) for name, value in arrays.items())
    assert not read.refused


def test_a_python_2_pickle_is_read_as_latin_1(tmp_path):
    dtype = b"cnumpy\ndtype\n(U\x02f4K\x00K\x01tR(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    empty = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
    array = empty + b"(K\x01(K\x04t" + dtype + b"\x89U\x10" + DATA + b"tb"
    (tmp_path / "net.pkl").write_bytes(b"\x80\x02}U\x05model}U\x01w" + array + b"ss.")
    assert read_checkpoint(tmp_path / "net.pkl").state["w"].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "meta",
    [
        {"dataset_meta": {"classes": CLASSES}},
        {"dataset_meta": {"CLASSES": CLASSES}},
        {"CLASSES": list(CLASSES)},
    ],
)
def test_class_names_of_mmdetection_2_and_3(tmp_path, meta):
    torch.save({"meta": meta, "state_dict": STATE}, tmp_path / "net.pth")
    assert read_checkpoint(tmp_path / "net.pth").class_names == CLASSES


def trained(payload=None):
    return {"state_dict": {"weight": torch.arange(4.0)}, "meta": {"epoch": 1}, "optimizer": payload}


@pytest.mark.parametrize("name", payloads(Path("mark")))
def test_payloads_are_not_run(tmp_path, name):
    mark = tmp_path / "mark"
    stream = payloads(mark)[name]
    pickle.loads(stream)
    assert mark.exists()  # the payload works
    mark.unlink()
    (tmp_path / "payload.pkl").write_bytes(stream)
    zip_file(tmp_path / "payload.pth", stream)
    for path in (tmp_path / "payload.pkl", tmp_path / "payload.pth"):
        assert "names code that was not run (" in error_of(path)
    assert not mark.exists()


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_tensors_beside_payloads_are_read(tmp_path, zipped):
    mark = tmp_path / "mark"
    evil = [Calls(os.system, f"touch {mark}"), Marks(mark)]
    torch.save(trained(evil), tmp_path / "net.pth", _use_new_zipfile_serialization=zipped)
    read = read_checkpoint(tmp_path / "net.pth")
    assert read.state["weight"].tolist() == [0, 1, 2, 3]
    assert read.refused == ("crafted.Marks", "posix.system")
    assert not mark.exists()


def test_payloads_in_the_metadata_are_placeholders(tmp_path):
    torch.save({"state_dict": STATE, "meta": {"hook": Calls(eval, "1 / 0")}}, tmp_path / "net.pth")
    read = read_checkpoint(tmp_path / "net.pth")
    assert isinstance(read.meta["hook"], Placeholder)
    assert read.refusal_line() == "net.pth: read without running the code that it names (__builtin__.eval)"


def test_control_characters_in_names_are_replaced(tmp_path):
    foreign = opcodes("evil\n\x1b[2J") + opcodes("name") + b"\x93"
    (tmp_path / "net.pkl").write_bytes(b"\x80\x04" + foreign + b".")
    assert "evil ?[2J.name" in error_of(tmp_path / "net.pkl")


def test_the_pickle_of_a_whole_network_is_named(tmp_path):
    for zipped in (True, False):
        torch.save(torch.nn.Linear(2, 2), tmp_path / "net.pth", _use_new_zipfile_serialization=zipped)
        assert "torch.nn.modules.linear.Linear" in error_of(tmp_path / "net.pth")


def test_a_state_dict_with_a_value_that_is_not_a_tensor(tmp_path):
    torch.save({"state_dict": {"weight": torch.ones(1), "hook": Calls(print, 1)}}, tmp_path / "net.pth")
    assert "'hook' in its state dict is a __builtin__.print, not a tensor" in error_of(tmp_path / "net.pth")


def test_object_arrays_are_not_weights(tmp_path):
    arrays = {"model": {"weight": np.array([{}], dtype=object)}}
    (tmp_path / "net.pkl").write_bytes(pickle.dumps(arrays))
    assert "'weight' in its state dict is a numpy.ndarray, not a tensor" in error_of(tmp_path / "net.pkl")


def test_a_view_inside_its_storage_is_read(tmp_path):
    path = zip_file(tmp_path / "net.pth", tensor_pickle(1, (2,), (2,)), {"data/0": DATA})
    assert read_checkpoint(path).state["weight"].tolist() == [1, 3]


@pytest.mark.parametrize(
    "numbers",
    [
        {"sizes": (5,)},
        {"offset": 1},
        {"offset": -1},
        {"strides": (2,)},
        {"strides": (-1,)},
        {"sizes": (-4,)},
        {"sizes": (2, 2), "strides": (3, 1)},
        {"sizes": (1 << 40,), "strides": (0,)},
        {"sizes": (1 << 61, 8), "strides": (0, 0)},
        {"sizes": (1 << 70,)},
        {"sizes": (0,), "offset": 5},
        {"sizes": (2, 2)},
        {"sizes": (1,) * 100, "strides": (1,) * 100},
        {"sizes": (4.0,)},
        {"sizes": 4},
        {"offset": None},
        {"count": 3},
        {"count": 1 << 62},
        {"count": -4},
        {"count": "4"},
        {"kind": "DoubleStorage"},
        {"kind": "save"},
    ],
    ids=str,
)
def test_invalid_views(tmp_path, numbers):
    path = zip_file(tmp_path / "net.pth", tensor_pickle(**numbers), {"data/0": DATA})
    assert "not a valid checkpoint: a" in error_of(path)


def test_legacy_storages_larger_than_the_file(tmp_path):
    torch.save(trained(), tmp_path / "net.pth", _use_new_zipfile_serialization=False)
    raw = (tmp_path / "net.pth").read_bytes()
    count = raw.index(b"cpu") + raw[raw.index(b"cpu") :].index(b"K\x04")
    (tmp_path / "net.pth").write_bytes(raw[:count] + b"J\xff\xff\xff\x7f" + raw[count + 2 :])
    assert "storages larger than the file" in error_of(tmp_path / "net.pth")


def test_a_missing_storage(tmp_path):
    assert "data/0" in error_of(zip_file(tmp_path / "net.pth", tensor_pickle()))


def test_big_endian_files(tmp_path):
    zip_file(tmp_path / "net.pth", tensor_pickle(), {"data/0": DATA, "byteorder": b"big"})
    assert "big-endian" in error_of(tmp_path / "net.pth")
    torch.save(trained(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    raw = (tmp_path / "old.pth").read_bytes()
    end = raw.index(b"little_endian") + len("little_endian")
    assert raw[end + 2 : end + 3] == b"\x88"
    (tmp_path / "old.pth").write_bytes(raw[: end + 2] + b"\x89" + raw[end + 3 :])
    assert "big-endian" in error_of(tmp_path / "old.pth")


def test_zip_bombs(tmp_path):
    bomb = zip_file(tmp_path / "bomb.pth", tensor_pickle(), {"data/0": bytes(10_000_000)}, compressed=True)
    assert bomb.stat().st_size < 20_000
    assert "compressed" in error_of(bomb)
    small = zip_file(tmp_path / "small.pth", tensor_pickle(), {"data/0": DATA}, compressed=True)
    assert "compressed" in error_of(small)


def test_a_storage_larger_than_the_archive(tmp_path):
    path = zip_file(tmp_path / "net.pth", tensor_pickle(), {"data/0": DATA})
    raw = path.read_bytes()
    entry = raw.index(b"PK\x01\x02", raw.index(b"PK\x01\x02") + 1)
    sizes = entry + 20
    path.write_bytes(raw[:sizes] + b"\xff\xff\xff\x7f" * 2 + raw[sizes + 8 :])
    assert "compressed" in error_of(path)


def test_a_pickle_above_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr("samebox.checkpoints.unpickle._MAX_PICKLE_BYTES", 50)
    assert "data.pkl" in error_of(zip_file(tmp_path / "net.pth", tensor_pickle(), {"data/0": DATA}))


def test_nested_archives_are_not_opened(tmp_path):
    mark = tmp_path / "mark"
    evil = payloads(mark)["system"]
    inner = zip_file(tmp_path / "inner.pth", evil).read_bytes()
    members = {"data/0": DATA, "inner.pth": inner, "extra/data.pkl": evil, "constants.pkl": evil}
    path = zip_file(tmp_path / "net.pth", tensor_pickle(), members)
    read = read_checkpoint(path)
    assert (list(read.state), read.refused) == (["weight"], ())
    assert not mark.exists()


def test_two_members_of_the_same_name(tmp_path):
    path = zip_file(tmp_path / "net.pth", tensor_pickle(), {"data/0": DATA})
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("net/data/0", DATA)
    assert "two members" in error_of(path)


def test_other_files(tmp_path):
    (tmp_path / "page.pth").write_text("<!DOCTYPE html><title>404 Not Found</title>")
    assert "begins with b'<!DOCTYPE html><title>40'" in error_of(tmp_path / "page.pth")
    (tmp_path / "empty.pth").touch()
    assert "is empty" in error_of(tmp_path / "empty.pth")
    assert "a directory" in error_of(tmp_path)
    assert "no such file" in error_of(tmp_path / "absent.pth")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "without exactly one data.pkl" in error_of(tmp_path / "other.zip")
    (tmp_path / "number.pkl").write_bytes(pickle.dumps(5))
    assert "contains no state dict" in error_of(tmp_path / "number.pkl")


def small_files(folder, mark):
    """A small file of each format, each with a payload."""
    torch.save(trained(Calls(os.system, f"touch {mark}")), folder / "zip.pth")
    torch.save(
        trained(Calls(os.system, f"touch {mark}")), folder / "old.pth", _use_new_zipfile_serialization=False
    )
    arrays = {"model": {"weight": np.arange(4.0)}, "hook": Calls(os.system, f"touch {mark}")}
    (folder / "arrays.pkl").write_bytes(pickle.dumps(arrays, protocol=2))
    return [folder / "zip.pth", folder / "old.pth", folder / "arrays.pkl"]


def test_files_that_end_early_at_any_byte(tmp_path):
    for path in small_files(tmp_path, tmp_path / "mark"):
        raw, cut = path.read_bytes(), tmp_path / "cut"
        for length in {*range(0, len(raw), 7), *range(max(0, len(raw) - 40), len(raw))}:
            cut.write_bytes(raw[:length])
            error_of(cut)
    assert not (tmp_path / "mark").exists()


@pytest.mark.filterwarnings("ignore:invalid escape sequence")
def test_any_single_byte_corrupted(tmp_path):
    generator = random.Random(0)
    for path in small_files(tmp_path, tmp_path / "mark"):
        raw, corrupted, outcomes = path.read_bytes(), tmp_path / "corrupted", set()
        for position in range(len(raw)):
            other = (raw[position] + generator.randrange(1, 256)) % 256
            corrupted.write_bytes(raw[:position] + bytes([other]) + raw[position + 1 :])
            try:
                outcomes.add(type(read_checkpoint(corrupted)))
            except SameboxError as error:
                outcomes.add(len(str(error).splitlines()))
        assert outcomes == {Checkpoint, 1}
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["lone \ud800", "\x1b[31mred"], ("lone ?", "?[31mred")),
        (["a" * 1001], None),
        (["a"] * 100_001, None),
        ([], None),
        (["a", 1], None),
    ],
    ids=["control characters", "an endless name", "too many", "none", "a number"],
)
def test_class_names_are_checked(names, expected):
    assert Checkpoint(Path("net.pth"), {}, {"CLASSES": names}, ()).class_names == expected


def test_a_safetensors_file_is_named_as_such(tmp_path):
    header = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    (tmp_path / "net.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + DATA[:4])
    assert "a safetensors file, which samebox does not read yet" in error_of(tmp_path / "net.safetensors")


def test_what_is_not_a_regular_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "net.pth")
    assert "not a regular file" in error_of(tmp_path / "net.pth")
