"""Writes to arguments, of which jit passes a copy."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from tests.purity.impure_code.attributes import Counter
from tests.purity.impure_code.row import ANY, Table, X

HAZARDS = Table()
hazard = HAZARDS.add


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
