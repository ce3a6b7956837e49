"""The limits on what a config, with all files that it is based on, may hold."""

from samebox.core.errors import SameboxError

MAX_CHARACTERS = 1 << 20  # MMDetection's longest config has about 40,000
MAX_VALUES = 200_000  # copies included: names that use one another could expand without limit
_CHARACTERS_PER_VALUE = 100  # a text that is copied again and again counts as several values


class Budget:
    """What is left of the characters and values that one config may have."""

    def __init__(self, characters: int = MAX_CHARACTERS, values: int = MAX_VALUES) -> None:
        self.max_characters, self.max_values = characters, values
        self.characters, self.values = characters, values

    def spend_characters(self, count: int, place: str) -> None:
        """Count parsed characters. Raises SameboxError, which starts with `place`, above a limit."""
        self.characters -= count
        self._check(place)

    def spend_value(self, value: object, place: str) -> None:
        """Count a value. Raises SameboxError, which starts with `place`, above a limit."""
        self.values -= 1 + (len(value) // _CHARACTERS_PER_VALUE if isinstance(value, str) else 0)
        self._check(place)

    def _check(self, place: str) -> None:
        if self.characters < 0:
            raise SameboxError(
                f"{place}: with its base files more than {self.max_characters} characters; give the path of "
                "a config file"
            )
        if self.values < 0:
            raise SameboxError(f"{place}: more than {self.max_values} values; write fewer of them out")
