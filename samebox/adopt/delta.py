"""The part of a detector's config that its family does not already give."""

import importlib
import inspect
from collections.abc import Mapping
from typing import Any


def delta(values: Mapping[str, Any], raw: Mapping[str, Any], resolved: Mapping[str, Any]) -> dict[str, Any]:
    """The part of `values` that differs from the family.

    `raw` is the family as its file has it, `resolved` the same with its references (`${…}`) resolved. A key
    that the family leaves to a constructor's default is left out if it has that default.
    """
    overrides: dict[str, Any] = {}
    for key, value in values.items():
        if key not in raw:
            if value != _default(values.get("_target_", raw.get("_target_")), key):
                overrides[key] = value
        elif isinstance(value, Mapping) and isinstance(raw[key], Mapping):
            if inner := delta(value, raw[key], resolved[key]):
                overrides[key] = inner
        elif value not in (raw[key], resolved[key]):
            overrides[key] = value
    return overrides


def _default(target: str | None, key: str) -> Any:
    """The default of parameter `key` of the class or function `target`; Parameter.empty if it has none."""
    if target is None:
        return inspect.Parameter.empty
    module, _, name = target.rpartition(".")
    parameters = inspect.signature(getattr(importlib.import_module(module), name)).parameters
    return parameters[key].default if key in parameters else inspect.Parameter.empty
