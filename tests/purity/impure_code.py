"""The hazard table: functions whose meaning changes under jit.

A row gives `(function, arguments, look)`, built anew each time: `look()` reads what the function leaves
behind. `expected` lists `(kind, path, before, after)`. The line that does it ends in `# here`.
"""

import collections
import dataclasses
import datetime
import functools
import itertools
import os
import random
import secrets
import time
import types
from collections.abc import Callable
from typing import Any

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

ANY: Any = object()
X = np.ones(3, np.float32)


@dataclasses.dataclass(frozen=True)
class Hazard:
    name: str
    make: Callable[[], tuple[Any, tuple[Any, ...], Callable[[], Any]]]
    expected: tuple[tuple[Any, ...], ...]
    has_line: bool


HAZARDS: list[Hazard] = []


def hazard(name, *expected, has_line=True):
    def add(make):
        HAZARDS.append(Hazard(name, make, expected, has_line))
        return make

    return add


def on(cls, method, *args):
    """A bound method of a fresh object, looked at by its attributes."""
    made = cls()
    return getattr(made, method), args, lambda: dict(vars(made))


# Attributes -----------------------------------------------------------------------------------------


class Counter:
    def __init__(self):
        self.n = 0

    def count(self):
        self.n += 1  # here
        return self.n


@hazard("counter", ("WRITE", "self.n", 0, 1))
def counter():
    return on(Counter, "count")


@hazard("counter under jax.jit already", ("WRITE", "self.n", 0, 1))
def jitted_counter():
    made = Counter()
    return jax.jit(made.count), (), lambda: made.n


@hazard("an object captured by a lambda", ("WRITE", "made.n", 0, 1))
def captured_object():
    made = Counter()
    return (lambda x: x * made.count()), (X,), lambda: made.n


@hazard("static self, as in partial(jax.jit, static_argnums=0)", ("WRITE", "self.calls", 0, 1))
def static_self():
    class Model:
        def __init__(self):
            self.calls = 0

        @functools.partial(jax.jit, static_argnums=0)
        def apply(self, x):
            self.calls += 1  # here
            return 2 * x

    made = Model()
    return made.apply, (X,), lambda: made.calls


@hazard("__slots__", ("WRITE", "self.n", 0, 1))
def slotted():
    class Slotted:
        __slots__ = ("n",)

        def __init__(self):
            self.n = 0

        def count(self):
            self.n += 1  # here
            return self.n

    made = Slotted()
    return made.count, (), lambda: made.n


@hazard("property setter of a base class", ("WRITE", "self._total", 0.0, 2.0))
def property_setter():
    class Base:
        def __init__(self):
            self._total = 0.0

        @property
        def total(self):
            return self._total

        @total.setter
        def total(self, value):
            self._total = value  # here

    class Sum(Base):
        def add(self, x):
            self.total = self.total + 2.0
            return x + self.total

    return on(Sum, "add", X)


@hazard("nested objects", ("WRITE", "self.inner.n", 0, 1))
def nested():
    class Outer:
        def __init__(self):
            self.inner = Counter()

        def run(self, x):
            return x + self.inner.count()

    made = Outer()
    return made.run, (X,), lambda: made.inner.n


@hazard("frozen dataclass written around its guard", ("WRITE", "self.n", 0, 1))
def frozen():
    @dataclasses.dataclass(frozen=True)
    class Frozen:
        n: int = 0

        def count(self):
            object.__setattr__(self, "n", self.n + 1)  # here
            return self.n

    return on(Frozen, "count")


@hazard("attribute deleted and made again", ("WRITE", "self.turn", "a", "absent"))
def deleted():
    class Toggle:
        def __init__(self):
            self.turn = "a"

        def flip(self, x):
            if hasattr(self, "turn"):
                del self.turn  # here
                return x
            self.turn = "a"
            return -x

    return on(Toggle, "flip", X)


@hazard("callable object", ("WRITE", "self.n", 0, 1))
def callable_object():
    class Callable_:
        def __init__(self):
            self.n = 0

        def __call__(self, x):
            self.n += 1  # here
            return x * self.n

    made = Callable_()
    return made, (X,), lambda: made.n


