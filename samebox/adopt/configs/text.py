"""The text of a config file, and the path of a file that it is based on."""

from pathlib import Path

from samebox.adopt.configs.budget import MAX_CHARACTERS
from samebox.adopt.configs.values import short_repr
from samebox.core.errors import SameboxError
from samebox.core.files import existing
from samebox.core.text import one_line

MISSING_BASE_HINT = "copy the framework's folder of configs, or adopt the config stored in the checkpoint"

_MAX_DEPTH = 20  # files, each based on the next


def read_text(path: Path, chain: tuple[Path, ...]) -> str:
    """The text of the config at `path`; `chain` holds the resolved paths of the files based on it.

    Raises SameboxError if the file is absent, larger than 1 MiB or not UTF-8, if its path is none, if it is
    based on itself, or if more than 20 files are based on one another.
    """
    try:
        return _read_text(path, chain)
    except UnicodeDecodeError:
        raise SameboxError(f"{path}: not a text file; give the config first, then the checkpoint") from None
    except (OSError, ValueError, RuntimeError) as error:  # a path with NUL, too long, or a loop of links
        reason = getattr(error, "strerror", None) or error
        raise SameboxError(f"{one_line(path)}: cannot be read ({one_line(reason)}); check the path") from None


def _read_text(path: Path, chain: tuple[Path, ...]) -> str:
    if path.resolve() in chain:
        raise SameboxError(f"{path}: is based on itself through {chain[-1].name}; correct the base")
    if len(chain) > _MAX_DEPTH:
        raise SameboxError(f"{path}: more than {_MAX_DEPTH} files based on one another; correct the base")
    hint = f"{chain[-1].name} is based on it: {MISSING_BASE_HINT}" if chain else "check the path"
    if not existing(path, hint).is_file() or path.stat().st_size > MAX_CHARACTERS:
        raise SameboxError(f"{path}: not a config file of at most 1 MiB; check the path")
    return path.read_text(encoding="utf-8")


def base_path(path: Path, base: str) -> Path:
    """The path of the file `base` that the config at `path` names as its base.

    Raises SameboxError if it names a package (`mmdet::…`) or an address (`https://…`).
    """
    if "::" in base or "://" in base:
        raise SameboxError(f"{path}: the base {short_repr(base)} is not a local file; {MISSING_BASE_HINT}")
    return path.parent / base
