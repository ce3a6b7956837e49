"""Merging a config with the config that it is based on."""

import re
from typing import Any

from samebox.adopt.configs.values import UnreadValue, short_repr
from samebox.core.errors import SameboxError

_ABSENT = object()
_INDEX = re.compile("[0-9]{1,9}")


def merge(child: Any, base: Any, place: str) -> Any:
    """`child` merged over `base`, by MMEngine's rules.

    Mappings are merged key by key. A mapping with `_delete_=True` inherits nothing. Any other value replaces
    the base's value. In a mapping over a list, keys such as "0" are indices of the list. Raises SameboxError
    if a mapping is merged over a value of another type; `place` names the config in the text.
    """
    if not isinstance(child, dict) or isinstance(base, UnreadValue):
        return child
    own = {key: value for key, value in child.items() if key != "_delete_"}
    if child.get("_delete_") is True or base is _ABSENT:
        return {key: merge(value, _ABSENT, place) for key, value in own.items()}
    if isinstance(base, list) and all(_INDEX.fullmatch(str(key)) and int(key) < len(base) for key in own):
        items = {int(key): value for key, value in own.items()}
        return [merge(items[i], item, place) if i in items else item for i, item in enumerate(base)]
    if not isinstance(base, dict):
        raise SameboxError(
            f"{place}: {short_repr(child)} cannot inherit from {short_repr(base)}; "
            "add _delete_=True to it, or correct it"
        )
    return base | {key: merge(value, base.get(key, _ABSENT), place) for key, value in own.items()}
