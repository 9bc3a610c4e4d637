"""The hazard table: classes nobody wrote for JAX, each with calls to make and what must come of them.

A row is a class, the calls made on it in order, how many compilations they may cost, and, where the
class has no pure form, the words of the refusal. The runner compares every result with the same calls
on an ordinary object, and the object after `commit` with the ordinary object.
"""

import collections
import dataclasses
import enum
import functools
import io
import itertools
import logging
import queue
import random
import threading
import types
import typing
import weakref
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

X = 2.0
V = jnp.arange(3.0)


@dataclasses.dataclass(frozen=True)
class Hazard:
    name: str
    make: Callable[[], Any]
    calls: tuple[tuple[Any, ...], ...]
    compiles: int
    refused: str | None


HAZARDS: list[Hazard] = []


def hazard(name, *calls, compiles=None, refused=None):
    """Adds a row; a call is a method's name, or a tuple of its name and arguments."""
    listed = tuple(call if isinstance(call, tuple) else (call,) for call in calls)
    num = len({call[0] for call in listed}) if compiles is None else compiles

    def add(make):
        HAZARDS.append(Hazard(name, make, listed, num, refused))
        return make

    return add


# Numbers --------------------------------------------------------------------------------------------


@hazard("int counter", "count", "count", "count")
class Counter:
    def __init__(self):
        self.n = 0

    def count(self):
        self.n += 1
        return self.n


@hazard("running mean that starts at int 0", ("push", X), ("push", 4.0), ("push", 9.0))
class RunningMean:
    def __init__(self):
        self.n, self.mean = 0, 0

    def push(self, x):
        self.n += 1
        self.mean += (x - self.mean) / self.n
        return self.mean


@hazard("one method promotes what another reads", "grow", "read", "grow", "read")
class Coupled:
    def __init__(self):
        self.a, self.b, self.c = 1, 10, 100

    def grow(self):
        self.a += 1

    def read(self):
        self.b = self.a
        self.c = self.b
        return self.c


@hazard("a number that two calls reach", "shift", "shift", "shift", "shift")
class Chain:
    def __init__(self):
        self.a, self.b, self.c, self.d = 1, 0, 0, 0

    def shift(self):
        self.d, self.c, self.b, self.a = self.c, self.b, self.a, self.a + 1
        return self.d


@hazard("bool flag stays static", "eval_", "step", "train", "step", "step", compiles=4)
class Flagged:
    def __init__(self):
        self.training, self.n = True, 0

    def train(self):
        self.training = True

    def eval_(self):
        self.training = False

    def step(self):
        self.n += 2 if self.training else 1
        return self.n


@hazard("str mode stays static", ("step", X), "finish", ("step", X), compiles=3)
class Moded:
    def __init__(self):
        self.mode, self.total = "sum", 0.0

    def step(self, x):
        self.total = self.total + x if self.mode == "sum" else self.total - x
        return self.total

    def finish(self):
        self.mode = "difference"


@hazard("unchanged int used as a shape", "step", "step")
class Shaped:
    def __init__(self):
        self.width, self.n = 3, 0

    def step(self):
        self.n += 1
        return jnp.ones(self.width) * self.n


@hazard("complex number", "turn", "turn", "turn")
class Turning:
    def __init__(self):
        self.z = 1 + 1j

    def turn(self):
        self.z = self.z * 1j
        return self.z


@hazard("numpy scalars", "step", "step")
class NumpyScalars:
    def __init__(self):
        self.n, self.x = np.int32(3), np.float32(0.5)

    def step(self):
        self.n = self.n + np.int32(2)
        self.x = self.x * np.float32(3)
        return self.n * self.x


@hazard("reset with a Python literal", ("push", X), "reset", ("push", X), ("push", X))
class Resetting:
    def __init__(self):
        self.calls = 0
        self.total = jnp.float32(0)

    def push(self, x):
        self.calls += 1
        self.total = self.total + x
        return self.total

    def reset(self):
        self.total = 0


@hazard("weak and bfloat16", ("push", jnp.bfloat16(2)), ("push", jnp.bfloat16(3)))
class Weak:
    def __init__(self):
        self.total = 0

    def push(self, x):
        self.total = self.total + x
        return self.total


@hazard("Python numbers yield to bfloat16", ("scale", jnp.bfloat16(2)), ("scale", jnp.bfloat16(3)))
class Yielding:
    def __init__(self):
        self.n, self.rate = 1, 0.5

    def scale(self, x):
        self.n += 1
        self.rate *= 2
        return x * self.n + self.rate


