"""Attributes of objects."""

import dataclasses
import functools

import jax

from tests.purity.impure_code.row import Table, X, on

HAZARDS = Table()
hazard = HAZARDS.add


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