@hazard("two attributes", ("WRITE", "self.n", 0, 1), ("WRITE", "self.m", 0, 2))
def two_attributes():
    class Two:
        def __init__(self):
            self.n, self.m = 0, 0

        def count(self):
            self.n, self.m = self.n + 1, self.m + 2  # here
            return self.n + self.m

    return on(Two, "count")


@hazard("partial over an object", ("WRITE", "model.n", 0, 1))
def partial_object():
    made = Counter()

    def run(model, x):
        model.n += 1  # here
        return x * model.n

    return functools.partial(run, made), (X,), lambda: made.n


# Containers -----------------------------------------------------------------------------------------


class Containers:
    def __init__(self):
        self.items, self.counts, self.last = [], {"a": 0}, collections.deque([1, 2], maxlen=2)
        self.seen, self.array, self.rows = {0}, np.zeros(3), [0, 0]

    def append(self, x):
        self.items.append("x")  # here
        return x * len(self.items)

    def key(self, x):
        self.counts["a"] += 1  # here
        return x * self.counts["a"]

    def new_keys(self, x):
        self.counts[str(len(self.counts))] = 1  # here
        return x * len(self.counts)

    def rotate(self, x):
        self.last.append(self.last[0] + 2)  # here
        return x * self.last[0]

    def add(self, x):
        self.seen.add(len(self.seen))  # here
        return x * len(self.seen)

    def item(self, x):
        self.rows[1] += 1  # here
        return x * self.rows[1]

    def contents(self, x):
        self.array[1] += 1  # here
        return x * float(self.array.sum())

    def view(self, x):
        part = self.array[1:]
        np.add(part, 1, out=part)  # here
        return x * float(self.array.sum())


@hazard("list append", ("WRITE", "self.items", "[]", "['x']"))
def appended():
    return on(Containers, "append", X)


@hazard("list item", ("WRITE", "self.rows[1]", 0, 1))
def list_item():
    return on(Containers, "item", X)


@hazard("dict value", ("WRITE", "self.counts['a']", 0, 1))
def dict_value():
    return on(Containers, "key", X)


@hazard("dict that grows in every trace", ("WRITE", "self.counts['1']", "absent", 1))
def dict_growth():
    return on(Containers, "new_keys", X)


@hazard("deque", ("WRITE", "self.last[0]", 1, 2), ("WRITE", "self.last[1]", 2, 3))
def deque():
    return on(Containers, "rotate", X)


@hazard("set", ("WRITE", "self.seen", "[0]", "[0, 1]"))
def set_add():
    return on(Containers, "add", X)


@hazard("NumPy contents", ("WRITE", "self.array", "[0. 0. 0.]", "[0. 1. 0.]"))
def numpy_contents():
    return on(Containers, "contents", X)


@hazard("NumPy view with out=", ("WRITE", "self.array", "[0. 0. 0.]", "[0. 1. 1.]"))
def numpy_view():
    return on(Containers, "view", X)


@hazard("bytearray", ("WRITE", "self.bytes", ANY, ANY))
def byte_array():
    class Bytes:
        def __init__(self):
            self.bytes = bytearray(b"\0")

        def count(self, x):
            self.bytes[0] += 1  # here
            return x * self.bytes[0]

    return on(Bytes, "count", X)


@hazard(
    "defaultdict and SimpleNamespace", ("WRITE", "self.names.n", 0, 1), ("WRITE", "self.tally['x']", 5, 6)
)
def stdlib_containers():
    class Both:
        def __init__(self):
            self.names, self.tally = types.SimpleNamespace(n=0), collections.Counter(x=5)

        def count(self, x):
            self.names.n, self.tally["x"] = self.names.n + 1, self.tally["x"] + 1  # here
            return x * (self.names.n + self.tally["x"])

    made = Both()
    return made.count, (X,), lambda: (made.names.n, made.tally["x"])


# Globals, nonlocals, classes, modules ---------------------------------------------------------------

TOTAL = 0
TABLE = {"n": 0}
SETTINGS = types.ModuleType("tests_purity_settings")
SETTINGS.__file__ = os.path.join(os.path.dirname(__file__), "settings.py")
SETTINGS.__name__ = __name__.rpartition(".")[0] + ".settings"
SETTINGS.flag = 0  # pyright: ignore