@hazard("floor, mod and power of an int", "step", "step", "step")
class Arithmetic:
    def __init__(self):
        self.n = 7

    def step(self):
        self.n = (self.n**2 // 3) % 101
        return self.n


@hazard("None becomes an array", ("push", X), ("push", X), ("push", X), compiles=2)
class Lazily:
    def __init__(self):
        self.calls = 0
        self.best = None

    def push(self, x):
        self.calls += 1
        self.best = x if self.best is None else jnp.maximum(self.best, x + 1)
        return self.best


@hazard("attribute made by the first call", ("push", X), ("push", X), ("push", X), compiles=2)
class MadeLate:
    def push(self, x):
        if not hasattr(self, "seen"):
            self.seen = 0
            self.last = jnp.zeros(())
        self.seen += 1
        self.last = x
        return self.seen


@hazard("attribute deleted", "drop", "read", compiles=2)
class Dropping:
    def __init__(self):
        self.n, self.extra = 1, 5

    def drop(self):
        del self.extra

    def read(self):
        self.n += 1
        return self.n + getattr(self, "extra", 100)


@hazard("branch on traced state", "step", refused="Python value of n")
class Branching:
    def __init__(self):
        self.n = 0

    def step(self):
        self.n += 1
        if self.n % 2:
            return 1.0
        return 2.0


@hazard("range over traced state", "step", refused="Python value of n")
class Ranging:
    def __init__(self):
        self.n = 1

    def step(self):
        self.n += 1
        return sum(i for i in range(self.n))


@hazard("int64 that does not fit", "step", refused="does not fit int32")
class Large:
    def __init__(self):
        self.n = 2**40

    def step(self):
        self.n += 1
        return self.n


# Arrays and keys -----------------------------------------------------------------------------------


@hazard("jax array attribute", ("step", V), ("step", V))
class Accumulating:
    def __init__(self):
        self.calls = 0
        self.total = jnp.zeros(3)

    def step(self, x):
        self.calls += 1
        self.total = self.total + x
        return self.total.sum()


@hazard("weak array loses weakness", ("step", V), ("step", V))
class WeakArray:
    def __init__(self):
        self.total = jnp.asarray(0.0)

    def step(self, x):
        self.total = self.total + x.sum()
        return self.total


@hazard("one array under two names", "step", "step")
class TwoNames:
    def __init__(self):
        self.calls = 0
        self.a = self.b = jnp.ones(2)

    def step(self):
        self.calls += 1
        self.a = self.a + 1
        return self.a + self.b


@hazard("state equal to the result", "step", "step", "step")
class SameBuffer:
    def __init__(self):
        self.calls = 0
        self.a = self.b = jnp.ones(2)

    def step(self):
        self.calls += 1
        self.b = self.a = self.a * 2
        return self.a


@hazard("typed PRNG key", "draw", "draw", "draw")
class Drawing:
    def __init__(self):
        self.calls = 0
        self.key = jax.random.key(3)

    def draw(self):
        self.calls += 1
        self.key, sub = jax.random.split(self.key)
        return jax.random.normal(sub, (2,))


@hazard("raw PRNG key of another implementation", "draw", "draw")
class RawDrawing:
    def __init__(self):
        self.calls = 0
        self.key, self.other = jax.random.PRNGKey(3), jax.random.key(1, impl="rbg")

    def draw(self):
        self.calls += 1
        self.key, sub = jax.random.split(self.key)
        self.other = jax.random.fold_in(self.other, 1)
        return jax.random.normal(sub) + jax.random.normal(self.other)


@hazard("array that grows", ("push", X), ("push", X), ("push", X), compiles=3)
class Growing:
    def __init__(self):
        self.calls = 0
        self.seen = jnp.zeros(0)

    def push(self, x):
        self.calls += 1
        self.seen = jnp.append(self.seen, x)
        return self.seen.sum()


# NumPy ---------------------------------------------------------------------------------------------


@hazard("numpy element written in place", ("add", 1, X), ("add", 1, X), ("add", 0, X))
class Histogram:
    def __init__(self):
        self.bins = np.zeros(3, np.float32)

    def add(self, i, x):
        self.bins[i] += x
        return self.bins.sum()


@hazard("numpy augmented assignment", "step", "step")
class Augmented:
    def __init__(self):
        self.a = np.arange(4, dtype=np.int32)

    def step(self):
        self.a += 2
        self.a *= 3
        return self.a


@hazard("numpy views, reshape and transpose", ("step", X), ("step", 5.0))
class Views:
    def __init__(self):
        self.a = np.zeros((2, 3), np.float32)

    def step(self, x):
        row = self.a[1]
        row[1:] += x
        self.a.T[0][1] = 7
        self.a.reshape(-1)[2:4] -= 1
        self.a[:, 0] = self.a[:, 2]
        return row.sum()


@hazard("numpy out= and fill", ("step", X), ("step", X))
class Out:
    def __init__(self):
        self.a, self.b = np.ones(3, np.float32), np.ones(3, np.float32)

    def step(self, x):
        np.add(self.a, x, out=self.a)
        self.b.fill(x)
        np.multiply(self.a, self.b, out=self.b)
        return self.b.max()


@hazard("numpy masks, sort, put and add.at", ("step", X), ("step", X))
class Masks:
    def __init__(self):
        self.a = np.array([3.0, 1.0, 2.0, 0.5], np.float32)

    def step(self, x):
        self.a[self.a > 2] = x
        self.a.sort()
        np.add.at(self.a, np.array([0, 0, 1]), x)
        self.a.put([3], 9)
        return self.a.mean()


@hazard("numpy ring buffer at a traced position", ("push", X), ("push", 5.0), ("push", X))
class Ring:
    def __init__(self):
        self.rows, self.position = np.zeros((2, 2), np.float32), 0

    def push(self, x):
        row = self.rows[self.position]
        row[0] = x
        row += 1
        self.rows[[0, 1], [1, 1]] *= 2
        self.position = (self.position + 1) % len(self.rows)
        return self.rows.mean()


@hazard("numpy element at a traced index", ("add", jnp.int32(1), X), ("add", jnp.int32(0), X))
class AtTracedIndex:
    def __init__(self):
        self.bins, self.table = np.zeros(3, np.float32), np.arange(3)

    def add(self, i, x):
        self.bins[i] += x
        return self.bins[i] + x


@hazard("numpy running variance", ("push", V), ("push", 2 * V), ("push", V))
class Welford:
    def __init__(self):
        self.n, self.mean, self.m2 = 0, np.zeros(3, np.float32), np.zeros(3, np.float32)

    def push(self, x):
        self.n += 1
        delta = x - self.mean
        self.mean += delta / self.n
        self.m2 += delta * (x - self.mean)
        return self.m2 / self.n


@hazard("numpy function of a traced value", ("push", X), refused="jnp.sqrt in place of np.sqrt")
class NumpyFunction:
    def __init__(self):
        self.total = 0.0

    def push(self, x):
        self.total += x
        return np.sqrt(self.total)


@hazard("numpy copyto and aliases", ("step", X), ("step", X))
class Alias:
    def __init__(self):
        self.a = np.zeros(2, np.float32)
        self.same = self.a

    def step(self, x):
        np.copyto(self.same, np.float32(1))
        self.a[0] += x
        return self.same.sum()


@hazard("numpy int array truncates what is assigned", ("step", 2.75), ("step", 3.75))
class Truncating:
    def __init__(self):
        self.a = np.zeros(2, np.int32)

    def step(self, x):
        self.a[0] = x
        return self.a.sum()


@hazard("numpy replaced, not written", ("step", X), ("step", X))
class Replaced:
    def __init__(self):
        self.a = np.ones(3, np.float32)

    def step(self, x):
        self.a = self.a * x + 1
        return self.a.sum()


@hazard("numpy replaced without any tracer", "step", "step", "step")
class ReplacedByNumpy:
    def __init__(self):
        self.a = np.ones(3, np.float32)

    def step(self):
        self.a = self.a + 1
        return self.a.sum()


@hazard("numpy table that is only read", "step", "step")
class Table:
    def __init__(self):
        self.table, self.n = np.array([[2.0, 0.0], [0.0, 4.0]], np.float32), 0

    def step(self):
        self.n += 1
        return np.linalg.inv(self.table) * self.n + int(self.table[1, 1])


@hazard("numpy table beside one written", ("step", X), ("step", X))
class TableAndWritten:
    def __init__(self):
        self.table, self.a = np.arange(3), np.zeros(3, np.float32)

    def step(self, x):
        for i in self.table.tolist():
            self.a[i] += x * int(self.table[i])
        return self.a.sum()


@hazard("float into an int array", ("step", X), refused="Cannot cast ufunc 'add'")
class BadCast:
    def __init__(self):
        self.a = np.zeros(2, np.int32)

    def step(self, x):
        self.a += 0.5
        return x


@hazard("attributes that share numpy memory", ("step", X), refused="shares NumPy memory")
class Shared:
    def __init__(self):
        self.a = np.zeros(4)
        self.b = self.a[1:]

    def step(self, x):
        self.a[1] = x
        return self.b.sum()


@hazard("a view kept as an attribute", ("step", X), refused="shares NumPy memory")
class KeepsView:
    def __init__(self):
        self.a, self.b = np.zeros(4), None

    def step(self, x):
        self.b = self.a[1:]
        self.b[0] = x
        return self.a.sum()


@hazard("int64 array that does not fit", "step", refused="does not fit int32")
class LargeArray:
    def __init__(self):
        self.a = np.array([2**40])

    def step(self):
        self.a += 1
        return self.a.sum()


# Containers ----------------------------------------------------------------------------------------


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


# Objects -------------------------------------------------------------------------------------------


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


# Functions held as attributes ----------------------------------------------------------------------


@hazard("closure over self", ("step", X), ("step", X))
class ClosureOverSelf:
    def __init__(self):
        self.n = 0
        self.bump = lambda: setattr(self, "n", self.n + 1)

    def step(self, x):
        self.bump()
        return self.n * x


@hazard("closure with a nonlocal of its own", "step", "step", "step")
class Nonlocal:
    def __init__(self):
        n = 0

        def bump():
            nonlocal n
            n += 1
            return n

        self.bump = bump

    def step(self):
        return self.bump()


@hazard("bound methods as attributes", "step", "step")
class BoundMethods:
    def __init__(self):
        self.n, self.items = 0, [0.0]
        self.alias, self.inner = self.count, Counter()
        self.callback = self.inner.count

    def count(self):
        self.n += 1
        return self.n

    def step(self):
        return self.alias() + self.callback()


@hazard("append of a list as an attribute", ("step", X), ("step", X), compiles=2)
class BoundAppend:
    def __init__(self):
        self.calls = 0
        self.items = []
        self.push = self.items.append

    def step(self, x):
        self.calls += 1
        self.push(x)
        return sum(self.items)


@hazard("partial over an object", ("step", X), ("step", X))
class PartialOver:
    def __init__(self):
        self.total = {"x": 0.0}
        self.add = functools.partial(self._add, self.total, scale=2.0)

    @staticmethod
    def _add(total, x, *, scale):
        total["x"] += scale * x

    def step(self, x):
        self.add(x)
        return self.total["x"]


@hazard("a lambda made anew in every call is one program", ("step", X), ("step", X), ("step", X), compiles=2)
class NewLambda:
    def __init__(self):
        self.activation, self.n = (lambda x: x * 2), 0

    def step(self, x):
        self.activation = lambda x: x * 2
        self.n += 1
        return self.activation(x) * self.n


@hazard("jitted pure function as an attribute", ("step", X), ("step", X))
class JittedPure:
    def __init__(self):
        self.f, self.n = jax.jit(jnp.sin), 0

    def step(self, x):
        self.n += 1
        return self.f(x) * self.n


@hazard("jitted closure over an array", ("step", X), ("step", X))
class JittedOverArray:
    def __init__(self):
        weight = jnp.ones(2)
        self.f, self.n = jax.jit(lambda x: x * weight), 0

    def step(self, x):
        self.n += 1
        return self.f(x) * self.n


@hazard("jitted bound method as an attribute", "step", refused="over a stateful object")
class JittedSelf:
    def __init__(self):
        self.n = 0
        self.f = jax.jit(self.g)

    def g(self):
        self.n += 1
        return self.n

    def step(self):
        return self.f()


@hazard("method under nnx.jit in a plain class", ("step", X), refused="as self to a function under jax.jit")
class NnxJitted:
    def __init__(self):
        self.n = 0

    @nnx.jit
    def step(self, x):
        self.n += 1
        return x * self.n


@hazard("method under jax.jit in a plain class", ("step", X), refused="as self to a function under jax.jit")
class MethodJitted:
    def __init__(self):
        self.n = 0

    @jax.jit
    def inner(self, x):
        self.n += 1
        return x * self.n

    def step(self, x):
        return self.inner(x)


@hazard("NNX module with a method under nnx.jit", ("step", X), ("step", X))
class HoldsJittedModule:
    class Module(nnx.Module):
        def __init__(self):
            self.count = nnx.Variable(jnp.zeros(()))

        @nnx.jit
        def step(self, x):
            self.count[...] += 1
            return x * self.count[...]

    def __init__(self):
        self.module, self.n = self.Module(), 0

    def step(self, x):
        self.n += 1
        return self.module.step(x) * self.n


# Libraries -----------------------------------------------------------------------------------------


@hazard("optax transformation and its state", ("step", V), ("step", V))
class Optimizing:
    def __init__(self):
        self.tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-2))
        self.params = {"w": jnp.ones(3)}
        self.opt_state = self.tx.init(self.params)

    def step(self, x):
        grads = jax.grad(lambda params: ((params["w"] - x) ** 2).sum())(self.params)
        updates, self.opt_state = self.tx.update(grads, self.opt_state, self.params)
        self.params = optax.apply_updates(self.params, updates)
        return self.params["w"]


