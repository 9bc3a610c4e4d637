"""What each column of a table is to a model: a number, a category, or nothing that it could learn from."""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Literal

import numpy as np

from fourbeat.recipes.columns.values import NUMBERS, Values

FEW = 10
"""Whole numbers with at most so many different values are a category."""

MOST_CLASSES = 20
"""A target of whole numbers with at most so many different values is one of classes."""

Kind = Literal["number", "category", "constant", "identifier", "empty", "unreadable", "dropped"]
Task = Literal["classification", "regression"]


@dataclasses.dataclass(frozen=True)
class Known:
    """A column, and what is made of it.

    Attributes:
      values: the column.
      kind: "number" and "category" are learnt from; the others are left out.
      note: what else is to be said of it; empty where there is nothing.
    """

    values: Values
    kind: Kind
    note: str = ""

    @property
    def is_used(self) -> bool:
        """Whether the model sees it."""
        return self.kind in ("number", "category")


def kinds(
    columns: Mapping[str, Values],
    *,
    drop: Collection[str] = (),
    number: Collection[str] = (),
    category: Collection[str] = (),
) -> list[Known]:
    """What each column is, by these rules, the first that fits:

    - no value at all: empty; one value in every row: constant;
    - texts or whole numbers with a different value in each row, of more than `FEW`: identifier;
    - texts, true and false, and whole numbers with at most `FEW` different values: category;
    - all other numbers, and dates (in days): number.

    Args:
      columns: without the target.
      drop: names of columns to leave out.
      number: names of columns that are numbers, whatever the rules say.
      category: names of columns that are categories, whatever the rules say.

    >>> rooms = Values("rooms", "whole", np.array([3.0, 2.0, np.nan, 3.0]))
    >>> kinds({"rooms": rooms})[0].kind, kinds({"rooms": rooms}, number=["rooms"])[0].kind
    ('category', 'number')
    """
    found = []
    for name, values in columns.items():
        if name in drop:
            found.append(Known(values, "dropped"))
        elif name in number:
            found.append(Known(values, "number", precision(values)))
        elif name in category and values.type != "nothing":
            found.append(Known(values, "category"))
        else:
            found.append(_by_rule(values))
    return found


def _by_rule(values: Values) -> Known:
    if values.type == "other":
        return Known(values, "unreadable", "neither numbers nor texts")
    if values.num_different == 0:
        return Known(values, "empty")
    num_present = int((~values.is_missing).sum())
    if values.num_different == 1 and num_present == len(values):
        return Known(values, "constant")
    can_name_rows = values.type in ("text", "whole") and num_present > FEW
    if can_name_rows and values.num_different == num_present:
        return Known(values, "identifier", "a different value in each row")
    is_few = values.type == "whole" and values.num_different <= FEW
    if values.type in NUMBERS and not is_few:
        return Known(values, "number", precision(values))
    return Known(values, "category")


def precision(values: Values) -> str:
    """A word of warning where float32 does not tell the values apart; empty where it does.

    >>> precision(Values("time", "whole", 1_700_000_000 + np.arange(100.0)))
    'float32 holds 2 of its 100 values: subtract a number from it'
    """
    assert values.numbers is not None
    present = values.numbers[~values.is_missing]
    num_kept = len(np.unique(present.astype(np.float32)))
    if num_kept >= 0.9 * values.num_different:
        return ""
    return f"float32 holds {num_kept:,} of its {values.num_different:,} values: subtract a number from it"


def task_of(target: Values) -> Task:
    """Classes for texts, true and false, and at most `MOST_CLASSES` whole numbers; else regression.

    >>> task_of(Values("species", "text", places=np.array([0, 1]), words=("setosa", "virginica")))
    'classification'
    >>> task_of(Values("price", "number", np.array([1.5, 2.0])))
    'regression'
    """
    is_few = target.type == "whole" and target.num_different <= MOST_CLASSES
    return "classification" if is_few or target.numbers is None else "regression"
