"""A pickle machine that cannot run code: it creates plain values and inert placeholders, nothing else.

The standard `pickle.Unpickler` is not safe with hostile files, even with a strict `find_class`: BUILD calls
`__setstate__` or sets attributes of any object on the stack, extension codes are looked up in a global cache
without `find_class`, a large memo index allocates gigabytes, and hashing a deeply nested tuple as a key
overflows the C stack. Here the standard library's `pickletools` only splits the stream into opcodes. The
effects of all opcodes are defined below, and a file cannot do anything else.
"""

import mmap
import pickletools
import sys
from collections.abc import Callable, Iterable
from functools import partial
from typing import IO, Any, cast

_MAX_OPCODES = 1_000_000  # a detector's checkpoint has ten thousand, with an optimizer ten times as many
# Calls may read and create _FREE_BYTES, and _MAX_GROWTH bytes more for each byte of the file. Without the
# limit, a file that encodes one text or copies one list again and again would fill the memory, or take hours.
_MAX_GROWTH = 16
_FREE_BYTES = 1 << 20
_SCALARS = (str, bytes, bool, type(None), int, float)
_MAX_INT_KEY = 1 << 16
_MAX_TEXT_KEY = 10_000  # characters; equal keys are compared character by character
_MAX_KEY_PARTS = 16
_MAX_NAME = 1000  # characters of a global's module and name


class BrokenPickleError(ValueError):
    """The stream is not the pickle of a checkpoint: it is damaged, or made to attack its reader."""


class Placeholder:
    """Stands for an object that is not rebuilt. Calling it and setting its state have no effect."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.memo_keys: list[int] = []  # its keys in the machine's memo, in case `build` replaces it

    def __repr__(self) -> str:
        return f"<refused {self.name}>"

    def call(self, arguments: tuple[Any, ...]) -> Any:
        """The result of calling the object: another placeholder."""
        return Placeholder(self.name)

    def build(self, state: Any) -> Any:
        """The object after its state is set: the placeholder itself, unchanged."""
        return self


class AllowedFunction(Placeholder):
    """A name on the allow-list. Calling it calls samebox's own function, not the one that the file names."""

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        super().__init__(name)
        self.function = function

    def call(self, arguments: tuple[Any, ...]) -> Any:
        """The result of samebox's function for the plain `arguments`."""
        return self.function(*arguments)


class OtherKey:
    """Stands for a key whose hash a file could choose, or that takes long to compare. Equal to itself only.

    Numbers of the same hash make a dict take quadratic time. Such keys occur only in what samebox does not
    read, such as the state of an optimizer.
    """

    __slots__ = ("name",)

    def __init__(self, key: Any) -> None:
        self.name = f"key of type {type(key).__name__}"

    def __repr__(self) -> str:
        return f"<{self.name}>"


def checked_key(key: Any) -> Any:
    """`key` itself if it is a text, bytes, None, a bool, an integer below 2^16 or a placeholder.

    An `OtherKey` for a larger integer of 64 bits, a fraction, a text of over 10,000 characters and a tuple of
    at most 16 scalars. Raises BrokenPickleError for other keys: hashing them could take long, run code of
    theirs or overflow the C stack.
    """
    kind = type(key)
    if kind in (str, bytes):
        return key if len(key) <= _MAX_TEXT_KEY else OtherKey(key)
    if key is None or kind is bool or isinstance(key, Placeholder):
        return key
    if kind is int and -_MAX_INT_KEY < key < _MAX_INT_KEY:
        return key
    if kind is int and not -(2**63) <= key < 2**64:
        raise BrokenPickleError("a key of over 64 bits")
    if kind in (int, float) or (kind is tuple and _is_flat(key)):
        return OtherKey(key)
    raise BrokenPickleError(f"a key of type {kind.__name__}")


def _is_flat(key: tuple[Any, ...]) -> bool:
    return len(key) <= _MAX_KEY_PARTS and all(type(part) in _SCALARS for part in key)


