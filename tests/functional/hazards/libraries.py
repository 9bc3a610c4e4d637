"""Objects of Flax, Optax and Equinox."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from flax import nnx

from tests.functional.hazards.row import Table, V, X

HAZARDS = Table()
hazard = HAZARDS.add


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
