"""Which rows are trained on, which choose the checkpoint, and which are scored at the end."""

from typing import NamedTuple

import numpy as np


class Parts(NamedTuple):
    """The places of the rows of each part, in their order: int of shape (rows of the part,)."""

    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray


def parts_of(labels: np.ndarray, *, valid: float, test: float, is_classes: bool, seed: int) -> Parts:
    """Divides rows by a seed, so that each part has its share of each class, or of low and high numbers.

    One row of each class is always trained on.

    Args:
      labels: of shape (rows,), classes or numbers.
      valid: the share of the rows that choose the checkpoint.
      test: the share of the rows that are scored at the end.
      is_classes: whether the labels are classes.
      seed: which rows go where depends on it and the labels alone.

    >>> parts = parts_of(np.repeat([0, 1], [80, 20]), valid=0.2, test=0.1, is_classes=True, seed=0)
    >>> [len(part) for part in parts], [int((part >= 80).sum()) for part in parts]
    ([70, 20, 10], [14, 4, 2])
    """
    # RandomState's stream is frozen for ever (NEP 19), so a division never changes
    drawn = np.random.RandomState([seed]).permutation(len(labels))
    in_order = drawn[np.argsort(labels[drawn], kind="stable")]
    is_first = np.zeros(len(labels), bool)
    if is_classes:
        is_first = np.diff(labels[in_order], prepend=labels.min() - 1) > 0
    begin, rest = in_order[is_first], in_order[~is_first]
    is_test = _every(len(rest), len(labels) * test)
    is_valid = np.zeros(len(rest), bool)
    is_valid[~is_test] = _every(int((~is_test).sum()), len(labels) * valid)
    train = np.concatenate([begin, rest[~is_test & ~is_valid]])
    return Parts(*(np.sort(rows) for rows in (train, rest[is_valid], rest[is_test])))


def _every(length: int, num_chosen: float) -> np.ndarray:
    """Which of so many are chosen, evenly spread: bool of shape (length,)."""
    num_chosen = min(max(round(num_chosen), 1), length)
    return np.diff(np.arange(length + 1) * num_chosen // max(length, 1)) > 0


def num_repeated(rows: np.ndarray, parts: Parts) -> tuple[int, int]:
    """How many of the rows that choose and of those that are scored are rows to train on too, in all columns.

    Args:
      rows: float64 of shape (rows, columns); a missing value is a NaN.
      parts: which are which.

    >>> rows = np.array([[1.0, np.nan], [2.0, 3.0], [1.0, np.nan], [4.0, 4.0]])
    >>> num_repeated(rows, Parts(np.array([0, 1]), np.array([2]), np.array([3])))
    (1, 0)
    """
    alike = np.ascontiguousarray(np.where(np.isnan(rows), np.nan, rows) + 0.0)  # one NaN, and no -0
    whole = alike.view(np.dtype((np.void, alike.dtype.itemsize * alike.shape[1]))).ravel()
    _, number = np.unique(whole, return_inverse=True)
    known = np.isin(number, number[parts.train])
    return int(known[parts.valid].sum()), int(known[parts.test].sum())