class PickleMachine:
    """Runs one pickle on a stack of plain values.

    `find_global` gives the value of each global that the stream names, by module and name; `load_persistent`
    gives the value of each persistent id. Both must return inert values: placeholders or plain data.
    """

    def __init__(
        self, find_global: Callable[[str, str], Any], load_persistent: Callable[[Any], Any] | None = None
    ) -> None:
        self.find_global = find_global
        self.load_persistent = load_persistent
        self.stack: list[Any] = []
        self.outer_stacks: list[list[Any]] = []  # one below each MARK
        self.memo: dict[int, Any] = {}
        self.handled_bytes = 0  # the size of all arguments and results of calls

    def run(self, stream: IO[bytes] | mmap.mmap) -> Any:
        """The value of the pickle at the stream's position, which is then behind the STOP opcode.

        Raises BrokenPickleError for invalid or unsupported opcodes and for pickles above the limits.
        """
        opcodes = pickletools.genops(cast(IO[bytes], stream))  # it only uses read, readline and tell
        for count, (opcode, argument, position) in enumerate(opcodes):
            if count > _MAX_OPCODES or self.handled_bytes > _FREE_BYTES + _MAX_GROWTH * (position or 0):
                raise BrokenPickleError("a pickle that uses too much time or memory")
            if opcode.name == "STOP":
                break
            if opcode.name not in _EFFECTS:
                raise BrokenPickleError(f"the unsupported pickle opcode {opcode.name}")
            _EFFECTS[opcode.name](self, argument)
        return self.stack.pop()

    def _push(self, value: Any) -> None:
        self.stack.append(value)

    def _pop(self) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self._take_marked()

    def _mark(self) -> None:
        self.outer_stacks.append(self.stack)
        self.stack = []

    def _drop_marked(self) -> None:
        self._take_marked()

    def _take_marked(self) -> list[Any]:
        marked, self.stack = self.stack, self.outer_stacks.pop()
        return marked

    def _take(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise BrokenPickleError("an opcode that finds too few values on the stack")
        taken = self.stack[-count:]
        del self.stack[-count:]
        return taken

    def _get(self, key: int) -> None:
        self._push(self.memo[key])

    def _put(self, key: int) -> None:
        value = self.memo[key] = self.stack[-1]
        if isinstance(value, Placeholder):
            value.memo_keys.append(key)

    def _extend(self, items: list[Any]) -> None:
        """Append `items` to the list on top of the stack; a placeholder there ignores them."""
        target = self.stack[-1]
        if type(target) is list:
            target.extend(items)
        elif not isinstance(target, Placeholder):
            raise BrokenPickleError(f"items appended to a {type(target).__name__}")

    def _update(self, flat: list[Any]) -> None:
        """Set keys and values, which alternate in `flat`, in the dict on top; a placeholder ignores them."""
        target = self.stack[-1]
        if type(target) is dict:
            target.update(dict_from_flat(flat))
        elif not isinstance(target, Placeholder):
            raise BrokenPickleError(f"keys set in a {type(target).__name__}")

    def _add(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not set:
            raise BrokenPickleError(f"members added to a {type(target).__name__}")
        target.update(map(checked_key, items))

    def _call(self, callee: Any, arguments: Iterable[Any]) -> None:
        """Push the result of a call, for all opcodes that create objects. Only placeholders can be called."""
        if not isinstance(callee, Placeholder) or not isinstance(arguments, tuple | list):
            raise BrokenPickleError(f"a call of a {type(callee).__name__}")
        self._count_bytes(arguments)
        for argument in arguments:
            self._count_bytes(argument)
        self._push(self._count_bytes(callee.call(tuple(arguments))))

    def _count_bytes(self, value: Any) -> Any:
        self.handled_bytes += sys.getsizeof(value)
        return value

    def _set_state(self) -> None:
        """Set the state of a placeholder. The state of a state dict, its module versions, is dropped."""
        target, state = self._take(2)
        if isinstance(target, Placeholder):
            target = self._replace_in_memo(target, target.build(state))
        elif type(target) is not dict:
            raise BrokenPickleError(f"state set on a {type(target).__name__}")
        self._push(target)

    def _replace_in_memo(self, placeholder: Placeholder, built: Any) -> Any:
        """Replace `placeholder` by `built` in the memo, and return `built`."""
        if built is not placeholder:
            self.memo.update(dict.fromkeys(placeholder.memo_keys, self._count_bytes(built)))
            placeholder.memo_keys.clear()
        return built

    def _global(self, module: str, name: str) -> None:
        if not (type(module) is type(name) is str):
            raise BrokenPickleError("a global whose name is not text")
        if len(module) + len(name) > _MAX_NAME:
            raise BrokenPickleError(f"a global whose name has over {_MAX_NAME} characters")
        self._push(self.find_global(module, name))

    def _instance(self, names: str) -> None:
        """INST: the opcode names the class, and its arguments are above the mark."""
        arguments = self._take_marked()
        self._global(*names.split(" ", 1))
        self._call(self.stack.pop(), arguments)

    def _object(self) -> None:
        """OBJ: the class and its arguments are above the mark."""
        callee, *arguments = self._take_marked()
        self._call(callee, arguments)

    def _new_with_keywords(self) -> None:
        callee, arguments, _ = self._take(3)
        self._call(callee, arguments)

    def _persistent(self, identifier: Any) -> None:
        if self.load_persistent is None:
            raise BrokenPickleError("a persistent id where no storages are expected")
        self._push(self.load_persistent(identifier))


def dict_from_flat(flat: list[Any]) -> dict[Any, Any]:
    """The dict of keys and values, which alternate in `flat`. The last of equal keys wins."""
    keys = map(checked_key, flat[::2])
    return dict(zip(keys, flat[1::2], strict=True))


def _take_tuple(machine: PickleMachine, _: Any, count: int) -> None:
    machine._push(tuple(machine._take(count)))


_Effect = Callable[[PickleMachine, Any], None]
_LITERALS = (
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE "
    "BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8"
)
_EFFECTS: dict[str, _Effect] = {
    **dict.fromkeys(_LITERALS.split(), PickleMachine._push),
    # Frames only group bytes. Extension codes and out-of-band buffers do not occur in checkpoints.
    **dict.fromkeys(("PROTO", "FRAME"), lambda m, _: None),
    "NONE": lambda m, _: m._push(None),
    "NEWTRUE": lambda m, _: m._push(True),
    "NEWFALSE": lambda m, _: m._push(False),
    "EMPTY_LIST": lambda m, _: m._push([]),
    "EMPTY_DICT": lambda m, _: m._push({}),
    "EMPTY_SET": lambda m, _: m._push(set()),
    "EMPTY_TUPLE": lambda m, _: m._push(()),
    "TUPLE1": partial(_take_tuple, count=1),
    "TUPLE2": partial(_take_tuple, count=2),
    "TUPLE3": partial(_take_tuple, count=3),
    "MARK": lambda m, _: m._mark(),
    "POP": lambda m, _: m._pop(),
    "POP_MARK": lambda m, _: m._drop_marked(),
    "DUP": lambda m, _: m._push(m.stack[-1]),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), PickleMachine._put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), PickleMachine._get),
    "MEMOIZE": lambda m, _: m._put(len(m.memo)),
    "TUPLE": lambda m, _: m._push(tuple(m._take_marked())),
    "LIST": lambda m, _: m._push(m._take_marked()),
    "DICT": lambda m, _: m._push(dict_from_flat(m._take_marked())),
    "FROZENSET": lambda m, _: m._push(frozenset(map(checked_key, m._take_marked()))),
    "APPEND": lambda m, _: m._extend(m._take(1)),
    "APPENDS": lambda m, _: m._extend(m._take_marked()),
    "SETITEM": lambda m, _: m._update(m._take(2)),
    "SETITEMS": lambda m, _: m._update(m._take_marked()),
    "ADDITEMS": lambda m, _: m._add(m._take_marked()),
    "GLOBAL": lambda m, names: m._global(*names.split(" ", 1)),
    "STACK_GLOBAL": lambda m, _: m._global(*m._take(2)),
    "INST": PickleMachine._instance,
    "OBJ": lambda m, _: m._object(),
    "REDUCE": lambda m, _: m._call(*m._take(2)),
    "NEWOBJ": lambda m, _: m._call(*m._take(2)),
    "NEWOBJ_EX": lambda m, _: m._new_with_keywords(),
    "BUILD": lambda m, _: m._set_state(),
    "PERSID": PickleMachine._persistent,
    "BINPERSID": lambda m, _: m._persistent(*m._take(1)),
}
