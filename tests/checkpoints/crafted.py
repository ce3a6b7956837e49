"""Checkpoint files written byte by byte, and payloads that create a file if they are run."""

import os
import pickle
import subprocess
import zipfile
from pathlib import Path
from typing import Any


def zip_file(
    path: Path, content: bytes, members: dict[str, bytes] | None = None, compressed: bool = False
) -> Path:
    """A torch zip archive with `content` as its data.pkl, and other `members`."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED) as archive:
        archive.writestr("net/data.pkl", content)
        for name, data in (members or {}).items():
            archive.writestr(f"net/{name}", data)
    return path


def tensor_pickle(
    offset: object = 0,
    sizes: object = (4,),
    strides: object = (1,),
    count: object = 4,
    kind: str = "FloatStorage",
) -> bytes:
    """The pickle of {"weight": a view of storage 0} as torch writes it, with any numbers."""
    storage = opcodes("storage") + f"ctorch\n{kind}\n".encode() + opcodes("0") + opcodes("cpu")
    view = opcodes(offset) + opcodes(sizes) + opcodes(strides) + b"\x89ccollections\nOrderedDict\n)R"
    call = b"ctorch._utils\n_rebuild_tensor_v2\n((" + storage + opcodes(count) + b"tQ" + view + b"tR"
    return b"\x80\x02}" + opcodes("weight") + call + b"s."


def opcodes(value: object) -> bytes:
    """The opcodes that push a plain value, without those that begin and end a pickle or fill the memo."""
    if isinstance(value, tuple):
        return b"(" + b"".join(map(opcodes, value)) + b"t"
    return pickle.dumps(value, protocol=2)[2:-1].replace(b"q\x00", b"")


class Calls:
    """Pickled as the call of a function with arguments."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.reduced = (function, arguments)

    def __reduce__(self) -> Any:
        return self.reduced


class Marks:
    """Creates the file `mark` when its state is set, as a class of a package could."""

    def __init__(self, mark: Path) -> None:
        self.mark = str(mark)

    def __setstate__(self, state: dict[str, str]) -> None:
        Path(state["mark"]).touch()


def payloads(mark: Path) -> dict[str, bytes]:
    """Pickles by their method of attack. The standard library creates the file `mark` if it loads them."""
    command, code = f"touch {mark}", f"open({str(mark)!r}, 'w').close()"
    calls = {
        "system": Calls(os.system, command),
        "subprocess": Calls(subprocess.check_call, ["touch", str(mark)]),
        "eval": Calls(eval, code),
        "exec": Calls(exec, code),
        "setstate": Marks(mark),
        "nested": [1, {"a": (Calls(os.system, command),)}],
    }
    touch = opcodes(command)
    by_hand = {
        "dotted name": b"\x80\x04\x8c\x02os\x8c\x0epath.os.system\x93" + touch + b"\x85R.",
        "inst": b"\x80\x02(" + touch + b"ios\nsystem\n.",
        "obj": b"\x80\x02(cos\nsystem\n" + touch + b"o.",
        "protocol 0": b"\x80\x02cposix\nsystem\np0\n(V" + command.encode() + b"\ntp1\nRp2\n.",
        "memo": b"\x80\x02cos\nsystem\nq\x050h\x05" + touch + b"\x85R.",
        "getattr chain": b"\x80\x02c__builtin__\ngetattr\nc__builtin__\n__import__\n"
        + (opcodes(("os",)) + b"R" + opcodes("system") + b"\x86R" + touch + b"\x85R."),
    }
    return {name: pickle.dumps(value, protocol=2) for name, value in calls.items()} | by_hand