@hazard("NNX module with BatchNorm and Dropout", ("step", jnp.ones((4, 3))), ("step", jnp.ones((4, 3))))
class HoldsModule:
    def __init__(self):
        rngs = nnx.Rngs(0, dropout=1)
        self.linear, self.norm = nnx.Linear(3, 2, rngs=rngs), nnx.BatchNorm(2, rngs=rngs)
        self.dropout, self.n = nnx.Dropout(0.5, rngs=rngs), 0

    def step(self, x):
        self.n += 1
        return self.dropout(self.norm(self.linear(x))) * self.n


@hazard("Equinox module replaced", ("step", V), ("step", V))
class HoldsEquinox:
    def __init__(self):
        self.model = eqx.nn.Linear(3, 2, key=jax.random.key(0))

    def step(self, x):
        self.model = eqx.tree_at(lambda m: m.bias, self.model, self.model.bias + 1)
        return self.model(x)


@hazard("gradient over attributes", ("fit", X), ("fit", X))
class Fitting:
    def __init__(self):
        self.w, self.rate = 1.0, 0.1

    def fit(self, x):
        loss, grad = jax.value_and_grad(lambda w: (w * x - 1) ** 2)(jnp.asarray(self.w))
        self.w = self.w - self.rate * grad
        return loss


