import collections
import copyreg
import pickle
import sys
from io import BytesIO

import numpy as np
import pytest

from samebox.checkpoints import machine
from samebox.checkpoints.machine import BrokenPickleError, PickleMachine, Placeholder
from samebox.checkpoints.rebuild import GlobalLookup

PLAIN = {
    "numbers": [0, 1, -1, 255, 65536, -(2**40), 2**700, 1.5, float("inf"), True, False, None],
    "text": ["", "a", "ünïcode ☃", "x" * 300],
    "bytes": [b"", b"ab\x00\xff", b"x" * 300],
    "sets": [set(), {1, 2}, frozenset({"a"})],
    "tuples": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)],
    "dict": {"a": {1: [2]}, None: (), True: 3.0, b"b": 4},
    "ordered": collections.OrderedDict([("b", 1), ("a", 2)]),
}


def run(stream):
    lookup = GlobalLookup()
    return PickleMachine(lookup.find).run(BytesIO(stream)), lookup.refused


@pytest.mark.parametrize("protocol", range(6))
def test_plain_values_are_read_as_by_the_standard_library(protocol):
    value, refused = run(pickle.dumps(PLAIN, protocol=protocol))
    assert value == PLAIN
    assert not refused


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize("dtype", ["b1", "i8", "u2", "f2", "f4", "f8", "c8", "S3", "U2"])
def test_numpy_arrays_and_scalars_are_read_as_by_numpy(protocol, dtype):
    array = np.arange(6).reshape(2, 3).astype(dtype)
    kinds = [array, np.asfortranarray(array), array[:0], np.array(array[0, 1]), array[1, 1]]
    value, refused = run(pickle.dumps([*kinds, kinds[0]], protocol=protocol))
    for actual, expected in zip(value[:4], kinds[:4], strict=True):
        np.testing.assert_array_equal(actual, expected, strict=True)  # dtypes and shapes, too
        assert actual.flags.writeable
    assert value[4] == array[1, 1]
    assert type(value[4]) in (bool, int, float, complex, bytes, str)
    assert value[5] is value[0]  # the memo has the array itself, not the empty one that pickle creates first
    assert not refused


def test_a_list_may_contain_itself():
    value = []
    value.append(value)
    read, _ = run(pickle.dumps(value))
    assert read[0] is read


@pytest.mark.parametrize("protocol", range(2, 6))
def test_object_arrays_are_refused(protocol):
    value, refused = run(pickle.dumps({"array": np.array([{}, print], dtype=object)}, protocol=protocol))
    assert isinstance(value["array"], Placeholder)
    assert refused == {"numpy.dtype(O8)", "builtins.print" if protocol > 2 else "__builtin__.print"}


@pytest.mark.parametrize("shape", [(3,), (5,), (2, 3), (0,), (-4,), (1 << 60, 1 << 60)])
def test_an_array_whose_size_does_not_match_its_bytes(shape):
    stream = pickle.dumps(np.arange(4), protocol=2)
    wanted, opcodes = b"K\x04\x85", pickle.dumps(shape, protocol=2)[2:-3]
    assert wanted in stream
    with pytest.raises(BrokenPickleError, match=r"a numpy array of shape|out of range"):
        run(stream.replace(wanted, opcodes))


def test_operations_on_placeholders_have_no_effect():
    foreign = b"cforeign\nThing\n"
    calls = b")R" + b"}b" + b")\x81" + b")}\x92" + b"}b"
    items = b"K\x01a" + b"(K\x01K\x02e" + b"K\x01K\x02s" + b"(K\x01K\x02u"
    value, refused = run(b"\x80\x04" + foreign + calls + items + b".")
    assert type(value) is Placeholder
    assert refused == {"foreign.Thing"}


@pytest.mark.parametrize(
    "allowed", ["collections\nOrderedDict", "torch._utils\n_rebuild_tensor_v2", "builtins\nset"]
)
def test_state_cannot_be_set_on_allowed_functions(allowed):
    before = dict(vars(GlobalLookup().find(*allowed.split("\n")).function))
    attack = b"}(X\x0c\x00\x00\x00__defaults__K\x01u"
    run(b"\x80\x02c" + allowed.encode() + b"\n" + attack + b"b.")
    run(b"\x80\x02c" + allowed.encode() + b"\nN" + attack + b"\x86b.")
    function = GlobalLookup().find(*allowed.split("\n")).function
    assert vars(function) == before
    assert function.__defaults__ != 1


def test_extension_codes_are_refused_even_when_registered(monkeypatch):
    monkeypatch.setitem(copyreg._extension_cache, 7, sys.exit)
    assert pickle.loads(b"\x80\x02\x82\x07.") is sys.exit
    with pytest.raises(BrokenPickleError, match="EXT1"):
        run(b"\x80\x02\x82\x07.")


