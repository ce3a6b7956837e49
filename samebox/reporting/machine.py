"""The hardware and versions with which the forms of a detector were measured."""

from collections.abc import Sequence
from typing import Any

from samebox.coco.evaluated import EvaluatedForm


def hardware_and_versions(forms: Sequence[EvaluatedForm]) -> dict[str, dict[str, str]]:
    """Hardware and versions: one value if the forms agree, else each value with its forms in brackets."""
    return {part: _merged(part, forms) for part in ("hardware", "versions")}


def _merged(part: str, forms: Sequence[EvaluatedForm]) -> dict[str, str]:
    titles: dict[str, dict[str, list[str]]] = {}  # of the forms, by name and value
    known = [form for form in forms if form.metrics[part]]
    for form in known:
        for name, value in form.metrics[part].items():
            titles.setdefault(name, {}).setdefault(_text(value), []).append(form.title)
    return {name: _agreed(values, len(known)) for name, values in titles.items()}


def _agreed(titles_by_value: dict[str, list[str]], forms: int) -> str:
    values = [
        value if len(titles) == forms else f"{value} ({', '.join(titles)})"
        for value, titles in titles_by_value.items()
    ]
    return "; ".join(values)


def _text(value: Any) -> str:
    return ", ".join(map(str, value if isinstance(value, list) else [value or "none"])) or "none"
