"""A pickle machine that cannot run code: it makes plain values and inert placeholders, nothing else.

The standard `pickle.Unpickler` is not made for hostile files even with a strict `find_class`: BUILD calls
`__setstate__` or writes attributes of whatever lies on the stack, extension codes answer from a global
cache before `find_class` is asked, a large memo index allocates gigabytes, and a deeply nested tuple used
as a key overflows the C stack when hashed. Here the standard library's `pickletools` only takes the stream
apart into opcodes; what an opcode may do is written below and is all that a file can make happen.
"""

import mmap
import pickletools
import sys
from collections.abc import Callable, Iterable
from functools import partial
from typing import IO, Any, cast

_MOST_OPCODES = 2_000_000  # a detector's checkpoint has some ten thousand
# Calls may make this many bytes for each byte read: one text, encoded again and again, would add up.
_MOST_GROWTH = 16
_FREE_BYTES = 1 << 20
_KEY_TYPES = (str, bytes, int, float, bool, type(None))


class BrokenPickleError(ValueError):
    """The stream is no pickle of a checkpoint: damaged, or made to attack its reader."""


class Placeholder:
    """What stands for an object that is not rebuilt: it can be called and given state, to no effect."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.memo_keys: list[int] = []  # where the machine remembers it, in case `build` replaces it

    def __repr__(self) -> str:
        return f"<refused {self.name}>"

    def call(self, arguments: tuple[Any, ...]) -> Any:
        """What calling this makes: another placeholder."""
        return Placeholder(self.name)

    def build(self, state: Any) -> Any:
        """What stands here once `state` is given: the placeholder itself, unchanged."""
        return self


class Known(Placeholder):
    """A name of the allow-list: calling it calls our own function, never what the file named."""

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        super().__init__(name)
        self.function = function

    def call(self, arguments: tuple[Any, ...]) -> Any:
        """What our function makes of the plain `arguments`."""
        return self.function(*arguments)


def plain_key(key: Any) -> Any:
    """`key` itself if it may enter a dict or set: a scalar, a flat tuple of scalars or a placeholder."""
    if type(key) in _KEY_TYPES or isinstance(key, Placeholder):
        return key
    if type(key) is tuple and all(type(part) in _KEY_TYPES for part in key):
        return key
    raise BrokenPickleError(f"a key of type {type(key).__name__}")


class Machine:
    """Runs one pickle on a stack of plain values.

    `find` answers every global the stream asks for, by module and name; `load_persistent` answers the
    persistent ids. Both must answer with inert values: placeholders, or plain data.
    """

    def __init__(
        self, find: Callable[[str, str], Any], load_persistent: Callable[[Any], Any] | None = None
    ) -> None:
        self.find = find
        self.load_persistent = load_persistent
        self.stack: list[Any] = []
        self.outer: list[list[Any]] = []  # the stacks below each MARK
        self.memo: dict[int, Any] = {}
        self.made = 0  # bytes of all that calls have made

    def run(self, stream: IO[bytes] | mmap.mmap) -> Any:
        """The value of the pickle that starts at the stream's position, which is left behind its STOP."""
        opcodes = pickletools.genops(cast(IO[bytes], stream))  # which asks for read, readline and tell alone
        for count, (opcode, argument, position) in enumerate(opcodes):
            if count > _MOST_OPCODES or self.made > _FREE_BYTES + _MOST_GROWTH * (position or 0):
                raise BrokenPickleError("a pickle made to take up time or memory")
            if opcode.name == "STOP":
                break
            if opcode.name not in _EFFECTS:
                raise BrokenPickleError(f"the pickle opcode {opcode.name}")
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
        self.outer.append(self.stack)
        self.stack = []

    def _drop_marked(self) -> None:
        self._take_marked()

    def _take_marked(self) -> list[Any]:
        marked, self.stack = self.stack, self.outer.pop()
        return marked

    def _take(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise BrokenPickleError("a value that is not there")
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
        """Append to the list on the top, or let the placeholder there swallow the items."""
        target = self.stack[-1]
        if type(target) is list:
            target.extend(items)
        elif not isinstance(target, Placeholder):
            raise BrokenPickleError(f"items for a {type(target).__name__}")

    def _update(self, flat: list[Any]) -> None:
        """Set key, value, key, value, ... in the dict on the top, or let the placeholder swallow them."""
        target = self.stack[-1]
        if type(target) is dict:
            target.update(dict_from_flat(flat))
        elif not isinstance(target, Placeholder):
            raise BrokenPickleError(f"keys for a {type(target).__name__}")

    def _add(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not set:
            raise BrokenPickleError(f"members for a {type(target).__name__}")
        target.update(map(plain_key, items))

    def _make(self, callee: Any, arguments: Iterable[Any]) -> None:
        """Every opcode that makes an object ends here: only a placeholder can be called."""
        if not isinstance(callee, Placeholder) or not isinstance(arguments, tuple | list):
            raise BrokenPickleError(f"a call of a {type(callee).__name__}")
        self._push(self._weighed(callee.call(tuple(arguments))))

    def _weighed(self, made: Any) -> Any:
        self.made += sys.getsizeof(made)
        return made

    def _set_state(self) -> None:
        """Only placeholders accept state. A state dict's own, its module versions, is dropped."""
        target, state = self._take(2)
        if isinstance(target, Placeholder):
            target = self._replaced(target, target.build(state))
        elif type(target) is not dict:
            raise BrokenPickleError(f"state for a {type(target).__name__}")
        self._push(target)

    def _replaced(self, placeholder: Placeholder, built: Any) -> Any:
        """`built`, also put wherever the memo holds the placeholder that it replaces."""
        if built is not placeholder:
            self.memo.update(dict.fromkeys(placeholder.memo_keys, self._weighed(built)))
            placeholder.memo_keys.clear()
        return built

    def _global(self, module: str, name: str) -> None:
        if not (type(module) is type(name) is str):
            raise BrokenPickleError("a global that is not named by text")
        self._push(self.find(module, name))

    def _instance(self, names: str) -> None:
        """INST: the class is named in the opcode, its arguments lie above the mark."""
        arguments = self._take_marked()
        self._global(*names.split(" ", 1))
        self._make(self.stack.pop(), arguments)

    def _object(self) -> None:
        """OBJ: the class and its arguments lie above the mark."""
        callee, *arguments = self._take_marked()
        self._make(callee, arguments)

    def _new_with_keywords(self) -> None:
        callee, arguments, _ = self._take(3)
        self._make(callee, arguments)

    def _persistent(self, identifier: Any) -> None:
        if self.load_persistent is None:
            raise BrokenPickleError("a storage outside the pickle")
        self._push(self.load_persistent(identifier))


def dict_from_flat(flat: list[Any]) -> dict[Any, Any]:
    """The dict of key, value, key, value, ...; of equal keys the last one wins."""
    keys = map(plain_key, flat[::2])
    return dict(zip(keys, flat[1::2], strict=True))


def _take_tuple(machine: Machine, _: Any, count: int) -> None:
    machine._push(tuple(machine._take(count)))


_Effect = Callable[[Machine, Any], None]
_LITERALS = (
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE "
    "BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8"
)
_EFFECTS: dict[str, _Effect] = {
    **dict.fromkeys(_LITERALS.split(), Machine._push),
    # Frames only group bytes. Extension codes and out-of-band buffers have no place in a checkpoint.
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
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), Machine._put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), Machine._get),
    "MEMOIZE": lambda m, _: m._put(len(m.memo)),
    "TUPLE": lambda m, _: m._push(tuple(m._take_marked())),
    "LIST": lambda m, _: m._push(m._take_marked()),
    "DICT": lambda m, _: m._push(dict_from_flat(m._take_marked())),
    "FROZENSET": lambda m, _: m._push(frozenset(map(plain_key, m._take_marked()))),
    "APPEND": lambda m, _: m._extend(m._take(1)),
    "APPENDS": lambda m, _: m._extend(m._take_marked()),
    "SETITEM": lambda m, _: m._update(m._take(2)),
    "SETITEMS": lambda m, _: m._update(m._take_marked()),
    "ADDITEMS": lambda m, _: m._add(m._take_marked()),
    "GLOBAL": lambda m, names: m._global(*names.split(" ", 1)),
    "STACK_GLOBAL": lambda m, _: m._global(*m._take(2)),
    "INST": Machine._instance,
    "OBJ": lambda m, _: m._object(),
    "REDUCE": lambda m, _: m._make(*m._take(2)),
    "NEWOBJ": lambda m, _: m._make(*m._take(2)),
    "NEWOBJ_EX": lambda m, _: m._new_with_keywords(),
    "BUILD": lambda m, _: m._set_state(),
    "PERSID": Machine._persistent,
    "BINPERSID": lambda m, _: m._persistent(*m._take(1)),
}
