"""Where configs are found: first in `conf/` of the working directory, then in the one that samebox brings."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin

# A wheel has conf/ as a folder of this package
_PACKAGED = Path(__file__).resolve().with_name("conf")
CONF = _PACKAGED if _PACKAGED.is_dir() else _PACKAGED.parents[1] / "conf"
# A user's own; in the repository both are the same folder
OWN = Path("conf")
# Those of `added`
_ADDED: list[Path] = []


def folders() -> list[Path]:
    """The folders of configs; a file in an earlier one hides that of the same name in a later one."""
    return list(dict.fromkeys([*_ADDED, OWN.resolve(), CONF]))


@contextmanager
def added(folder: Path) -> Iterator[None]:
    """Search `folder` before all others in the block."""
    _ADDED.insert(0, folder.resolve())
    try:
        yield
    finally:
        _ADDED.remove(folder.resolve())


def is_group(key: str) -> bool:
    """True if `key` names a folder of choices, as `detector` does."""
    return any((folder / key).is_dir() for folder in folders())


def choices(group: str) -> dict[str, Path]:
    """The file of each choice of a group, by name."""
    files = (path for folder in reversed(folders()) for path in (folder / group).glob("*.yaml"))
    by_name = {path.stem: path for path in files}
    return dict(sorted(by_name.items()))


class _OwnFirst(SearchPathPlugin):
    """Makes Hydra search the folders before the one that a config is composed from."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Put the folders first, in their order."""
        for folder in reversed(folders()):
            search_path.prepend("samebox", f"file://{folder}")


Plugins.instance().register(_OwnFirst)
