"""One column of a file, as it was read."""

import dataclasses
from functools import cached_property
from typing import Literal

import numpy as np

Type = Literal["number", "whole", "text", "truth", "date", "nothing", "other"]
"""What the values of a column are: "whole" for whole numbers, "truth" for true and false, "nothing" where
every one is missing, "other" for what cannot be learnt from, such as lists."""

NUMBERS = ("number", "whole", "date")


@dataclasses.dataclass(frozen=True)
class Values:
    """The values of a column.

    Attributes:
      name: of the column.
      type: of its values.
      numbers: float64 of shape (rows,), NaN where one is missing; of a date the days since 1970. None where
        the values are no numbers.
      places: int32 of shape (rows,), the place of each value in `words`, -1 where it is missing. None where
        the values are numbers.
      words: the different values of a column of texts, or of true and false.
    """

    name: str
    type: Type
    numbers: np.ndarray | None = None
    places: np.ndarray | None = None
    words: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.is_missing)

    @cached_property
    def is_missing(self) -> np.ndarray:
        """Bool of shape (rows,)."""
        if self.numbers is not None:
            return np.isnan(self.numbers)
        assert self.places is not None
        return self.places < 0

    @cached_property
    def num_different(self) -> int:
        """How many different values there are; a missing one is none."""
        if self.numbers is None:
            return len(np.unique(self.as_words[0][~self.is_missing]))
        return len(np.unique(self.numbers[~self.is_missing]))

    @cached_property
    def as_words(self) -> tuple[np.ndarray, tuple[str, ...]]:
        """`(places, words)` of any column; those of numbers from the smallest on.

        >>> places, words = Values("rooms", "whole", np.array([3.0, 2.0, np.nan, 3.0])).as_words
        >>> places.tolist(), words
        ([1, 0, -1, 1], ('2', '3'))
        """
        if self.numbers is None:
            assert self.places is not None
            return self.places, self.words
        different, places = np.unique(self.numbers[~self.is_missing], return_inverse=True)
        whole = np.full(len(self.numbers), -1, np.int32)
        whole[~self.is_missing] = places
        return whole, tuple(map(word_of, different))

    def at(self, rows: np.ndarray) -> "Values":
        """Some of the rows: places, or a truth value for each."""
        if self.numbers is not None:
            return Values(self.name, self.type, numbers=self.numbers[rows])
        assert self.places is not None
        return Values(self.name, self.type, places=self.places[rows], words=self.words)


def word_of(number: float) -> str:
    """A number as a word: a whole one without a point.

    >>> word_of(3.0), word_of(0.5)
    ('3', '0.5')
    """
    return str(int(number)) if number == np.floor(number) and abs(number) < 2**53 else repr(float(number))