TEXT = b"X" + (1 << 20).to_bytes(4, "little") + b"a" * (1 << 20)
HOSTILE = {
    "empty": b"",
    "no stop": b"\x80\x02N",
    "nothing on the stack": b"\x80\x02.",
    "no mark": b"\x80\x02NNt.",
    "unknown memo": b"\x80\x02h\x09.",
    "unknown opcode": b"\x80\x02\xff.",
    "missing buffer": b"\x80\x05\x97.",
    "call of text": b"\x80\x02X\x01\x00\x00\x00a)R.",
    "call of a list's method": b"\x80\x02]}R.",
    "no arguments": b"\x80\x02ccollections\nOrderedDict\nNR.",
    "state for a list": b"\x80\x02]}b.",
    "state for a number": b"\x80\x02K\x01}b.",
    "items for a tuple": b"\x80\x02)K\x01a.",
    "keys for a list": b"\x80\x02]K\x00K\x01s.",
    "members for a dict": b"\x80\x04}(K\x01\x90.",
    "odd number of keys": b"\x80\x02}(K\x01u.",
    "list as key": b"\x80\x02}]K\x01s.",
    "persistent id": b"\x80\x02K\x01Q.",
    "numbers as a global's name": b"\x80\x04K\x01K\x02\x93.",
    "bytes longer than the file": b"\x80\x04\x8e" + b"\xff" * 7 + b"\x00.",
    "buffer longer than the file": b"\x80\x05\x96" + b"\xff" * 7 + b"\x00.",
    "frame longer than the file": b"\x80\x04\x95" + b"\xff" * 8 + b"h\x09.",
    "endless digits": b"\x80\x02I" + b"9" * 10_000 + b"\n.",
    "bytes created from a length": b"\x80\x02cbuiltins\nbytes\nJ\xff\xff\xff\x7f\x85R.",
    "text encoded by a codec": b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R.",
    "big-endian numbers": pickle.dumps(np.zeros(2, ">f8"), protocol=2),
    "a key of a thousand bits": b"\x80\x02}" + pickle.dumps(2**1000, protocol=2)[2:-1] + b"K\x01s.",
    "a global with an endless name": b"\x80\x02c" + b"a" * 2000 + b"\nb\n.",
    "a storage with an endless name": b"\x80\x02(X\x07\x00\x00\x00storageN" + TEXT + b"NK\x01tQ.",
    "deeply nested key": b"\x80\x02})" + b"\x85" * 200_000 + b"K\x01s.",
}


@pytest.mark.parametrize("stream", HOSTILE.values(), ids=HOSTILE)
def test_hostile_streams_are_errors(stream):
    with pytest.raises((ValueError, LookupError, TypeError)):
        run(stream)


def test_a_large_memo_index_uses_no_memory():
    value, _ = run(b"\x80\x02Nr\xff\xff\xff\xff.")
    assert value is None


def test_deep_nesting_does_not_recurse():
    value, _ = run(b"\x80\x02N" + b"\x85" * 200_000 + b".")
    assert type(value) is tuple


AGAIN = {
    "a text is encoded": (TEXT, b"c_codecs\nencode\nh\x00\x85R"),
    "a list is copied": (b"](" + b"K\x01" * 100_000 + b"e", b"cforeign\nThing\nh\x00R"),
    "one key is set": (b"](" + b"K\x01K\x01\x86" * 100_000 + b"e", b"ccollections\nOrderedDict\nh\x00\x85R"),
}


@pytest.mark.parametrize(("value", "again"), AGAIN.values(), ids=AGAIN)
def test_work_that_is_repeated_by_the_memo_is_stopped(value, again):
    with pytest.raises(BrokenPickleError, match="memory"):
        run(b"\x80\x02(" + value + b"q\x00" + again * 100 + b"t.")


def long1(number):
    """The opcode of an integer."""
    return pickle.dumps(number, protocol=2)[2:-1]


@pytest.mark.parametrize("key", [2**61 - 1, -(2**40), 1.5, (1, "b"), "a" * 20_000], ids=type)
def test_keys_whose_hash_the_file_chooses_are_replaced(key):
    value, _ = run(pickle.dumps({key: 1, "other": 2}, protocol=4))
    other = next(iter(value))
    assert repr(other) == f"<key of type {type(key).__name__}>"
    assert list(value.values()) == [1, 2]


def test_keys_of_one_hash_are_refused():
    items = b"".join(long1((2**61 - 1) * count) + b"N" for count in range(1, 30_000))
    with pytest.raises(BrokenPickleError, match="a key of over 64 bits"):
        run(b"\x80\x02}(" + items + b"u.")


def test_too_many_opcodes_are_stopped(monkeypatch):
    monkeypatch.setattr(machine, "_MAX_OPCODES", 1000)
    with pytest.raises(BrokenPickleError, match="time"):
        run(b"\x80\x02" + b"N0" * 1000 + b"N.")
