"""A table read, checked and divided: all that comes before the loop."""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

import fourbeat as fb
from fourbeat.recipes.columns.kinds import Known, Task, kinds, precision, task_of
from fourbeat.recipes.columns.layout import Layout, target_of
from fourbeat.recipes.columns.parts import Parts, num_repeated, parts_of
from fourbeat.recipes.columns.reading import check_extra, check_finite, read, sha256_of
from fourbeat.recipes.columns.values import NUMBERS, Values

_LEAST_ROWS = 20  # with fewer, a part has a row or two


class Asked(Protocol):
    """The flags that say what to read."""

    @property
    def file(self) -> Path | None: ...
    @property
    def target(self) -> str: ...
    @property
    def task(self) -> Task | None: ...
    @property
    def drop(self) -> tuple[str, ...]: ...
    @property
    def number(self) -> tuple[str, ...]: ...
    @property
    def category(self) -> tuple[str, ...]: ...
    @property
    def valid(self) -> float: ...
    @property
    def test(self) -> float: ...
    @property
    def seed(self) -> int: ...


class Prepared(NamedTuple):
    """A table as it is trained on.

    Attributes:
      file: where it lies.
      known: each column but the target, and what is made of it.
      layout: what the model reads, from the rows to train on.
      labels: of all rows that have a target: int32 classes or float32 numbers.
      parts: which rows are of which part.
      batch: the columns of a batch, of all rows.
      num_without_target: how many rows were left out.
      num_repeated: how many rows of the two other parts are rows to train on as well.
      note: what else is to be said of the target; empty where there is nothing.
    """

    file: Path
    known: list[Known]
    layout: Layout
    labels: np.ndarray
    parts: Parts
    batch: dict[str, np.ndarray]
    num_without_target: int
    num_repeated: tuple[int, int]
    note: str = ""

    def arrays(self, rows: np.ndarray) -> fb.data.Arrays:
        """The examples of some rows, with their labels."""
        columns = {name: column[rows] for name, column in self.batch.items()}
        return fb.data.Arrays(**columns, label=self.labels[rows])


def prepare(asked: Asked) -> Prepared:
    """Reads a table, finds out what its columns are, and divides its rows.

    Raises:
      ImportError: the extra is not installed.
      ValueError: a flag names no column; or the file, the target or a column cannot be learnt from.
    """
    check_extra("the recipe table")
    file = Path(asked.file or "")
    columns = read(file)
    if not asked.target:
        raise ValueError(f"--target is missing. Name the column to predict; {file} has {_listed(columns)}.")
    for flag, names in (("target", [asked.target]), *((f, getattr(asked, f)) for f in _LISTS)):
        for name in names:
            check_name(file, columns, name, flag)
            if flag != "target" and name == asked.target:
                raise ValueError(f"--{flag} {name}: that is the target. Name another column.")
    target = columns.pop(asked.target)
    _check_types(file, columns, asked)
    check_finite(file, {name: each for name, each in columns.items() if name not in asked.drop})
    check_finite(file, {target.name: target})
    has_target = ~target.is_missing
    columns = {name: values.at(has_target) for name, values in columns.items()}
    target = target.at(has_target)
    task = _checked_task(file, target, asked)
    known = kinds(columns, drop=asked.drop, number=asked.number, category=asked.category)
    if not any(each.is_used for each in known):
        found = ", ".join(f"{each.values.name} ({each.kind})" for each in known)
        raise ValueError(
            f"{file} has no column to learn {asked.target!r} from: {found or 'there is no other'}."
        )
    labels = target_of(target, task, np.arange(len(target))).labels(target)
    is_classes = task == "classification"
    parts = parts_of(labels, valid=asked.valid, test=asked.test, is_classes=is_classes, seed=asked.seed)
    layout = Layout.of(known, target_of(target, task, parts.train), parts.train, sha256_of(file))
    return Prepared(
        file,
        known,
        layout,
        labels,
        parts,
        layout.encode(columns),
        int((~has_target).sum()),
        num_repeated(_as_numbers(known, labels), parts),
        "" if is_classes else precision(target),
    )


_LISTS = ("drop", "number", "category")


def check_name(file: Path, columns: Mapping[str, Values], name: str, flag: str) -> None:
    """Raises a ValueError, with names that are near, where a file has no such column."""
    if name in columns:
        return
    near = difflib.get_close_matches(name, columns, n=3, cutoff=0.6)
    same = [each for each in columns if each.lower() == name.lower()]
    meant = same or near
    hint = f"Did you mean {' or '.join(map(repr, meant))}? " if meant else ""
    raise ValueError(f"--{flag} {name}: {file} has no such column. {hint}It has {_listed(columns)}.")


def _listed(names: Iterable[str]) -> str:
    """The first of these names, in words."""
    names = list(names)
    more = f" and {len(names) - 12:,} more" if len(names) > 12 else ""
    return ", ".join(map(repr, names[:12])) + more


def _check_types(file: Path, columns: Mapping[str, Values], asked: Asked) -> None:
    for name in asked.number:
        values = columns[name]
        if values.type not in NUMBERS:
            such_as = f", such as {values.words[0]!r}" if values.words else ""
            raise ValueError(f"--number {name}: the column holds no numbers in {file}{such_as}.")
        if name in asked.category:
            raise ValueError(f"{name} is named by --number and by --category. Name it once.")


def _checked_task(file: Path, target: Values, asked: Asked) -> Task:
    """The task, where the target can be learnt."""
    name, num_different = target.name, target.num_different
    if not len(target):
        raise ValueError(f"{file}: no row has a value of the target {name!r}.")
    if target.type in ("other", "date"):
        seen = "dates" if target.type == "date" else "neither numbers nor texts"
        raise ValueError(f"{file}: the target {name!r} holds {seen}; it is to be classes or numbers.")
    task = asked.task or task_of(target)
    if len(target) < _LEAST_ROWS:
        raise ValueError(
            f"{file} has {len(target)} rows with a value of {name!r}; at least {_LEAST_ROWS} are needed, to "
            "train on, to choose by and to test on."
        )
    if task == "regression" and target.numbers is None:
        raise ValueError(
            f"--task regression: the target {name!r} holds no numbers, but such as {target.words[0]!r}. "
            "Leave --task out."
        )
    if num_different == 1:
        value = target.as_words[1][int(target.as_words[0][0])]
        raise ValueError(
            f"{file}: the target {name!r} is {value!r} in all of its {len(target):,} rows. There is nothing "
            "to learn from one value."
        )
    if task == "classification" and num_different > len(target) / 2:
        repair = "Name another target." if target.numbers is None else "Leave --task out: it is a regression."
        raise ValueError(
            f"{file}: the target {name!r} has {num_different:,} different values in {len(target):,} rows, "
            f"which are no classes. {repair}"
        )
    if asked.valid + asked.test >= 1:
        raise ValueError(f"--valid {asked.valid} and --test {asked.test} leave no rows to train on.")
    return task


def _as_numbers(known: list[Known], labels: np.ndarray) -> np.ndarray:
    """All that the model sees of a row, and its label: float64 of shape (rows, columns)."""
    used = [each.values for each in known if each.is_used]
    read = [each.as_words[0] if each.numbers is None else each.numbers for each in used]
    return np.stack([*read, labels], axis=1, dtype=np.float64)