@hazard("global", ("WRITE", "TOTAL", ANY, ANY))
def global_name():
    def run(x):
        global TOTAL
        TOTAL += 1  # here
        return x * TOTAL

    return run, (X,), lambda: TOTAL


@hazard("global in a called function", ("WRITE", "TABLE['n']", ANY, ANY))
def global_dict():
    return _calls_bump, (X,), lambda: TABLE["n"]


def _calls_bump(x):
    return x * _bump()


def _bump():
    TABLE["n"] += 1  # here
    return TABLE["n"]


HISTORY: dict = {}


class Config:
    mode, limits = "a", np.zeros(2)


@hazard("text in a global dict", ("WRITE", "HISTORY['last']", "absent", "x"))
def global_text():
    HISTORY.clear()
    return _writes_text, (X,), lambda: HISTORY.pop("last", None)


def _writes_text(x):
    HISTORY["last"] = "x"  # here
    return x


@hazard("rows put anew into a global dict", ("WRITE", "HISTORY['rows']", "absent", "[0 1]"))
def global_rows():
    HISTORY.clear()
    return _writes_rows, (X,), lambda: HISTORY.pop("rows", None)


def _writes_rows(x):
    HISTORY["rows"] = np.arange(2)  # here
    return x


@hazard("text of a class", ("WRITE", "Config.mode", "a", "b"))
def class_text():
    def look():
        seen, Config.mode = Config.mode, "a"
        return seen

    Config.mode = "a"
    return _writes_mode, (X,), look


def _writes_mode(x):
    Config.mode = "b"  # here
    return x


@hazard("array of a class", ("WRITE", "Config.limits", "[0. 0.]", "[0. 3.]"))
def class_array():
    def look():
        seen = Config.limits.tolist()
        Config.limits[:] = 0
        return seen

    Config.limits[:] = 0
    return _writes_limits, (X,), look


def _writes_limits(x):
    Config.limits[1] = 3  # here
    return x


@hazard("flag of an object", ("WRITE", "self.seen", False, True), ("WRITE", "self.shape", None, "(3,)"))
def flag():
    class Seen:
        def __init__(self):
            self.seen, self.shape = False, None

        def run(self, x):
            self.seen, self.shape = True, x.shape  # here
            return x

    made = Seen()

    def look():
        seen, made.seen, made.shape = (made.seen, made.shape), False, None
        return seen

    return made.run, (X,), look


@hazard("list emptied and filled", ("WRITE", "rows", "[]", "['x']"))
def list_refilled():
    rows: list = []

    def run(x):
        rows.clear()
        rows.append("x")  # here
        return x

    def look():
        seen = list(rows)
        rows.clear()
        return seen

    return run, (X,), look


@hazard("environment variable set", ("WRITE", "os.environ['FOURBEAT_TEST']", "absent", "on"))
def environment_set():
    os.environ.pop("FOURBEAT_TEST", None)

    def run(x):
        os.environ["FOURBEAT_TEST"] = "on"  # here
        return x

    return run, (X,), lambda: os.environ.pop("FOURBEAT_TEST", None)


@hazard("module attribute", ("WRITE", "SETTINGS.flag", ANY, ANY))
def module_attribute():
    def run(x):
        SETTINGS.flag += 1  # here
        return x * SETTINGS.flag

    return run, (X,), lambda: SETTINGS.flag


@hazard("nonlocal", ("WRITE", "n", 0, 1))
def nonlocal_name():
    n = 0

    def run(x):
        nonlocal n
        n += 1  # here
        return x * n

    return run, (X,), lambda: n


@hazard("class attribute", ("WRITE", "Shared.total", 0, 1))
def class_attribute():
    class Shared:
        total = 0

        def count(self, x):
            type(self).total += 1  # here
            return x * self.total

    return Shared().count, (X,), lambda: Shared.total


@hazard("classmethod", ("WRITE", "Registry.names", "[]", "['x']"))
def class_method():
    class Registry:
        names: list = []  # noqa: RUF012

        @classmethod
        def register(cls, x):
            cls.names.append("x")  # here
            return x * len(cls.names)

    return Registry.register, (X,), lambda: list(Registry.names)


