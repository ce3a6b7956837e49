"""How a stage gets its configuration, and how a user's mistake ends: in one line."""

import difflib
import json
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, QuotedString
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from samebox.core.errors import SameboxError
from stages.search import CONF, is_group

# What Hydra adds to its messages for its own developers
_NOISE = ("full_key:", "object_type=", "See https", "Config search path", "provider=", "To append")

# The type of a default → what may replace it, in words and in types
_KINDS: dict[type, tuple[str, tuple[type, ...]]] = {
    bool: ("true or false", (bool,)),
    int: ("a whole number", (int,)),
    float: ("a number", (int, float)),
    str: ("a text or a number", (str, int, float)),
    list: ("a list", (list,)),
    dict: ("a mapping", (dict,)),
}


def compose(name: str, overrides: Sequence[str] = ()) -> DictConfig:
    """The primary config `name` under conf/ with the overrides of a command line.

    Raises SameboxError, in one line, for whatever Hydra or OmegaConf find wrong, and for an override
    whose key no config has or whose value is of another kind than the one it replaces.
    """
    config = check(name, overrides)
    if not all(_is_choice(_parsed(text)) for text in overrides):
        config = _composed(name, overrides)
    if missing := OmegaConf.missing_keys(config):
        raise SameboxError(f"{', '.join(sorted(missing))}: not given; add {min(missing)}=VALUE")
    return config


def _composed(name: str, overrides: Sequence[str]) -> DictConfig:
    try:
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            config = hydra.compose(name, list(overrides))
        OmegaConf.to_container(config, resolve=True)  # a broken ${} shows here, not in the middle of a run
    except (HydraException, OmegaConfBaseException) as error:
        raise SameboxError(told(error)) from None
    return config


def check(name: str, overrides: Sequence[str]) -> DictConfig:
    """The config `name` with the choices of groups among the overrides, but for those that a sweep varies.

    Raises SameboxError for an override that it has no place for.
    """
    parsed = [_parsed(text) for text in overrides]
    groups = [one for one in parsed if _is_group(one)]
    chosen = [str(one.input_line) for one in groups if _is_choice(one)]
    base = _composed(name, chosen)
    for swept in (one for one in groups if one.is_sweep_override()):
        for choice in _values(swept):
            _composed(name, [*chosen, f"{swept.key_or_group}={choice}"])
    known = dict(_leaves(OmegaConf.to_container(base)))
    for one in parsed:
        if not (_is_group(one) or one.is_add() or one.key_or_group.startswith("hydra.")):
            _check_value(one, known)
    return base


def _parsed(text: str) -> Override:
    try:
        override = OverridesParser.create().parse_override(text)
    except HydraException:
        raise SameboxError(f"{text!r}: not an override; write KEY=VALUE, such as export.opset=18") from None
    if override.is_delete():
        raise SameboxError(f"{text}: what a stage reads cannot be deleted; give it another value")
    return override


def _is_group(override: Override) -> bool:
    return override.key_or_group.startswith("hydra/") or is_group(override.key_or_group)


def _is_choice(override: Override) -> bool:
    """Whether it names one choice of a group."""
    return _is_group(override) and not override.is_sweep_override()


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
    for value in _values(override):
        _check_kind(key, known[key], value)


def _values(override: Override) -> list[Any]:
    """The value, or those of a sweep that lists them; none of another sweep."""
    value = override.value()
    if isinstance(value, ChoiceSweep):
        return [one.text if isinstance(one, QuotedString) else one for one in value.list]
    return [] if override.is_sweep_override() else [value]


def _check_kind(key: str, default: Any, value: Any) -> None:
    if type(default) not in _KINDS:
        return
    called, kinds = _KINDS[type(default)]
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise SameboxError(f"{key}: {value!r} is not {called}, such as {json.dumps(default)}")
    if value == "" and isinstance(default, str):
        raise SameboxError(f"{key}: is empty; give a value")


def told(error: Exception) -> str:
    """Hydra's message in one line, with the choices that it lists."""
    lines = [line.strip() for line in str(error).splitlines()]
    said = [line for line in lines if line and not line.startswith(_NOISE)]
    return "; ".join(said).replace(":;", ":").replace(".;", ";")


def plain(config: Any) -> Any:
    """A part of a config as plain dicts and lists."""
    return OmegaConf.to_container(config, resolve=True)


def artifact(config: DictConfig, folder: str, file: str) -> Path:
    """Where a file of this detector lies, by the names in conf/paths.yaml."""
    return Path(folder) / config.detector.name / file


def main(name: str, run: Callable[[DictConfig], None]) -> None:
    """Compose `name` with the command line's overrides and run it; the exit code is 1 after a mistake.

    `--help` prints the docstring of the module that defines `run`, and the keys of the config.
    """
    from stages import usage  # only the help needs it

    if usage.requested(sys.argv[1:]):
        print(usage.text(str(sys.modules[run.__module__].__doc__), name))
    else:
        guarded(lambda: run(compose(name, sys.argv[1:])))


def guarded(call: Callable[[], None]) -> None:
    """Run `call`; a SameboxError, or one of Hydra's, is told in one line on stderr, with exit code 1."""
    # TensorRT warns at every build of what calls for no action
    logging.basicConfig(level=logging.ERROR, format="%(levelname)s %(name)s: %(message)s")
    try:
        call()
    except SameboxError as error:
        sys.exit(f"error: {error}")
    except (HydraException, OmegaConfBaseException) as error:  # a value that only the network's parts check
        sys.exit(f"error: {told(error)}")
