"""What a model reads of a table: which columns, in which order, by which numbers. A run keeps it as JSON."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from fourbeat.recipes.columns.kinds import Known, Task
from fourbeat.recipes.columns.values import Type, Values
from fourbeat.runs.copies import shown

FILE = "columns.json"  # in the run's directory
MISSING, OTHER = 0, 1  # the index of a missing category; of one that was seen too rarely to have its own
MOST_WORDS = 1_000
"""So many categories of a column have an index of their own, the most frequent ones."""
_LEAST_SEEN = 2  # a category that one row has is learnt with the others that one row has


@dataclasses.dataclass(frozen=True)
class Number:
    """A column of numbers. The model sees `(value - centre) / scale`, bent so that no value is far away.

    Attributes:
      name: of the column.
      type: of its values.
      centre: the median of the rows to train on.
      scale: the distance between their quartiles over 1.349, which is the standard deviation of normal
        numbers; where that is 0, the standard deviation; where that is 0 too, 1.
      has_missing: whether a value of the rows to train on is missing; the model then sees where.
    """

    name: str
    type: Type
    centre: float
    scale: float
    has_missing: bool

    @classmethod
    def of(cls, values: Values) -> Self:
        """From the rows to train on."""
        assert values.numbers is not None
        present = values.numbers[~values.is_missing]
        if not len(present):
            return cls(values.name, values.type, 0.0, 1.0, True)
        low, centre, high = np.quantile(present, [0.25, 0.5, 0.75])
        scale = (high - low) / 1.349 or np.std(present) or 1.0
        return cls(values.name, values.type, float(centre), float(scale), bool(values.is_missing.any()))


@dataclasses.dataclass(frozen=True)
class Category:
    """A column of categories. A missing one has the index 0, one that is no word here 1, the first word 2.

    Attributes:
      name: of the column.
      type: of its values.
      words: those with an index of their own, the most frequent of the rows to train on first.
    """

    name: str
    type: Type
    words: tuple[str, ...]

    @classmethod
    def of(cls, values: Values) -> Self:
        """From the rows to train on."""
        places, words = values.as_words
        counts = np.bincount(places[places >= 0], minlength=len(words))
        often = sorted(
            np.flatnonzero(counts >= _LEAST_SEEN), key=lambda place: (-counts[place], words[place])
        )
        return cls(values.name, values.type, tuple(words[place] for place in often[:MOST_WORDS]))

    def index(self, values: Values) -> np.ndarray:
        """int32 of shape (rows,)."""
        places, words = values.as_words
        known = {word: place + 2 for place, word in enumerate(self.words)}
        by_place = np.array([*(known.get(word, OTHER) for word in words), MISSING], np.int32)
        return by_place[places]  # the last is that of -1


@dataclasses.dataclass(frozen=True)
class Target:
    """What is predicted.

    Attributes:
      name: of the column.
      classes: their names in the order of the outputs; none for a regression.
      mean: of the rows to train on, for a regression.
      std: their standard deviation, for a regression.
    """

    name: str
    classes: tuple[str, ...]
    mean: float = 0.0
    std: float = 1.0

    @property
    def task(self) -> Task:
        """Which of the two it is."""
        return "classification" if self.classes else "regression"

    def labels(self, values: Values) -> np.ndarray:
        """The index of each class, int32; or the number, float32."""
        if not self.classes:
            assert values.numbers is not None
            return values.numbers.astype(np.float32)
        places, words = values.as_words
        return np.array([self.classes.index(word) for word in words], np.int32)[places]


@dataclasses.dataclass(frozen=True)
class Layout:
    """The columns that a model reads, and what it predicts from them.

    Attributes:
      numbers: they are the columns of `batch["numbers"]`, float32, as they stand in the file: NaN where one
        is missing, dates in days since 1970.
      categories: they are the columns of `batch["categories"]`, int32.
      target: what is predicted.
      sha256: of the file that the run is trained on.
    """

    numbers: tuple[Number, ...]
    categories: tuple[Category, ...]
    target: Target
    sha256: str

    @classmethod
    def of(cls, known: Sequence[Known], target: Target, rows: np.ndarray, sha256: str) -> Self:
        """From the rows to train on alone.

        Args:
          known: the columns.
          target: what is predicted.
          rows: the places of the rows to train on.
          sha256: of the file.
        """
        numbers = tuple(Number.of(each.values.at(rows)) for each in known if each.kind == "number")
        categories = tuple(Category.of(each.values.at(rows)) for each in known if each.kind == "category")
        return cls(numbers, categories, target, sha256)

    def encode(self, columns: Mapping[str, Values]) -> dict[str, np.ndarray]:
        """The columns of a batch that the model reads, of every row."""
        encoded = {}
        if self.numbers:
            read = [np.asarray(columns[number.name].numbers, np.float32) for number in self.numbers]
            encoded["numbers"] = np.stack(read, axis=1)
        if self.categories:
            read = [category.index(columns[category.name]) for category in self.categories]
            encoded["categories"] = np.stack(read, axis=1)
        return encoded

    def example(self, num_rows: int) -> dict[str, np.ndarray]:
        """A batch of rows, each number in the middle of its column and each third one missing."""
        places = np.arange(num_rows)
        batch = {}
        if self.numbers:
            centre = np.array([number.centre for number in self.numbers], np.float32)
            batch["numbers"] = np.where(places[:, None] % 3 == 2, np.float32(np.nan), centre)
        if self.categories:
            num_words = np.array([len(category.words) + 2 for category in self.categories])
            batch["categories"] = (places[:, None] % num_words).astype(np.int32)
        return batch

    def notes(self) -> dict[str, Any]:
        """What those who serve the model need to make a batch of a row, as JSON has it."""
        read = "numbers: as they stand in the file, NaN where missing, dates in days since 1970-01-01"
        index = (
            f"categories: {MISSING} where missing, {OTHER} where no word here, {OTHER + 1} for the first word"
        )
        return {"read": f"{read}; {index}", **dataclasses.asdict(self)}

    def keep(self, path: Path, *, is_new: bool) -> None:
        """Writes the layout into the directory of a new run; of one that goes on, compares it.

        Raises:
          ValueError: the run began with another file.
        """
        if is_new or not (path / FILE).exists():
            (path / FILE).write_text(json.dumps(dataclasses.asdict(self), indent=1), encoding="utf-8")
        elif Layout.read(path) != self:
            raise ValueError(
                f"the file is not as it was when the run {shown(path)} began: its sha256 or its columns "
                "differ. Give the file of that time, or begin a new run."
            )

    @classmethod
    def read(cls, path: Path) -> Self:
        """The layout of a run.

        Raises:
          ValueError: it is missing or damaged.
        """
        try:
            content = json.loads((path / FILE).read_text(encoding="utf-8"))
            return cls._of(content)
        except OSError as error:
            raise ValueError(f"cannot read {path / FILE}: {error.strerror}.") from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path / FILE} is damaged: {error}.") from None

    @classmethod
    def _of(cls, content: dict[str, Any]) -> Self:
        return cls(
            tuple(Number(**each) for each in content["numbers"]),
            tuple(Category(**{**each, "words": tuple(each["words"])}) for each in content["categories"]),
            Target(**{**content["target"], "classes": tuple(content["target"]["classes"])}),
            content["sha256"],
        )


def target_of(values: Values, task: Task, train_rows: np.ndarray) -> Target:
    """The target, its classes from all rows, its mean and deviation from those to train on."""
    if task == "regression":
        assert values.numbers is not None
        numbers = values.numbers[train_rows]
        return Target(values.name, (), float(numbers.mean()), float(numbers.std()) or 1.0)
    places, words = values.as_words
    seen = np.unique(places)
    classes = [words[place] for place in seen]
    return Target(values.name, tuple(classes if values.numbers is not None else sorted(classes)))
