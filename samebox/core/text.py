"""Texts from files and command lines, made safe for a terminal, a page and a log."""

import sys
import unicodedata
from typing import TextIO

_SPACES = {"Zs", "Zl", "Zp"}  # Unicode categories: spaces, line and paragraph separators
_JOINERS = "\u200c\u200d"  # part of Persian and Indic words, without effect on the text around them


def printable(text: object) -> str:
    """`text` on one line, in which every character is visible or a plain space.

    Line breaks, tabs and other spaces become a space. Control characters, terminal codes, invisible and
    bidirectional marks, lone surrogates and unassigned characters become `?`.
    """
    line = str(text)
    if line.isascii() and line.isprintable():
        return line
    return "".join(map(_visible, line))


def _visible(character: str) -> str:
    if character.isprintable() or character in _JOINERS:
        return character
    return " " if character in "\t\n\r" or unicodedata.category(character) in _SPACES else "?"


def file_stem(text: str) -> str:
    """`text` as the stem of a new file: characters that are not `printable` become `_`, at most 150 bytes."""
    stem = printable(text).replace("?", "_").encode()[:150]
    return stem.decode(errors="ignore")


def one_line(text: object, limit: int = 120) -> str:
    """`printable(text)`, cut to `limit` characters."""
    line = printable(str(text)[: limit + 1])
    return line if len(line) <= limit else line[: limit - 1] + "…"


def print_text(text: str, stream: TextIO | None = None) -> None:
    """Print `text` to `stream`, by default stdout. Every line is `printable`.

    Characters that the stream's encoding lacks become `?`.
    """
    stream = stream or sys.stdout
    lines = "\n".join(map(printable, text.split("\n")))
    encoding = stream.encoding or "utf-8"
    print(lines.encode(encoding, "replace").decode(encoding), file=stream)
