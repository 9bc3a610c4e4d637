"""JAX arrays and PRNG keys."""

import jax
import jax.numpy as jnp

from tests.functional.hazards.row import Table, V, X

HAZARDS = Table()
hazard = HAZARDS.add


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
