"""The comments of a YAML file, by the keys that they describe."""

from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path

import yaml


def comments(file: Path) -> dict[str, str]:
    """The comment of each dotted key: that above the key and that behind it. Empty for a key without one.

    A section, whose keys are on lines of their own, is listed only if it has a comment.
    """
    source = file.read_text(encoding="utf-8")
    root = yaml.compose(source)
    return dict(_comments(root, source.splitlines())) if isinstance(root, yaml.MappingNode) else {}


def _comments(node: yaml.MappingNode, lines: Sequence[str], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in node.value:
        comment = " ".join([*_above(key, lines), *_behind(key, value, lines)])
        section = isinstance(value, yaml.MappingNode) and not value.flow_style
        if comment or not section:
            yield f"{prefix}{key.value}", comment
        if section:
            yield from _comments(value, lines, f"{prefix}{key.value}.")


def _above(key: yaml.Node, lines: Sequence[str]) -> Iterator[str]:
    """The lines of the comment above a key, as indented as the key, without Hydra's `@package`."""
    mark = " " * key.start_mark.column + "# "
    block = list(takewhile(lambda line: line.startswith(mark), reversed(lines[: key.start_mark.line])))
    return (line.removeprefix(mark).strip() for line in reversed(block) if "@package" not in line)


def _behind(key: yaml.Node, value: yaml.Node, lines: Sequence[str]) -> Iterator[str]:
    """The comment behind a value; if that begins on a later line, the one behind its key."""
    end = value.end_mark if value.start_mark.line == key.start_mark.line else key.end_mark
    _, mark, comment = lines[end.line][end.column :].partition("#")
    if mark:
        yield comment.strip()
