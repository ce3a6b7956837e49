"""How a stage gets its configuration, and how a user's mistake ends: in one line."""

import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from samebox.core.errors import SameboxError
from samebox.core.text import printable
from stages.overrides import check_choice, check_value, names_choice, names_group, parsed, values
from stages.runtimes import register
from stages.search import CONF

# Beginnings of the lines that Hydra adds for its own developers
_NOISE = ("full_key:", "object_type=", "See https", "Config search path", "provider=", "To append")


def compose(name: str, overrides: Sequence[str] = ()) -> DictConfig:
    """The config conf/`name`.yaml with the overrides of a command line.

    Raises SameboxError, in one line, for every error of Hydra and OmegaConf, for an override whose key the
    config does not have, and for a value of another type than its default.
    """
    config = check(name, overrides)
    if not all(names_choice(parsed(text)) for text in overrides):
        config = _composed(name, overrides)
    if missing := OmegaConf.missing_keys(config):
        raise SameboxError(f"{', '.join(sorted(missing))}: not given; add {min(missing)}=VALUE")
    return config


def check(name: str, overrides: Sequence[str]) -> DictConfig:
    """The config `name` with the choices among the overrides, except those that a sweep varies.

    Raises SameboxError for an override that does not fit the config.
    """
    given = [parsed(text) for text in overrides]
    chosen = [str(override.input_line) for override in given if names_choice(override)]
    config = _composed(name, chosen)
    for override in given:
        if names_group(override) and override.is_sweep_override():
            for choice in values(override):
                _composed(name, [*chosen, f"{override.key_or_group}={choice}"])
    defaults: Any = OmegaConf.to_container(config)
    for override in given:
        if not (names_group(override) or override.key_or_group.startswith("hydra.")):
            check_value(override, defaults)
    return config


def _composed(name: str, overrides: Sequence[str]) -> DictConfig:
    register()
    try:
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            config = hydra.compose(name, list(overrides))
        OmegaConf.to_container(config, resolve=True)  # raises for a broken ${}, which would else end a run
    except (HydraException, OmegaConfBaseException) as error:
        _check_choices(name, overrides)
        raise SameboxError(hydra_message(error)) from None
    return config


def _check_choices(name: str, overrides: Sequence[str]) -> None:
    """Raise SameboxError for a choice of a group that the config does not have."""
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config: Any = OmegaConf.to_container(hydra.compose(name, return_hydra_config=True))
    groups = [group for group in config["hydra"]["runtime"]["choices"] if not group.startswith("hydra/")]
    for override in map(parsed, overrides):
        if names_choice(override) and not override.key_or_group.startswith("hydra/"):
            check_choice(override, config, groups)


def hydra_message(error: Exception) -> str:
    """The message of an error of Hydra on one line, with the choices that it lists."""
    lines = [line.strip() for line in str(error).splitlines()]
    kept = [line for line in lines if line and not line.startswith(_NOISE)]
    return printable("; ".join(kept).replace(":;", ":").replace(".;", ";"))


def plain(config: Any) -> Any:
    """A part of a config as plain dicts and lists."""
    return OmegaConf.to_container(config, resolve=True)


def artifact(config: DictConfig, folder: str, file: str) -> Path:
    """The path of a file of this detector; `folder` and `file` are values of conf/paths.yaml."""
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
    """Run `call`. An error of samebox or Hydra ends the process: one line on stderr, exit code 1."""
    # TensorRT's warnings at every build need no action
    logging.basicConfig(level=logging.ERROR, format="%(levelname)s %(name)s: %(message)s")
    try:
        call()
    except SameboxError as error:
        sys.exit(f"error: {error}")
    except (HydraException, OmegaConfBaseException) as error:  # a value that the network's parts check
        sys.exit(f"error: {hydra_message(error)}")
