"""Improvement: whether a score is better than the best so far, in float32 throughout."""

from __future__ import annotations

import math
from numbers import Integral, Real

import numpy as np

from fourbeat.trees.articles import a_type
from fourbeat.types import Object, Scalar

MODES = ("min", "max")


def as_score(value: Scalar, call: str) -> np.ndarray:
    """`value` on the host as a float32 array of shape ().

    Scores are kept in float32, which a checkpoint keeps to the bit, so they are compared in it too:
    a run that was resumed decides as one that was not.

    Args:
      value: a number, or an array with one element, on the host or a device.
      call: how the call reads, for the error.

    Raises:
      TypeError: it is not one number.
    """
    try:
        number = float(np.asarray(value).item())
    except (TypeError, ValueError):
        shape = f" of shape {np.shape(value)}" if hasattr(value, "shape") else ""
        raise TypeError(
            f'{call} takes one number, not {a_type(value)}{shape}. Pass one score, such as scores["loss"].'
        ) from None
    with np.errstate(over="ignore"):
        return np.asarray(number, dtype=np.float32)


def is_better(score: np.ndarray, best: Scalar, mode: str, min_delta: float, relative: bool = False) -> bool:
    """Whether `score` improves on `best` by more than `min_delta`; NaN never does.

    Args:
      score: float32.
      best: the score to beat. NaN stands for none so far: any number improves on it.
      mode: "min" or "max".
      min_delta: by how much it must be better, in the unit of the score.
      relative: whether `min_delta` is a fraction of the magnitude of `best` instead.
    """
    best = np.asarray(best, dtype=np.float32)
    if np.isnan(score) or np.isnan(best):
        return not np.isnan(score)
    with np.errstate(over="ignore", invalid="ignore"):
        least = np.float32(min_delta)
        if relative and np.isfinite(best):
            least = least * np.abs(best)
        return bool(score < best - least if mode == "min" else score > best + least)


def check_mode(call: str, mode: Object, min_delta: Scalar, relative: Object) -> None:
    """Raise `ValueError` for a mode or a delta that is not allowed."""
    if mode not in MODES:
        raise ValueError(f"{call}: mode={mode!r} must be 'min' or 'max'.")
    if not isinstance(relative, bool):
        raise ValueError(
            f"{call}: relative={relative!r} must be True or False. For a gain of one percent write "
            "min_delta=0.01, relative=True."
        )
    if not (isinstance(min_delta, Real) and 0 <= float(min_delta) < math.inf):
        unit = "as a fraction of the best score" if relative else "in the unit of the score"
        raise ValueError(f"{call}: min_delta={min_delta!r} must be a finite number of at least 0, {unit}.")


def check_count(call: str, name: str, count: Object, least: int, repair: str = "") -> None:
    """Raise `ValueError` unless `count` is an int of at least `least`; `repair` ends the text."""
    if isinstance(count, bool) or not isinstance(count, Integral) or count < least:
        raise ValueError(f"{call}: {name}={count!r} must be an int of at least {least}.{repair}")


def float32_scalar(value: float) -> np.ndarray:
    """A leaf that is saved and restored to the bit."""
    return np.asarray(value, dtype=np.float32)


def int32_scalar(value: int) -> np.ndarray:
    """A leaf that is saved and restored to the bit."""
    return np.asarray(value, dtype=np.int32)
