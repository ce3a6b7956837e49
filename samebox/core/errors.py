"""The exceptions that a user reads."""


class SameboxError(Exception):
    """Bad input. The text is one line that names the file, key or value and how to correct it."""


class NotHere(Exception):  # noqa: N818 - not a failure: another machine can do it
    """This machine cannot do what was asked. The text is one line that gives the reason."""


def one_line(text: object, limit: int = 120) -> str:
    """`text` on one line of at most `limit` characters, without control characters or terminal codes."""
    line = "".join(character if character.isprintable() else "?" for character in str(text)[: limit + 1])
    return line if len(line) <= limit else line[: limit - 1] + "…"
