"""One row of the hazard table: a class, the calls made on it, and what must come of them."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

X = 2.0
V = jnp.arange(3.0)


@dataclasses.dataclass(frozen=True)
class Hazard:
    name: str
    make: Callable[[], Any]
    calls: tuple[tuple[Any, ...], ...]
    compiles: int
    refused: str | None


class Table(list[Hazard]):
    """The rows of one file."""

    def add(self, name, *calls, compiles=None, refused=None):
        """Adds a row; a call is a method's name, or a tuple of its name and arguments."""
        listed = tuple(call if isinstance(call, tuple) else (call,) for call in calls)
        num = len({call[0] for call in listed}) if compiles is None else compiles

        def added(make):
            self.append(Hazard(name, make, listed, num, refused))
            return make

        return added
