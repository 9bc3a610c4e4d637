"""Lists, dicts, tuples, deques and sets."""

import collections
import types
import typing
from typing import Any

import jax.numpy as jnp

from tests.functional.hazards.row import Table, X

HAZARDS = Table()
hazard = HAZARDS.add


@hazard("list written by index", ("step", X), ("step", X))
class ListItem:
    def __init__(self):
        self.items = [0, 1.0, jnp.ones(2)]

    def step(self, x):
        self.items[0] += 1
        self.items[-1] = self.items[-1] * x
        return self.items[0] + self.items[-1].sum()


@hazard("list that grows", ("step", X), ("step", X), compiles=2)
class ListGrows:
    def __init__(self):
        self.calls = 0
        self.items = []

    def step(self, x):
        self.calls += 1
        self.items.append(x)
        return sum(self.items)


@hazard("dict of counts", ("step", X), ("step", X))
class Dict:
    def __init__(self):
        self.totals = {"n": 0, "sum": 0.0, 3: {"deep": 1}}

    def step(self, x):
        self.totals["n"] += 1
        self.totals["sum"] += x
        self.totals[3]["deep"] *= 2
        return self.totals["n"] + self.totals["sum"] + self.totals[3]["deep"]


@hazard("defaultdict and Counter", "step", "step", "step", compiles=2)
class Counting:
    def __init__(self):
        self.seen, self.by = collections.Counter("ab"), collections.defaultdict(int)

    def step(self):
        self.seen["a"] += 1
        self.by["x"] += 2
        return self.seen["a"] + self.by["x"]


@hazard("OrderedDict keeps its order", "step", "step", compiles=2)
class Ordered:
    def __init__(self):
        self.d = collections.OrderedDict(a=1.0, b=2.0)

    def step(self):
        self.d.move_to_end("a")
        self.d["b"] += 1.0
        return sum((i + 1) * value for i, value in enumerate(self.d.values()))


@hazard("full deque rotates", ("push", X), ("push", 3.0), ("push", 4.0))
class Window:
    def __init__(self):
        self.window = collections.deque([0.0, 0.0, 0.0], maxlen=3)

    def push(self, x):
        self.window.append(x)
        return sum(self.window) / 3


@hazard("set of names", ("see", X), ("see", X), compiles=2)
class Names:
    def __init__(self):
        self.names, self.n = {"a"}, 0

    def see(self, x):
        self.names.add("b")
        self.n += len(self.names)
        return self.n * x


@hazard("tuple and named tuple", "step", "step")
class Tuples:
    class Pair(typing.NamedTuple):
        left: Any
        right: Any

    def __init__(self):
        self.pair, self.plain = self.Pair(0, jnp.ones(2)), (1, "a", (2.0,))

    def step(self):
        self.pair = self.pair._replace(left=self.pair.left + 1)
        self.plain = (self.plain[0] + 1, self.plain[1], (self.plain[2][0] * 2,))
        return self.pair.left + self.plain[2][0] + self.pair.right.sum()


@hazard("the same list under two names", ("push", X), ("push", X))
class SharedList:
    def __init__(self):
        self.items = [0.0]
        self.same = self.items

    def push(self, x):
        self.same[0] += x
        return self.items[0]


@hazard("subclass of list with attributes", "step", "step")
class Stack(list):
    def __init__(self):
        super().__init__([1, 2])
        self.depth = 0

    def step(self):
        self[0] += 1
        self.depth += 1
        return self[0] * self.depth


@hazard("SimpleNamespace", "step", "step")
class Namespaced:
    def __init__(self):
        self.ns = types.SimpleNamespace(n=0, inner=types.SimpleNamespace(x=1.0))

    def step(self):
        self.ns.n += 1
        self.ns.inner.x *= 2
        return self.ns.n * self.ns.inner.x
