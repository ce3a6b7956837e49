"""Hardware and versions that the forms of a detector were measured with."""

from collections.abc import Sequence
from typing import Any

from samebox.coco.evaluated import EvaluatedForm


def environment(forms: Sequence[EvaluatedForm]) -> dict[str, dict[str, str]]:
    """Hardware and versions: one value where the forms agree, else each with the forms that it is of."""
    return {part: _merged(part, forms) for part in ("hardware", "versions")}


def _merged(part: str, forms: Sequence[EvaluatedForm]) -> dict[str, str]:
    found: dict[str, dict[str, list[str]]] = {}
    known = [form for form in forms if form.metrics[part]]
    for form in known:
        for name, value in form.metrics[part].items():
            found.setdefault(name, {}).setdefault(_text(value), []).append(form.title)
    return {name: _agreed(values, len(known)) for name, values in found.items()}


def _agreed(titles_by_value: dict[str, list[str]], forms: int) -> str:
    values = [
        value if len(titles) == forms else f"{value} ({', '.join(titles)})"
        for value, titles in titles_by_value.items()
    ]
    return "; ".join(values)


def _text(value: Any) -> str:
    return ", ".join(map(str, value if isinstance(value, list) else [value or "none"])) or "none"
