"""The overrides of a command line: mistakes that Hydra would let pass, or report in several lines."""

import difflib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, QuotedString
from hydra.errors import HydraException

from samebox.core.errors import SameboxError
from stages.search import is_group

# The type of a default → its name in errors, and the types that a value in its place may have
_KINDS: dict[type, tuple[str, tuple[type, ...]]] = {
    bool: ("true or false", (bool,)),
    int: ("a whole number", (int,)),
    float: ("a number", (int, float)),
    str: ("a text or a number", (str, int, float)),
    list: ("a list", (list,)),
    dict: ("a mapping", (dict,)),
}


def parsed(text: str) -> Override:
    """The override in an argument.

    Raises SameboxError for an argument that is no override, that deletes a key, or that adds a choice.
    """
    try:
        override = OverridesParser.create().parse_override(text)
    except HydraException:
        raise SameboxError(f"{text!r}: not an override; write KEY=VALUE, such as export.opset=18") from None
    if override.is_delete():
        raise SameboxError(f"{text}: a key cannot be deleted; give it another value")
    if override.is_add() and names_group(override):
        raise SameboxError(f"{text}: a choice cannot be added; write {text.lstrip('+')}")
    return override


def names_group(override: Override) -> bool:
    """True if the key is that of a group of choices."""
    return override.key_or_group.startswith("hydra/") or is_group(override.key_or_group)


def names_choice(override: Override) -> bool:
    """True if the override names one choice of a group; a sweep names several."""
    return names_group(override) and not override.is_sweep_override()


def check_choice(override: Override, defaults: Mapping[str, Any], choices: Iterable[str]) -> None:
    """Raise SameboxError, with the key to write, for a choice of a group that the command does not have.

    `defaults` are the values of the command's config, `choices` its groups.
    """
    key = override.key_or_group
    if key in choices:
        return
    names = ",".join(map(str, values(override)))
    if key not in ("precision", "runtime"):
        hint = f"the choices of this command are {', '.join(choices)}"
    elif "runtimes" in defaults:
        hint = f"write runtimes=[torch,{'simplified,' if key == 'precision' else ''}{names}]"
    elif "to" in defaults:
        hint = f"write to={names}"
    elif "runtime" in choices:
        hint = f"write runtime={names}"
    else:
        hint = f"the choices of this command are {', '.join(choices)}"
    raise SameboxError(f"{key}: not a choice of this command; {hint}")


def check_value(override: Override, defaults: Mapping[str, Any]) -> None:
    """Raise SameboxError for a key that is not in `defaults`, or a value of another type than the default.

    A key may be added to a section.
    """
    key = override.key_or_group
    known = dict(_leaves(defaults))
    if override.is_add() and key.rpartition(".")[0] in known:
        return
    if key not in known:
        close = _similar(key, known)
        raise SameboxError(f"{key}: no such key" + (f"; did you mean {' or '.join(close)}?" if close else ""))
    for value in values(override):
        _check_type(key, known[key], value)


def values(override: Override) -> list[Any]:
    """The value, or the values that a sweep lists; nothing for a sweep over a range."""
    value = override.value()
    if isinstance(value, ChoiceSweep):
        return [item.text if isinstance(item, QuotedString) else item for item in value.list]
    return [] if override.is_sweep_override() else [value]


def _leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every dotted key of a config with its value; sections are included."""
    if prefix:
        yield prefix, node
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _leaves(value, f"{prefix}.{key}" if prefix else str(key))


def _similar(key: str, known: Iterable[str]) -> list[str]:
    """Up to three keys that `key` may stand for: without its section, or misspelt."""
    if "." in key:
        return difflib.get_close_matches(key, known, 1)
    by_last: dict[str, list[str]] = defaultdict(list)
    for candidate in known:
        by_last[candidate.rpartition(".")[2]].append(candidate)
    close = difflib.get_close_matches(key, by_last, 1)
    return sorted(by_last[close[0]], key=lambda candidate: candidate.count("."))[:3] if close else []


def _check_type(key: str, default: Any, value: Any) -> None:
    if type(default) not in _KINDS:
        return
    name, types = _KINDS[type(default)]
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        raise SameboxError(f"{key}: {value!r} is not {name}, such as {json.dumps(default)}")
    if value == "" and isinstance(default, str):
        raise SameboxError(f"{key}: is empty; give a value")
