"""Instances of classes: slots, properties, cycles, sentinels, enums."""

import dataclasses
import enum
import functools
import logging
import types
from typing import Any

import jax.numpy as jnp
import numpy as np

from tests.functional.hazards.numbers import Counter
from tests.functional.hazards.row import Table, X

HAZARDS = Table()
hazard = HAZARDS.add


@hazard("dataclass", "step", "step")
@dataclasses.dataclass
class Data:
    n: int = 0
    values: list = dataclasses.field(default_factory=lambda: [1.0])

    def step(self):
        self.n += 1
        self.values[0] += self.n
        return self.values[0]


@dataclasses.dataclass(frozen=True)
class Frozen:
    n: int = 0
    x: Any = 1.0


@hazard("frozen dataclass replaced", "step", "step")
class HoldsFrozen:
    def __init__(self):
        self.frozen = Frozen()

    def step(self):
        self.frozen = dataclasses.replace(self.frozen, n=self.frozen.n + 1)
        return self.frozen.n * self.frozen.x


@hazard("slots, inherited, one of them unset", "step", "step", "step", compiles=2)
class Slotted(Counter):
    __slots__ = ("late", "n")

    def step(self):
        self.n += 1
        self.late = getattr(self, "late", 10) + 1
        return self.n + self.late


@hazard("property with a setter", "step", "step")
class Propertied:
    def __init__(self):
        self._n = 0

    @property
    def n(self):
        return self._n

    @n.setter
    def n(self, value):
        self._n = value * 2

    def step(self):
        self.n = self.n + 1
        return self.n


@hazard("super and inheritance", "count", "count")
class Doubling(Counter):
    def count(self):
        super().count()
        self.n += 1
        return self.n


@hazard("nested objects, one shared", "step", "step")
class Nested:
    def __init__(self):
        self.left = Counter()
        self.right = self.left
        self.other = Counter()

    def step(self):
        self.left.count()
        self.other.count()
        return self.right.count() + self.other.n


@hazard("cycle", "step", "step")
class Cycle:
    def __init__(self):
        self.n, self.child = 0, types.SimpleNamespace()
        self.child.parent = self
        self.ring = [self.child]
        self.ring.append(self.ring)

    def step(self):
        self.child.parent.n += 1
        return self.ring[1][0].parent.n


@hazard("object made by the method", "step", "step", compiles=2)
class Making:
    def __init__(self):
        self.counter = None

    def step(self):
        if self.counter is None:
            self.counter = Counter()
        return self.counter.count()


@hazard("custom __setattr__", "step", "step")
class Guarded:
    def __init__(self):
        object.__setattr__(self, "n", 0)

    def __setattr__(self, name, value):
        object.__setattr__(self, name, value + 1)

    def step(self):
        self.n = self.n + 1
        return self.n


class _Sentinel:
    pass


UNSET = _Sentinel()
MARK = object()


class Color(enum.Enum):
    RED = 1


@hazard("sentinels and enums keep their identity", "step", "step", compiles=2)
class Sentinels:
    def __init__(self):
        self.value, self.mark, self.color = UNSET, MARK, Color.RED

    def step(self):
        assert self.mark is MARK and self.color is Color.RED
        self.value = 1.0 if self.value is UNSET else self.value + jnp.float32(1)
        return jnp.asarray(self.value)


@hazard("cached_property", "step", "step", compiles=2)
class Cached:
    def __init__(self):
        self.n = 1

    @functools.cached_property
    def table(self):
        return jnp.arange(3.0) + self.n

    def step(self):
        self.n += 1
        return self.table.sum() + self.n


@hazard("callable object", ("__call__", X), ("__call__", X))
class Callable_:
    def __init__(self):
        self.n = 0

    def __call__(self, x):
        self.n += 1
        return self.n * x


@hazard("context manager", "step", "step")
class Entering:
    def __init__(self):
        self.depth, self.n = 0, 0

    def __enter__(self):
        self.depth += 1

    def __exit__(self, *error):
        self.depth -= 1

    def step(self):
        with self:
            self.n += self.depth
        return self.n


@hazard("iterator class of the user's", "step", "step")
class UserIterator:
    def __init__(self):
        self.i = 0

    def __iter__(self):
        return self

    def __next__(self):
        self.i += 1
        return self.i

    def step(self):
        return next(self) * 10 + next(iter(self))


@hazard("descriptor", "step", "step")
class Described:
    class Doubled:
        def __get__(self, obj, kind):
            return obj.__dict__["hidden"]

        def __set__(self, obj, value):
            obj.__dict__["hidden"] = value * 2

    value = Doubled()

    def __init__(self):
        self.value = 1

    def step(self):
        self.value = self.value + 1
        return self.value


@hazard("__getattr__ over a dict", "step", "step")
class Forwarding:
    def __init__(self):
        self.values = {"n": 0}

    def __getattr__(self, name):
        if name.startswith("__") or name == "values":
            raise AttributeError(name)
        return self.values[name]

    def step(self):
        self.values["n"] += 1
        return self.n


@hazard("subclass of dict with attributes", "step", "step")
class Table2(dict):
    def __init__(self):
        super().__init__(a=1)
        self.n = 0

    def step(self):
        self["a"] += 1
        self.n += 2
        return self["a"] * self.n


@hazard("singledispatch method", "step", "step")
class Dispatching:
    def __init__(self):
        self.n = 0

    @functools.singledispatchmethod
    def add(self, x):
        raise TypeError(x)

    @add.register
    def _(self, x: int):
        self.n += x

    def step(self):
        self.add(3)
        return self.n


@hazard("logger and module attributes", "step", "step")
class Logging:
    def __init__(self):
        self.log, self.np, self.n = logging.getLogger("hazard"), np, 0

    def step(self):
        self.log.debug("a call")
        self.n += self.np.int32(1)
        return self.n


@hazard("objects of a list change places", "step", "step", "step")
class Rotating:
    def __init__(self):
        self.items = [types.SimpleNamespace(n=i) for i in range(3)]

    def step(self):
        self.items.append(self.items.pop(0))
        self.items[0].n += 10
        return sum((i + 1) * item.n for i, item in enumerate(self.items))