@hazard("scan inside a method", ("run", V), ("run", V))
class Scanning:
    def __init__(self):
        self.total = 0.0

    def run(self, xs):
        self.total, out = jax.lax.scan(lambda c, x: (c + x, c), jnp.asarray(self.total), xs)
        return out


@hazard("Equinox model trained by optax", ("step", V), ("step", V))
class Training:
    def __init__(self):
        self.model, self.tx = eqx.nn.Linear(3, 1, key=jax.random.key(0)), optax.adam(1e-2)
        self.opt_state = self.tx.init(eqx.filter(self.model, eqx.is_inexact_array))

    def step(self, x):
        loss, grads = eqx.filter_value_and_grad(lambda model: (model(x) ** 2).sum())(self.model)
        updates, self.opt_state = self.tx.update(grads, self.opt_state)
        self.model = eqx.apply_updates(self.model, updates)
        return loss


# What is refused -----------------------------------------------------------------------------------


@hazard("iterator", "step", refused="advance once")
class Iterating:
    def __init__(self):
        self.it = iter([1, 2, 3])

    def step(self):
        return next(self.it)


@hazard("itertools.count", "step", refused="advance once")
class Itertools:
    def __init__(self):
        self.ids = itertools.count()

    def step(self):
        return next(self.ids)


