"""The exceptions that a user reads."""


class SameboxError(Exception):
    """Bad input. The text is one line that names the file, key or value and how to correct it."""


class NotHere(Exception):  # noqa: N818 - not a failure: another machine can do it
    """This machine cannot do what was asked. The text is one line that gives the reason."""


def one_line(text: object, most: int = 120) -> str:
    """`text` on one line of at most `most` characters, without control characters or terminal codes."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in str(text)[: most + 1])
    return shown if len(shown) <= most else shown[: most - 1] + "…"
