"""The one exception that a user is meant to read."""


class SameboxError(Exception):
    """Bad input. Its text is a single line that names the file, key or value, and the mend."""
