"""Durations: when a mark falls, in steps, examples, epochs, seconds or parts of the loop."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from numbers import Integral, Rational, Real
from typing import Any

from fourbeat.types import Object

UNITS = ("steps", "examples", "epochs", "seconds", "fraction")


def every(
    *,
    steps: int | None = None,
    examples: int | None = None,
    epochs: float | Fraction | None = None,
    seconds: float | None = None,
    fraction: float | Fraction | None = None,
) -> Duration:
    """A mark that falls again and again, and never at 0.

    Exactly one unit is given. Equal durations are the same mark: `every(steps=37) in tick` works
    wherever an equal one was passed to `loop`. `a | b` falls where either does.

    Args:
      steps: falls after steps n, 2n, 3n, ...
      examples: falls at the first step at which the count of examples reaches or passes a multiple.
      epochs: falls at the first step that reaches a multiple of this number of epochs; 0.25 is four
        times an epoch.
      seconds: falls at the first tick after this many seconds have passed since its last fall, on the
        wall clock, counted from the moment when the loop starts to run. It is not reproducible.
      fraction: part, in (0, 1], of the whole length that the loop's `until` gives it.

    Returns:
      A hashable value. Floats are read as the simplest fraction that they stand for, 0.1 as one
      tenth and 1 / 3 as one third, so nothing drifts however long the run.

    Raises:
      TypeError: there is not exactly one unit, or its value is of the wrong type.
      ValueError: the value is not positive and finite, or a fraction is above 1.

    >>> every(steps=37) == every(steps=37)
    True
    >>> every(epochs=0.5) | at(steps=1000)
    at(steps=1000) | every(epochs=0.5)
    """
    return _duration(True, (steps, examples, epochs, seconds, fraction))


def at(
    *,
    steps: int | None = None,
    examples: int | None = None,
    epochs: float | Fraction | None = None,
    seconds: float | None = None,
    fraction: float | Fraction | None = None,
) -> Duration:
    """A mark that falls once, at the first step that reaches the place.

    Args:
      steps: the number of steps done.
      examples: the number of examples seen.
      epochs: the number of epochs completed; may be fractional.
      seconds: the seconds on the wall clock since the loop started to run.
      fraction: part, in (0, 1], of the whole length that the loop's `until` gives it.

    Returns:
      A hashable value; see `every`.

    Raises:
      TypeError: there is not exactly one unit, or its value is of the wrong type.
      ValueError: the value is not positive and finite, or a fraction is above 1.

    >>> at(epochs=5)
    at(epochs=5)
    """
    return _duration(False, (steps, examples, epochs, seconds, fraction))


class Joinable:
    """What `|` joins: durations, stop signals and what they were joined to."""

    __slots__ = ()

    def __or__(self, other: Object) -> Joined:
        """Fall where either falls."""
        if not isinstance(other, Joinable):
            return NotImplemented
        return Joined(frozenset(parts_of(self)) | frozenset(parts_of(other)))


@dataclass(frozen=True, slots=True, repr=False)
class Duration(Joinable):
    """One `every` or `at`: built by those two functions."""

    repeats: bool
    unit: str
    amount: int | float | Fraction

    @property
    def exact(self) -> Fraction:
        """The amount without rounding."""
        return exact(self.amount)

    def __repr__(self) -> str:
        return f"{'every' if self.repeats else 'at'}({self.unit}={self.amount})"


@dataclass(frozen=True, slots=True, repr=False)
class Joined(Joinable):
    """Several durations and signals: it falls where any of them does."""

    parts: frozenset[Joinable]

    def __repr__(self) -> str:
        return " | ".join(sorted(map(repr, self.parts)))


def parts_of(joinable: Joinable) -> tuple[Joinable, ...]:
    """The single durations and signals that were joined, in an order that does not vary."""
    if isinstance(joinable, Joined):
        return tuple(sorted(joinable.parts, key=repr))
    return (joinable,)


def exact(amount: int | float | Fraction) -> Fraction:
    """The fraction with the fewest digits in its denominator that rounds to `amount`.

    >>> exact(0.1), exact(1 / 3), exact(2.5)
    (Fraction(1, 10), Fraction(1, 3), Fraction(5, 2))
    """
    as_it_is = Fraction(amount)
    if not isinstance(amount, float):
        return as_it_is
    limit = 1
    while float(simplest := as_it_is.limit_denominator(limit)) != amount:
        limit *= 10
    return simplest


def _duration(repeats: bool, amounts: tuple[Any, ...]) -> Duration:
    name = "every" if repeats else "at"
    given = {unit: x for unit, x in zip(UNITS, amounts, strict=True) if x is not None}
    if len(given) != 1:
        seen = ", ".join(f"{unit}={x!r}" for unit, x in given.items()) or "none"
        raise TypeError(
            f"{name}() takes exactly one unit and got {seen}. Give one of steps=, examples=, "
            f"epochs=, seconds=, fraction=, and join several durations with |."
        )
    ((unit, amount),) = given.items()
    return Duration(repeats, unit, _checked(f"{name}({unit}={amount!r})", unit, amount))


def _checked(call: str, unit: str, amount: Object) -> int | float | Fraction:
    is_whole = unit in ("steps", "examples")
    if isinstance(amount, bool) or not isinstance(amount, Integral if is_whole else Real):
        raise TypeError(
            f"{call}: {unit} takes {'a whole number (int)' if is_whole else 'a number'}, not "
            f"{type(amount).__name__}."
        )
    if isinstance(amount, Integral):
        amount = int(amount)
    elif isinstance(amount, Rational):
        amount = Fraction(str(amount))
    else:
        amount = float(amount)
    if not math.isfinite(amount) or amount <= 0:
        raise ValueError(f"{call}: {unit} must be finite and above 0; nothing falls at 0.")
    if unit == "fraction" and amount > 1:
        raise ValueError(f"{call}: fraction is a part of the loop's length, above 0 and at most 1.")
    return amount
