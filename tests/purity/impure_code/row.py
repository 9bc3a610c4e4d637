"""One row of the hazard table: a function whose meaning changes under jit."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

ANY: Any = object()
X = np.ones(3, np.float32)


@dataclasses.dataclass(frozen=True)
class Hazard:
    name: str
    make: Callable[[], tuple[Any, tuple[Any, ...], Callable[[], Any]]]
    expected: tuple[tuple[Any, ...], ...]
    has_line: bool


class Table(list[Hazard]):
    """The rows of one file."""

    def add(self, name, *expected, has_line=True):
        def added(make):
            self.append(Hazard(name, make, expected, has_line))
            return make

        return added


def on(cls, method, *args):
    """A bound method of a fresh object, looked at by its attributes."""
    made = cls()
    return getattr(made, method), args, lambda: dict(vars(made))
