"""Kinds: how a value of a traced program depends on the rows of a batch."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

import numpy as np


class RowsInteractError(Exception):
    """There is no proof; the text says which operation has none."""


@dataclass(frozen=True)
class Rows:
    """A value with rows: of those along `axis`, each row of the batch has `num_inner` next to each other."""

    axis: int
    num_inner: int = 1


class Joint(Enum):
    """A value without an axis of rows.

    `WHOLE` has no part of any row: it is the same for each share. `SUM` is a linear expression of sums over
    all rows, and `MEAN` an affine one of means over all rows.
    """

    WHOLE = "whole"
    SUM = "sum"
    MEAN = "mean"


@dataclass(frozen=True)
class Count:
    """A number of the program that differs with the number of rows."""

    of_whole: float
    of_share: float


@dataclass(frozen=True)
class Given:
    """An output that is the argument of that number, unchanged, which has no rows."""

    index: int


WHOLE, SUM, MEAN = Joint.WHOLE, Joint.SUM, Joint.MEAN
Kind = Rows | Joint | Count | Given


class Call(NamedTuple):
    """One operation of the whole's program, and the same one of the share's."""

    name: str
    params: dict[str, Any]
    other_params: dict[str, Any]
    kinds: list[Kind]
    shapes: list[tuple[int, ...]]  # of what it takes
    other_shapes: list[tuple[int, ...]]
    outs: list[tuple[int, ...]]
    other_outs: list[tuple[int, ...]]
    num_rows: tuple[int, int]  # of the whole, and of a share
    of_program: Callable[[Any, Any, list[Kind]], list[Kind]]  # the kinds of a program's outputs

    def rows(self) -> Rows | None:
        """The rows that its arguments have; None where none has any.

        One without rows may be a scalar, or has length 1 along them: so it is the same for each row.
        """
        found = {kind for kind in self.kinds if isinstance(kind, Rows)}
        if not found:
            return None
        self.needs(len(found) == 1)
        rows = found.pop()
        for kind, shape in zip(self.kinds, self.shapes, strict=True):
            self.needs(kind == rows or shape == () or shape[rows.axis] == 1)
        return rows

    def needs(self, holds: bool, how: str = "along the rows, or of several values with rows") -> None:
        if not holds:
            raise RowsInteractError(f"{self.name} {how}")

    def same(self, *names: str) -> None:
        for name in names:
            one, other = self.params[name], self.other_params[name]
            is_nan = isinstance(one, float | np.floating) and one != one and other != other
            self.needs(one is other or is_nan or one == other, "of the number of rows")

    def same_but(self, *names: str) -> None:
        self.same(*(name for name in self.params if name not in names))

    def made_rows(self) -> Rows | None:
        """The axis of the output that has another length for a share, where each row has as many of it."""
        pairs = zip(self.outs[0], self.other_outs[0], strict=True)
        axes = [axis for axis, pair in enumerate(pairs) if len(set(pair)) > 1]
        if len(axes) != 1:
            return None
        found = Rows(axes[0], self.outs[0][axes[0]] // self.num_rows[0])
        return found if fits(self.outs[0], self.other_outs[0], found, self.num_rows) else None


def fits(shape: tuple[int, ...], of_share: tuple[int, ...], kind: Kind, num_rows: tuple[int, int]) -> bool:
    """Whether these are the shapes of a value of this kind."""
    if not isinstance(kind, Rows):
        return shape == of_share
    expected = [list(shape), list(shape)]
    for i, num in enumerate(num_rows):
        expected[i][kind.axis] = num * kind.num_inner
    return [list(shape), list(of_share)] == expected


def paired(one: Any, other: Any) -> list[tuple[Any, Any]]:
    """The pairs of what two programs have at one place.

    Raises:
      RowsInteractError: one has more than the other.
    """
    one, other = list(one), list(other)
    if len(one) != len(other):
        raise RowsInteractError("the program is another one for another number of rows")
    return list(zip(one, other, strict=True))
