"""Tracers that outlive their trace."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from tests.purity.impure_code.row import ANY, Table, X

HAZARDS = Table()
hazard = HAZARDS.add


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
