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

from samebox.errors import SameboxError

CONF = Path(__file__).resolve().parents[1] / "conf"


def compose(name: str, overrides: Sequence[str] = ()) -> DictConfig:
    """The primary config `name` under conf/ with the overrides of a command line.

    Raises SameboxError, in one line, for whatever Hydra or OmegaConf find wrong.
    """
    try:
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            config = hydra.compose(name, list(overrides))
        OmegaConf.to_container(config, resolve=True)  # a broken ${} shows here, not in the middle of a run
    except (HydraException, OmegaConfBaseException) as error:
        raise SameboxError(told(error)) from None
    return config


def told(error: Exception) -> str:
    """Hydra's message in one line, with the choices that it lists."""
    lines = [line.strip() for line in str(error).splitlines()]
    said = [line for line in lines if line and not line.startswith(("full_key:", "object_type=", "See https"))]
    return "; ".join(said).replace(":;", ":").replace(".;", ";")


def plain(config: Any) -> Any:
    """A part of a config as plain dicts and lists."""
    return OmegaConf.to_container(config, resolve=True)


def main(name: str, run: Callable[[DictConfig], None]) -> None:
    """Compose `name` with the command line's overrides and run it; the exit code is 1 after a mistake."""
    guarded(lambda: run(compose(name, sys.argv[1:])))


def guarded(call: Callable[[], None]) -> None:
    """Run `call`; a SameboxError is told in one line on stderr, with exit code 1."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        call()
    except SameboxError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
