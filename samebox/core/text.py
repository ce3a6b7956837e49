"""Texts from files and command lines, made safe for a terminal, a page and a log."""

import unicodedata

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


def one_line(text: object, limit: int = 120) -> str:
    """`printable(text)`, cut to `limit` characters."""
    line = printable(str(text)[: limit + 1])
    return line if len(line) <= limit else line[: limit - 1] + "…"