@hazard("generator", "step", refused="advance once")
class Generating:
    def __init__(self):
        self.gen = (i for i in range(3))

    def step(self):
        return next(self.gen)


@hazard("numpy Generator", "step", refused="repeat for ever")
class NumpyRandom:
    def __init__(self):
        self.rng = np.random.default_rng(0)

    def step(self):
        return self.rng.normal()


@hazard("random.Random", "step", refused="repeat for ever")
class PythonRandom:
    def __init__(self):
        self.rng = random.Random(0)

    def step(self):
        return self.rng.random()


@hazard("lock used by the method", "step", refused="guards one process's objects")
class Locked:
    def __init__(self):
        self.lock, self.n = threading.Lock(), 0

    def step(self):
        with self.lock:
            self.n += 1
        return self.n


@hazard("lock that the method does not touch", "step", "step")
class Untouched:
    def __init__(self):
        self.lock, self.ids, self.n = threading.Lock(), itertools.count(), 0

    def step(self):
        self.n += 1
        return self.n


@hazard("open file", "step", refused="it is an open file")
class Filed:
    def __init__(self):
        self.file = io.StringIO("12")

    def step(self):
        return len(self.file.read())


@hazard("weak reference", "step", refused="it is a weak reference")
class Weakly:
    def __init__(self):
        self.n = 0
        self.me = weakref.ref(self)

    def step(self):
        self.me().n += 1
        return self.n


