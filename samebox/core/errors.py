"""The exceptions that a user reads."""

from samebox.core.text import printable


class SameboxError(Exception):
    """Bad input. The text is one line that names the file, key or value and how to correct it.

    Names in it may come from a hostile file: characters that could act on a terminal are replaced.
    """

    def __init__(self, text: object) -> None:
        super().__init__(printable(text))


class NotHere(Exception):  # noqa: N818 - not a failure: another machine can do it
    """This machine cannot do what was asked. The text is one line that gives the reason, safe to print."""

    def __init__(self, text: object) -> None:
        super().__init__(printable(text))