@hazard("function attribute", ("WRITE", "run.calls", 0, 1))
def function_attribute():
    def run(x):
        run.calls += 1  # here
        return x * run.calls

    run.calls = 0
    return run, (X,), lambda: run.calls


@hazard("mutable default", ("WRITE", ANY, "[]", "[1]"))
def mutable_default():
    def run(x, seen=[]):  # noqa: B006
        seen.append(1)  # here
        return x * len(seen)

    return run, (X,), lambda: len(run.__defaults__[0])


@hazard("inside a scan body", ("WRITE", "traces", "[]", "['body']"))
def in_scan():
    traces: list = []

    def run(x):
        def body(carry, row):
            traces.append("body")  # here
            return carry + row, row

        return jax.lax.scan(body, 0.0, x)[0]

    return run, (X,), lambda: len(traces)


@hazard("inside a custom_vjp rule", ("WRITE", "rules['forward']", 0, 1))
def in_custom_vjp():
    rules = {"forward": 0}

    @jax.custom_vjp
    def same(x):
        return x

    def forward(x):
        rules["forward"] += 1  # here
        return x, None

    same.defvjp(forward, lambda _, g: (g,))

    def run(x):
        out, pull = jax.vjp(same, x)
        return pull(out * rules["forward"])

    return run, (X,), lambda: rules["forward"]


@hazard(
    "environment variable written",
    ("WRITE", "os.environ['FOURBEAT_TEST']", "absent", "1"),
    ("WRITE", "n", 0, 1),
)
def environment_written():
    os.environ.pop("FOURBEAT_TEST", None)
    n = 0

    def run(x):
        nonlocal n
        n, os.environ["FOURBEAT_TEST"] = n + 1, str(n + 1)  # here
        return x

    return run, (X,), lambda: os.environ.pop("FOURBEAT_TEST", None)


# Iterators ------------------------------------------------------------------------------------------


@hazard("list iterator", ("WRITE", "self.rows", ANY, ANY))
def list_iterator():
    class Reader:
        def __init__(self):
            self.rows = iter([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0])

        def read(self, x):
            return x * next(self.rows)  # here

    made = Reader()
    return made.read, (X,), lambda: None


@hazard("generator", ("WRITE", "rows", ANY, ANY))
def generator():
    rows = (float(n) for n in range(9))
    return (lambda x: x * next(rows)), (X,), lambda: None  # here


@hazard("itertools.count", ("WRITE", "ids", ANY, ANY))
def count_iterator():
    ids = itertools.count(1)
    return (lambda x: x * next(ids)), (X,), lambda: None  # here


# Leaks ----------------------------------------------------------------------------------------------


@hazard("tracer in an attribute", ("LEAK", "self.last", None, "a traced float32[3]"))
def leaked_attribute():
    class Keeps:
        def __init__(self):
            self.last = None

        def run(self, x):
            self.last = 2 * x  # here
            return x

    made = Keeps()
    return made.run, (X,), lambda: np.asarray(made.last).tolist()


@hazard("tracer in a running mean", ("LEAK", "self.mean", 0.0, ANY))
def leaked_mean():
    class Mean:
        def __init__(self):
            self.mean = 0.0

        def push(self, x):
            self.mean = 0.9 * self.mean + x.mean()  # here
            return self.mean

    made = Mean()
    return made.push, (X,), lambda: float(made.mean)


@hazard("PRNG key split in place", ("LEAK", "self.key", "key<fry>[]", ANY))
def leaked_key():
    class Sampler:
        def __init__(self):
            self.key = jax.random.key(0)

        def draw(self, x):
            self.key, key = jax.random.split(self.key)  # here
            return x + jax.random.normal(key, x.shape)

    made = Sampler()
    return made.draw, (X,), lambda: jax.random.key_data(made.key).tolist()


@hazard("tracer in a list", ("LEAK", "losses", "[]", "[a traced float32[]]"))
def leaked_list():
    losses: list = []

    def run(x):
        losses.append(x.sum())  # here
        return x

    return run, (X,), lambda: [float(loss) for loss in losses]


@hazard("tracer of a constant in a memo", ("LEAK", "self.table", None, ANY))
def leaked_memo():
    class Memo:
        def __init__(self):
            self.table = None

        def run(self, x):
            if self.table is None:
                self.table = jnp.arange(3.0)  # here
            return x * self.table

    made = Memo()
    return made.run, (X,), lambda: float(made.table.sum())