@hazard("dict keyed by objects", "step", refused="keyed by objects")
class KeyedByObjects:
    def __init__(self):
        self.key = Counter()
        self.values = {self.key: 0}

    def step(self):
        self.values[self.key] += 1
        return self.values[self.key]


@hazard("queue", "step", refused="it is a Queue")
class Queued:
    def __init__(self):
        self.queue = queue.Queue()

    def step(self):
        self.queue.put(1)
        return self.queue.qsize()


@hazard("bytearray", "step", refused="it is a bytearray")
class Bytes:
    def __init__(self):
        self.buffer = bytearray(2)

    def step(self):
        self.buffer[0] += 1
        return self.buffer[0]


@hazard("view of a dict", "step", refused="it is a dict_values")
class DictView:
    def __init__(self):
        self.d = {"a": 1}
        self.view = self.d.values()

    def step(self):
        self.d["a"] += 1
        return sum(self.view)


@hazard("masked NumPy array", ("step", X), refused="it is a MaskedArray of float64")
class Masked:
    def __init__(self):
        self.a = np.ma.zeros(2)

    def step(self, x):
        self.a[0] = 1.0
        return x


@hazard("object with __del__", "step", refused="defines __del__")
class Deleted:
    class Inner:
        def __init__(self):
            self.n = 0

        def __del__(self):
            self.n -= 1

    def __init__(self):
        self.inner = self.Inner()

    def step(self):
        self.inner.n += 1
        return self.inner.n


@hazard("text made from a traced number", ("step", X), refused="made from a traced number")
class Labelled:
    def __init__(self):
        self.n, self.log = 0, {}

    def step(self, x):
        self.n += 1
        self.log[f"step {self.n}"] = x
        return x


@hazard("shape from a traced number", "step", refused="Python value of n")
class Reshaped:
    def __init__(self):
        self.n = 1

    def step(self):
        self.n += 1
        return jnp.ones(self.n).sum()


@hazard("slice up to a traced number", "step", refused="Python value of n")
class Sliced:
    def __init__(self):
        self.n, self.x = 1, jnp.arange(4.0)

    def step(self):
        self.n += 1
        return self.x[: self.n].sum()


@hazard("dict looked up by a traced number", "step", refused="Python value of n")
class LookedUp:
    def __init__(self):
        self.n, self.table = 0, {0: 1.0, 1: 2.0, 2: 3.0}

    def step(self):
        self.n += 1
        return self.table[self.n]


@hazard("global generator of random", ("step", X), refused="drew from random at hazards.py:")
class GlobalRandom:
    def step(self, x):
        return x * random.random()


@hazard("global generator of NumPy", ("step", X), refused="drew from np.random at hazards.py:")
class GlobalNumpyRandom:
    def step(self, x):
        return x * np.random.uniform()


@hazard("sentinel written", "step", refused="wrote mark.n (absent -> 1) at hazards.py:")
class WritesSentinel:
    def __init__(self):
        self.mark = UNSET

    def step(self):
        self.mark.n = getattr(self.mark, "n", 0) + 1
        return self.mark.n


TOTAL = 0
SEEN: list[Any] = []


@hazard("global number", "step", refused="the global TOTAL (0 -> 1) at hazards.py:")
class WritesGlobal:
    def step(self):
        global TOTAL
        TOTAL += 1
        return TOTAL


@hazard("global list", ("step", X), refused="wrote SEEN ([] -> [a traced float32[]])")
class WritesGlobalList:
    def step(self, x):
        SEEN.append(x)
        return x


@hazard("class attribute", "step", refused="wrote WritesClass.total (0 -> 1)")
class WritesClass:
    total = 0

    def step(self):
        type(self).total += 1
        return self.total


