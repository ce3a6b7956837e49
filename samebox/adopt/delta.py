"""What a detector's config has to say beyond its family."""

import importlib
import inspect
from collections.abc import Mapping
from typing import Any


def delta(wanted: Mapping[str, Any], raw: Mapping[str, Any], resolved: Mapping[str, Any]) -> dict[str, Any]:
    """The part of `wanted` that the family does not give already.

    The family is given twice: as it is written, and with its references to other keys resolved. What it
    leaves to the default of a constructor is left to it here as well.
    """
    found: dict[str, Any] = {}
    for key, value in wanted.items():
        if key not in raw:
            if value != _default(wanted.get("_target_", raw.get("_target_")), key):
                found[key] = value
        elif isinstance(value, Mapping) and isinstance(raw[key], Mapping):
            if inner := delta(value, raw[key], resolved[key]):
                found[key] = inner
        elif value not in (raw[key], resolved[key]):
            found[key] = value
    return found


def _default(target: str | None, key: str) -> Any:
    """What the class or function `target` takes `key` to be where nobody gives it."""
    if target is None:
        return inspect.Parameter.empty
    module, _, name = target.rpartition(".")
    parameters = inspect.signature(getattr(importlib.import_module(module), name)).parameters
    return parameters[key].default if key in parameters else inspect.Parameter.empty