@hazard("tracer in a cached_property", ("LEAK", "self.table", "absent", ANY))
def leaked_property():
    class Lazy:
        @functools.cached_property
        def table(self):
            return jnp.arange(3.0)

        def run(self, x):
            return x * self.table  # here

    made = Lazy()
    return made.run, (X,), lambda: float(made.table.sum())


@hazard("tracer in an lru_cache", ("LEAK", "the cache of table", 0, 1), has_line=False)
def leaked_cache():
    @functools.cache
    def table(n):
        return jnp.arange(float(n))

    return (lambda x: x * table(3)), (X,), lambda: float(table(3).sum())


@hazard("tracer of a scan body in a list", ("LEAK", "rows", "[]", ANY))
def leaked_scan():
    rows: list = []

    def run(x):
        def body(carry, row):
            rows.append(row)  # here
            return carry + row, row

        return jax.lax.scan(body, 0.0, x)[0]

    return run, (X,), lambda: [str(row) for row in rows]


@hazard("tracer in a global dict", ("LEAK", "STORE['x']", "absent", ANY))
def leaked_global():
    STORE.clear()
    return _stores, (X,), lambda: float(STORE["x"].sum())


STORE: dict = {}


def _stores(x):
    STORE["x"] = x  # here
    return x


@hazard("linen module that keeps an activation", ("LEAK", "KEPT", ANY, ANY))
def leaked_linen():
    KEPT.clear()
    model = KeepsActivation()
    return functools.partial(model.apply, model.init(jax.random.key(0), X)), (X,), lambda: float(KEPT[-1])


KEPT: list = []


class KeepsActivation(nn.Module):
    @nn.compact
    def __call__(self, x):
        KEPT.append(x.sum())  # here
        return nn.Dense(2)(x)


# Writes to arguments --------------------------------------------------------------------------------


class NnxModel(nnx.Module):
    def __init__(self, rngs):
        self.linear, self.norm = nnx.Linear(3, 4, rngs=rngs), nnx.BatchNorm(4, rngs=rngs)
        self.calls = 0

    def __call__(self, x):
        return self.norm(self.linear(x))  # here


@hazard(
    "NNX BatchNorm as an argument of plain jit",
    ("LOST WRITE", "model.norm.mean", ANY, "a traced float32[4]"),
    ("LOST WRITE", "model.norm.var", ANY, "a traced float32[4]"),
)
def nnx_argument():
    model = NnxModel(nnx.Rngs(0))
    return (
        (lambda model, x: model(x).mean()),
        (model, X[None] * np.arange(1, 3)[:, None]),
        lambda: model.norm.mean[...].tolist(),
    )


@hazard("NNX static attribute of an argument", ("LOST WRITE", "model.calls", 0, 1))
def nnx_static():
    model = NnxModel(nnx.Rngs(0))

    def run(model, x):
        model.calls += 1  # here
        return model.linear(x)

    return run, (model, X), lambda: model.calls


@hazard("NNX Rngs as an argument", ("LOST WRITE", "rngs.default.count", ANY, "a traced uint32[]"))
def nnx_rngs():
    rngs = nnx.Rngs(0)

    def run(rngs, x):
        return x + jax.random.normal(rngs(), x.shape)  # here

    return run, (rngs, X), lambda: int(rngs.default.count[...])


@hazard("NNX optimizer as an argument of plain jit", *[("LOST WRITE", ANY, ANY, ANY)] * 5, has_line=False)
def nnx_optimizer():
    model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.sgd(0.1, momentum=0.9), wrt=nnx.Param)

    def step(model, optimizer, x):
        loss, grads = nnx.value_and_grad(lambda m: (m(x) ** 2).mean())(model)
        optimizer.update(model, grads)
        return loss

    return step, (model, optimizer, X), lambda: int(optimizer.step[...])


@hazard("dict argument", ("LOST WRITE", "batch['x']", ANY, "a traced float32[3]"))
def dict_argument():
    batch = {"x": X}

    def normalize(batch):
        batch["x"] = batch["x"] / 2  # here
        return batch["x"].sum() > 0

    return normalize, (batch,), lambda: batch["x"].tolist()