@hazard("class attribute that is new", ("step", X), refused="wrote NewOnClass.last (absent -> ")
class NewOnClass:
    def step(self, x):
        type(self).last = x
        return x


TABLES: dict[Any, Any] = {}
CALLS: dict[str, int] = {}


@hazard("memo in a global dict", ("step", X), ("step", X))
class Memo:
    def __init__(self):
        self.n = 0

    def step(self, x):
        if "table" not in TABLES:
            TABLES["table"] = np.arange(3.0)
        self.n += 1
        return (TABLES["table"] * x).sum() * self.n


@hazard("count in a global dict", ("step", X), refused="wrote CALLS['step'] (absent -> 1)")
class CountsGlobally:
    def step(self, x):
        CALLS["step"] = CALLS.get("step", 0) + 1
        return x


HISTORY: dict[str, str] = {}
SQUARES: dict[int, float] = {}


@hazard("text in a global dict", ("step", X), refused="wrote HISTORY['last'] (absent -> 'x')")
class WritesText:
    def step(self, x):
        HISTORY["last"] = "x"
        return x


@hazard("array put anew into a global dict", ("step", X), refused="wrote HISTORY['rows'] (absent -> [0 1])")
class WritesRows:
    def step(self, x):
        HISTORY["rows"] = np.arange(2)
        return x


@hazard(
    "global dict that gains a key in every call",
    ("step", X),
    refused="wrote HISTORY['call 0'] (absent",
)
class Logs:
    def step(self, x):
        HISTORY[f"call {len(HISTORY)}"] = "made"
        return x


@hazard("text that is new on the class", ("step", X), refused="wrote NewText.mode (absent -> 'b')")
class NewText:
    def step(self, x):
        type(self).mode = "b"
        return x


@hazard("text of the class", ("step", X), refused="wrote OldText.mode ('a' -> 'b')")
class OldText:
    mode = "a"

    def step(self, x):
        type(self).mode = "b"
        return x


@hazard("memo of a number in a global dict", ("step", X), ("step", X))
class MemoNumber:
    def __init__(self):
        self.n = 0

    def step(self, x):
        self.n += 1
        if 3 not in SQUARES:
            SQUARES[3] = 9.0
        return x * SQUARES[3] * self.n


@hazard("memo on the class", ("step", X), ("step", X))
class MemoOnClass:
    def __init__(self):
        self.n = 0

    def step(self, x):
        self.n += 1
        if not hasattr(type(self), "table"):
            type(self).table = np.arange(3.0)
        return (x * self.table).sum() * self.n


BIG = np.zeros(2**23 + 2**18)  # 68 MiB


@hazard("large global array", ("step", X), refused="wrote into BIG (69 MB) at hazards.py:")
class WritesLarge:
    def step(self, x):
        BIG[5] += 1
        return x


@hazard("global array", ("step", X), refused="wrote SMALL (float64[1048576] -> float64[1048576])")
class WritesSmall:
    def step(self, x):
        SMALL[5] += 1
        return x


SMALL = np.zeros(2**20)


@hazard("list shared by the class", ("step", X), refused="wrote SharedByClass.items ([] -> [a traced ")
class SharedByClass:
    items: typing.ClassVar[list] = []

    def step(self, x):
        self.items.append(x)
        return x


@hazard("mutable default argument", ("step", X), refused="wrote step.__defaults__[0] ([] -> ")
class Default:
    def step(self, x, seen=()):
        seen.append(x)
        return x

    step.__defaults__ = ([],)


def _closing_class():
    total = 0

    class Closing:
        def step(self):
            nonlocal total
            total += 1
            return total

    return Closing()


hazard("closure of the class", "step", refused="wrote the nonlocal total (0 -> 1)")(_closing_class)


@hazard("lru_cache over self", "step", refused="filled the cache of CachedBySelf.table")
class CachedBySelf:
    def __init__(self):
        self.n = 2

    @functools.lru_cache  # noqa: B019
    def table(self):
        return self.n * 3

    def step(self):
        self.n += 1
        return self.table()


@hazard("method returns self", "step", refused="returned a ReturnsSelf")
class ReturnsSelf:
    def __init__(self):
        self.n = 0

    def step(self):
        self.n += 1
        return self


@hazard("tracer of an inner jit left behind", ("step", X), refused="unexpected tracer")
class Leaking:
    def __init__(self):
        self.last = 0.0

    def step(self, x):
        @jax.jit
        def inner(x):
            self.last = x * 2
            return x

        return inner(x)
