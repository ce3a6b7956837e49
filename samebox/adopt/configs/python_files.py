"""MMDetection's Python configs, merged with the files that they are based on into one mapping."""

import ast
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from samebox.adopt.configs.budget import Budget
from samebox.adopt.configs.literal import parse, read_assignments
from samebox.adopt.configs.merge import merge
from samebox.adopt.configs.text import MISSING_BASE_HINT, base_path, read_text
from samebox.adopt.configs.values import short_repr
from samebox.core.errors import SameboxError

_MAX_FILES = 200


def python_config(path: Path) -> dict[str, Any]:
    """The names that a config assigns, merged with those of its `_base_` files and of configs it imports.

    Raises SameboxError if a file is absent, is based on itself or is not a config.
    """
    return _FileReader().read(path, ())


def embedded_config(text: str, source: str) -> dict[str, Any]:
    """The names that a config stored in a checkpoint assigns.

    Old checkpoints store the texts of all files one after the other, each below a line with its path; bases
    come first. `source` names the checkpoint in errors.
    """
    config: dict[str, Any] = {}
    Budget().spend_characters(len(text), source)
    parts = re.split(r"(?m)^[^\s=#'\"()]+\.py[ \t]*$", text, maxsplit=_MAX_FILES)
    budget = Budget()
    for part in parts:
        tree = parse(part, source, budget)
        assignments = read_assignments(tree, source, config, _no_imports(source), budget)
        config = merge(assignments, config, source)
    return config


class _FileReader:
    """Reads files and the files that they are based on, at most 200 in all."""

    def __init__(self) -> None:
        self.count = 0
        self.budget = Budget()

    def read(self, path: Path, chain: tuple[Path, ...]) -> dict[str, Any]:
        """The merged names of the file at `path`; `chain` has the resolved paths of the files based on it."""
        text, chain = read_text(path, chain), (*chain, path.resolve())
        self.count += 1
        if self.count > _MAX_FILES:
            raise SameboxError(f"{path}: more than {_MAX_FILES} files based on one another; correct _base_")
        file = str(path)
        tree = parse(text, file, self.budget)

        def import_config(module: str, level: int) -> dict[str, Any]:
            if level == 0:
                raise SameboxError(
                    f"{file}: imports {module}, which is not a local file; {MISSING_BASE_HINT}"
                )
            folder = path.parents[level - 1] if level <= len(path.parents) else path.parent
            if not module:
                raise SameboxError(f"{file}: imports a folder, not a file; {MISSING_BASE_HINT}")
            *folders, name = module.split(".")
            return self.read(folder.joinpath(*folders, f"{name}.py"), chain)

        only_base = read_assignments(_only_base(tree), file, {}, import_config, self.budget)
        base = self.read_bases(path, only_base.get("_base_", []), chain)
        own = read_assignments(tree, file, base, import_config, self.budget)
        own.pop("_base_", None)
        return merge(own, base, file)

    def read_bases(self, path: Path, bases: Any, chain: tuple[Path, ...]) -> dict[str, Any]:
        """The names of the files in `bases`, the value of `_base_` in the file at `path`.

        Raises SameboxError if two of them assign the same name.
        """
        bases = [bases] if isinstance(bases, str) else bases
        if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
            raise SameboxError(f"{path}: _base_ is {short_repr(bases)}; give the paths of files")
        config: dict[str, Any] = {}
        for base in bases:
            names = self.read(base_path(path, base), chain)
            if conflicts := sorted(config.keys() & names.keys()):
                raise SameboxError(f"{path}: two _base_ files assign {conflicts[0]}; correct _base_")
            config |= names
        return config


def _only_base(tree: ast.Module) -> ast.Module:
    """The module with only its assignments of `_base_`."""
    assignments = [node for node in tree.body if isinstance(node, ast.Assign)]
    body = [node for node in assignments if getattr(node.targets[0], "id", "") == "_base_"]
    return ast.Module(body=list[ast.stmt](body), type_ignores=[])


def _no_imports(source: str) -> Any:
    def import_config(module: str, level: int) -> Mapping[str, Any]:
        raise SameboxError(
            f"{source}: imports {'.' * level}{module}, which is not stored in it; {MISSING_BASE_HINT}"
        )

    return import_config
