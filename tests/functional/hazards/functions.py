"""Functions that an object holds: closures, methods, partials, compiled ones."""

import functools

import jax
import jax.numpy as jnp
from flax import nnx

from tests.functional.hazards.numbers import Counter
from tests.functional.hazards.row import Table, X

HAZARDS = Table()
hazard = HAZARDS.add


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
