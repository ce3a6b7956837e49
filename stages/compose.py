"""How a stage gets its configuration, and how a user's mistake ends: in one line."""

import difflib
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from samebox.errors import SameboxError

CONF = Path(__file__).resolve().parents[1] / "conf"

# What Hydra adds to its messages for its own developers
_NOISE = ("full_key:", "object_type=", "See https", "Config search path", "provider=", "To append")


def compose(name: str, overrides: Sequence[str] = ()) -> DictConfig:
    """The primary config `name` under conf/ with the overrides of a command line.

    Raises SameboxError, in one line, for whatever Hydra or OmegaConf find wrong, and for an override
    whose key no config has or whose value is of another kind than the one it replaces.
    """
    check(name, overrides)
    return _composed(name, overrides)


def _composed(name: str, overrides: Sequence[str]) -> DictConfig:
    try:
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            config = hydra.compose(name, list(overrides))
        OmegaConf.to_container(config, resolve=True)  # a broken ${} shows here, not in the middle of a run
    except (HydraException, OmegaConfBaseException) as error:
        raise SameboxError(told(error)) from None
    return config


def check(name: str, overrides: Sequence[str]) -> None:
    """Raise SameboxError for an override that the config `name` has no place for."""
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as error:
        raise SameboxError(told(error)) from None
    values = [one for one in parsed if not (CONF / one.key_or_group).is_dir() and not _hydras_own(one)]
    if values:
        base = OmegaConf.to_container(_composed(name, _choices(parsed)))
        known = dict(_leaves(base))
        for one in values:
            _check_value(one, known)


def _hydras_own(override: Override) -> bool:
    return override.key_or_group.split("/")[0].split(".")[0] == "hydra" or override.is_add()


def _choices(parsed: Sequence[Override]) -> list[str]:
    """The overrides that choose within a group; not a sweep over it, of which only one can be composed."""
    groups = (one for one in parsed if (CONF / one.key_or_group).is_dir() and not one.is_sweep_override())
    return [one.input_line for one in groups if one.input_line]


def _leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every dotted key of a config with its value, branches included."""
    if prefix:
        yield prefix, node
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _leaves(value, f"{prefix}.{key}" if prefix else str(key))


def _check_value(override: Override, known: dict[str, Any]) -> None:
    key = override.key_or_group
    if key not in known:
        close = difflib.get_close_matches(key, known, 1)
        raise SameboxError(f"{key}: no such key" + (f"; did you mean {close[0]}?" if close else ""))
    default, value = known[key], override.value()
    if override.is_sweep_override() or override.is_delete():
        return
    kinds: dict[type, tuple[type, ...]] = {bool: (bool,), int: (int,), float: (int, float)}
    wanted = kinds.get(type(default))
    if wanted and (not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted)):
        raise SameboxError(f"{key}: {value!r} is not {_KINDS[type(default)]}, such as {str(default).lower()}")
    if value == "" and isinstance(default, str):
        raise SameboxError(f"{key}: is empty; give a value")


_KINDS = {bool: "true or false", int: "a whole number", float: "a number"}


def told(error: Exception) -> str:
    """Hydra's message in one line, with the choices that it lists."""
    lines = [line.strip() for line in str(error).splitlines()]
    said = [line for line in lines if line and not line.startswith(_NOISE)]
    return "; ".join(said).replace(":;", ":").replace(".;", ";")


def plain(config: Any) -> Any:
    """A part of a config as plain dicts and lists."""
    return OmegaConf.to_container(config, resolve=True)


def main(name: str, run: Callable[[DictConfig], None]) -> None:
    """Compose `name` with the command line's overrides and run it; the exit code is 1 after a mistake."""
    guarded(lambda: run(compose(name, sys.argv[1:])))


def guarded(call: Callable[[], None]) -> None:
    """Run `call`; a SameboxError is told in one line on stderr, with exit code 1."""
    # TensorRT warns at every build of what calls for no action
    logging.basicConfig(level=logging.ERROR, format="%(levelname)s %(name)s: %(message)s")
    try:
        call()
    except SameboxError as error:
        sys.exit(f"error: {error}")