@hazard("list argument", ("LOST WRITE", "history", ANY, ANY))
def list_argument():
    history = [1.0]

    def run(history, x):
        history.append(2.0)  # here
        return x

    return run, (history, X), lambda: list(history)


@hazard("plain object as an argument", ("WRITE", "counter.n", 0, 1))
def object_argument():
    made = Counter()

    def run(counter, x):
        counter.n += 1  # here
        return x * counter.n

    return functools.partial(run, made), (X,), lambda: made.n


@hazard("captured NNX module", ("WRITE", "self.norm.mean", None, None))
def nnx_captured():
    model = NnxModel(nnx.Rngs(0))
    return model, (np.ones((2, 3), np.float32),), lambda: model.norm.mean[...].tolist()


@hazard("captured NNX module with a plain counter", ("WRITE", "model.calls", None, None))
def nnx_captured_counter():
    model = NnxModel(nnx.Rngs(0))

    def run(x):
        model.calls += 1  # here
        return model.linear(x)

    return run, (X,), lambda: model.calls


@hazard("static list of an Equinox module", ("WRITE", "self.log", "[]", "['x']"))
def equinox_static():
    class Model(eqx.Module):
        w: jax.Array
        log: list = eqx.field(static=True)

        def run(self, x):
            self.log.append("x")  # here
            return self.w * x

    model = Model(jnp.ones(3), [])
    return model.run, (X,), lambda: list(model.log)


# Random numbers -------------------------------------------------------------------------------------


@hazard("np.random", ("RNG", "np.random", ANY, ANY))
def numpy_random():
    np.random.seed(0)
    return (lambda x: x + np.random.normal()), (X,), lambda: None  # here


@hazard("random", ("RNG", "random", ANY, ANY))
def python_random():
    random.seed(0)
    return (lambda x: x + random.random()), (X,), lambda: None  # here


class Draws:
    def __init__(self):
        self.numpy, self.python = np.random.default_rng(0), random.Random(0)

    def from_numpy(self, x):
        return x + self.numpy.normal()  # here

    def from_python(self, x):
        return x + self.python.gauss(0, 1)  # here


@hazard("np.random.Generator as an attribute", ("RNG", "self.numpy", ANY, ANY))
def generator_attribute():
    return Draws().from_numpy, (X,), lambda: None


@hazard("random.Random as an attribute", ("RNG", "self.python", ANY, ANY))
def random_attribute():
    return Draws().from_python, (X,), lambda: None


@hazard("np.random.default_rng without a seed", ("RNG", "os.urandom", ANY, ANY))
def unseeded():
    return (lambda x: x + np.random.default_rng().normal()), (X,), lambda: None  # here


@hazard("secrets", ("RNG", "os.urandom", ANY, ANY))
def from_secrets():
    return (lambda x: x + secrets.randbelow(10**6)), (X,), lambda: None  # here


# Clocks ---------------------------------------------------------------------------------------------


@hazard("time.time_ns", ("CLOCK", "time.time_ns", ANY, ANY))
def read_time():
    return (lambda x: x + time.time_ns() % 9973), (X,), lambda: None  # here


@hazard("perf_counter for a duration", ("CLOCK", "time.perf_counter", ANY, ANY))
def read_duration():
    return (lambda x: x + 1e6 * (time.perf_counter() % 1e-2)), (X,), lambda: None  # here


@hazard("datetime.now", ("CLOCK", "datetime.now", ANY, ANY))
def read_datetime():
    return (lambda x: x + datetime.datetime.now().microsecond), (X,), lambda: None  # here


@hazard("os.environ", ("CLOCK", "os.environ['FOURBEAT_SCALE']", ANY, ANY))
def read_environment():
    scale = itertools.count(1)

    def run(x):
        return x * float(os.environ["FOURBEAT_SCALE"])  # here

    def advance():
        os.environ["FOURBEAT_SCALE"] = str(next(scale))

    advance()
    return run, (X,), advance


@hazard("os.getenv", ("CLOCK", "os.environ['FOURBEAT_SCALE']", ANY, ANY))
def read_getenv():
    _, args, advance = read_environment()
    return (lambda x: x * float(os.getenv("FOURBEAT_SCALE", "1"))), args, advance  # here
