"""The flags of a recipe: a flag's declaration says which values it may have, and errors name the flag."""

import dataclasses
import math
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from fourbeat.types import Config, Object

OF_THE_CALL = frozenset({"out", "resume", "max_seconds"})
"""Flags of one call: they say where a run lies and how long the call may take, not what the run is."""

_LARGEST = 2**31 - 1  # a step is counted in int32


@dataclasses.dataclass(frozen=True)
class Range:
    """Where a number lies; every number is finite. Made by `above` and `at_least`."""

    low: float
    is_low_within: bool
    below: float = math.inf
    at_most: float = math.inf

    def __contains__(self, value: float) -> bool:
        is_low_kept = value >= self.low if self.is_low_within else value > self.low
        return is_low_kept and value < self.below and value <= self.at_most

    def __str__(self) -> str:
        words = f"of at least {self.low}" if self.is_low_within else f"above {self.low}"
        words = words if self.below == math.inf else f"{words} and below {self.below}"
        return words if self.at_most == math.inf else f"{words} and at most {self.at_most}"


def above(low: float, *, at_most: float = math.inf) -> Range:
    """A number above `low`, for the annotation of a flag.

    Args:
      low: the number has to be more than this.
      at_most: the largest number that is allowed.

    >>> @dataclasses.dataclass
    ... class Flags:
    ...     learning_rate: Annotated[float, above(0)] = 0.1
    >>> check_flags(Flags(learning_rate=float("nan")))
    Traceback (most recent call last):
    ValueError: --learning-rate is nan; give a finite number above 0.
    """
    return Range(low, False, at_most=at_most)


def at_least(low: float, *, below: float = math.inf) -> Range:
    """A number from `low` on, for the annotation of a flag.

    Args:
      low: the least number that is allowed.
      below: the number has to be less than this.

    >>> @dataclasses.dataclass
    ... class Flags:
    ...     steps: Annotated[int, at_least(1)] = 10
    >>> check_flags(Flags(steps=0))
    Traceback (most recent call last):
    ValueError: --steps is 0; give a whole number of at least 1.
    """
    return Range(low, True, below)


def flag_name(name: str) -> Any:
    """Another name for a flag, for its annotation: that of a field such as `from_`, which Python keeps.

    >>> @dataclasses.dataclass
    ... class Flags:
    ...     from_: Annotated[str | None, flag_name("from")] = None
    """
    try:
        import tyro
    except ImportError:  # there is no command line then
        return None
    return tyro.conf.arg(name=name)


def repeated(metavar: str) -> tuple[Any, ...]:
    """A flag of one value that may be given several times, for the annotation of a tuple.

    A tuple without it takes all values that follow the flag, an argument of the recipe included.

    Args:
      metavar: the name of a value in help.

    >>> @dataclasses.dataclass
    ... class Flags:
    ...     drop: Annotated[tuple[str, ...], *repeated("NAME")] = ()
    """
    try:
        import tyro
    except ImportError:  # there is no command line then
        return (metavar,)
    return tyro.conf.UseAppendAction, tyro.conf.arg(metavar=metavar)


class Argument(NamedTuple):
    """A field that is given by its place, without a flag's name. Made by `argument`."""

    metavar: str
    what: str


def argument(metavar: str, what: str) -> tuple[Any, ...]:
    """An argument without a flag's name, such as the data that a run trains on, for its annotation.

    The field has the default None, for a call that resumes a run and names no data: it then has the value
    that the run was recorded with.

    Args:
      metavar: its name in help and errors.
      what: what is to be given, for the error where it is missing.

    >>> @dataclasses.dataclass
    ... class Flags:
    ...     directory: Annotated[Path | None, *argument("DIR", "a folder of pictures")] = None
    >>> check_flags(Flags())
    Traceback (most recent call last):
    ValueError: DIR is missing; give a folder of pictures.
    """
    declared = Argument(metavar, what)
    try:
        import tyro
    except ImportError:  # there is no command line then
        return (declared,)
    described = tyro.conf.arg(metavar=metavar, help_behavior_hint="(left out with --resume)")
    return declared, tyro.conf.Positional, described


def as_flag(name: str) -> str:
    """The flag of a field, as it is given in a command.

    >>> as_flag("learning_rate"), as_flag("from_")
    ('--learning-rate', '--from')
    """
    return f"--{name.rstrip('_').replace('_', '-')}"


def check_flags(flags: Config, *, where: str = "") -> None:
    """Checks that every flag has its type and lies in its range.

    Args:
      flags: a dataclass; its annotations give the types and the ranges.
      where: the text that an error begins with, such as the file that the flags come from.

    Raises:
      ValueError: a flag does not; the text names it, its value, and the values that it may have.
    """
    for name, hint in get_type_hints(type(flags), include_extras=True).items():
        value = getattr(flags, name)
        declared = [each for each in getattr(hint, "__metadata__", ()) if isinstance(each, Argument)]
        if declared and value is None:
            raise ValueError(f"{where}{declared[0].metavar} is missing; give {declared[0].what}.")
        if (expected := _expected(value, hint)) is not None:
            flag = declared[0].metavar if declared else as_flag(name)
            raise ValueError(f"{where}{flag} is {value!r}; give {expected}.")


def from_record(flags_type: type, saved: Mapping[str, Any], *, where: str) -> Any:
    """Flags with the values that a run was recorded with, except flags that belong to one call.

    Args:
      flags_type: a dataclass.
      saved: values by name; names that the type does not have are ignored.
      where: the text that an error begins with.

    Raises:
      ValueError: a value is not of its flag's type, or out of its range.
    """
    hints = get_type_hints(flags_type)
    names = {field.name for field in dataclasses.fields(flags_type)} - OF_THE_CALL
    given = {name: _from_json(value, hints[name]) for name, value in saved.items() if name in names}
    flags = flags_type(**given)
    check_flags(flags, where=where)
    return flags


def _from_json(value: Object, hint: Object) -> Any:
    """A value with the types that JSON lacks: tuples and paths."""
    is_path = isinstance(value, str) and Path in (hint, *get_args(hint))
    return Path(value) if is_path else tuple(value) if isinstance(value, list) else value


def _expected(value: Object, hint: Object) -> str | None:
    """The expected value, in words; None if `value` is allowed."""
    if hint is Any or hint is None or hint is type(None):
        return None if hint is Any or value is None else "nothing"
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        expected = [_expected(value, option) for option in inner]
        words = [text for text in expected if text not in (None, "nothing")]
        return None if None in expected else " or ".join(words)
    if origin is Literal:
        is_one = any(type(value) is type(option) and value == option for option in inner)
        return None if is_one else f"one of {', '.join(map(repr, inner))}"
    ranges: list[Range] = []
    if origin is Annotated:
        hint, ranges = inner[0], [each for each in inner[1:] if isinstance(each, Range)]
        if get_origin(hint) in (Union, types.UnionType):
            return _expected(value, hint)
    if hint in (int, float):
        return _number_expected(value, hint, ranges)
    words = {bool: "true or false", str: "a text", Path: "a path"}.get(hint)
    accepted = (str, Path) if hint is Path else hint
    return None if words is None or isinstance(value, accepted) else words


def _number_expected(value: Object, kind: type, ranges: list[Range]) -> str | None:
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    is_kind = is_whole or (kind is float and isinstance(value, float))
    is_small = is_kind and (abs(value) <= _LARGEST if is_whole and not ranges else abs(value) < math.inf)
    if is_small and all(value in each for each in ranges):
        return None
    noun = "a whole number" if kind is int else "a finite number"
    return " ".join([noun, *map(str, ranges)])
