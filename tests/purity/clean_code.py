"""Clean code: functions that mean the same under jit. None of them may give an error finding."""

import dataclasses
import functools
import logging
from typing import Any

import chex
import einops
import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import fourbeat
from fourbeat.models import split
from tests.kinds import KINDS

X = np.ones((4, 3), np.float32)
CLEAN: dict[str, Any] = {}  # name: () -> (function, arguments)


def clean(name):
    def add(make):
        CLEAN[name] = make
        return make

    return add


# Plain JAX ------------------------------------------------------------------------------------------


@clean("plain function")
def plain():
    return (lambda x: jnp.tanh(x).sum()), (X,)


@clean("jax.random with a key")
def with_key():
    def sample(key, x):
        key, other = jax.random.split(key)
        return x + jax.random.normal(other, x.shape), key

    return sample, (jax.random.key(0), X)


@clean("scan body")
def scanned():
    def cumulative(x):
        def body(carry, row):
            carry = carry + row
            return carry, carry.sum()

        return jax.lax.scan(body, jnp.zeros(3), x)

    return cumulative, (X,)


@clean("while loop and cond")
def loops():
    def run(x):
        x = jax.lax.while_loop(lambda v: v.sum() < 100, lambda v: v * 2, x)
        return jax.lax.cond(x.sum() > 3, lambda: x, lambda: -x)

    return run, (X,)


@clean("custom_vjp")
def custom_vjp():
    @jax.custom_vjp
    def clipped(x):
        return x

    clipped.defvjp(lambda x: (x, None), lambda _, g: (jnp.clip(g, -1, 1),))
    return jax.grad(lambda x: (clipped(x) ** 2).sum()), (X,)


@clean("custom_jvp")
def custom_jvp():
    @jax.custom_jvp
    def soft(x):
        return jnp.log1p(jnp.exp(x))

    soft.defjvp(lambda primals, tangents: (soft(*primals), jax.nn.sigmoid(*primals) * tangents[0]))
    return jax.value_and_grad(lambda x: soft(x).sum()), (X,)


@clean("remat")
def remat():
    layer = jax.checkpoint(lambda w, x: jnp.tanh(x @ w))
    return jax.grad(lambda w: layer(w, layer(w, X)).sum()), (jnp.eye(3),)


@clean("vmap of grad of an inner jit")
def transforms():
    @jax.jit
    def loss(w, x):
        return (w * x).sum() ** 2

    return jax.vmap(jax.grad(loss), (None, 0)), (jnp.ones(3), X)


@clean("lru_cache of NumPy values")
def cached_table():
    @functools.cache
    def table(n):
        return np.arange(n, dtype=np.float32)

    return (lambda x: x * table(3)), (X,)


_TABLES: dict = {}
_TABLE = None


def _fill_table():
    global _TABLE
    _TABLE = np.ones(3, np.float32)


class Memo:
    def __init__(self):
        self.tables = {}
        self.table, self.is_ready, self.names = None, False, []

    @functools.cached_property
    def scale(self):
        return 2.5

    def by_key(self, x):
        if x.shape not in self.tables:
            self.tables[x.shape] = np.ones(x.shape, np.float32)
        return x * self.tables[x.shape]

    def lazily(self, x):
        if self.table is None:
            self.table = np.arange(3.0)
        return x * self.table * self.scale

    def once(self, x):
        if not self.is_ready:
            self.is_ready, self.names = True, ["x"]
        if "y" not in self.names:
            self.names.append("y")
        _TABLES.setdefault(x.shape[-1], np.arange(x.shape[-1]) % 2)
        if _TABLE is None:
            _fill_table()
        return x * len(self.names) * _TABLES[x.shape[-1]]

    def restored(self, x):
        tables, self.tables = self.tables, {}
        try:
            return 2 * x
        finally:
            self.tables = tables


@clean("memo keyed by shape")
def memo():
    return Memo().by_key, (X,)


@clean("lazily filled attribute and cached_property")
def lazily():
    return Memo().lazily, (X,)


@clean("flags, names and global tables that are filled once")
def filled_once():
    return Memo().once, (X,)


@clean("attribute set and put back")
def restored():
    return Memo().restored, (X,)


@clean("local containers, generators and iterators")
def local_state():
    def run(x):
        seen, counts, rows = [], {}, (row for row in x)
        for i, row in enumerate(rows):
            seen.append(row)
            counts[i] = counts.get(i, 0) + 1
        random = np.random.default_rng(0)
        return sum(seen) * sum(counts.values()) + random.normal()

    return run, (X,)


@dataclasses.dataclass
class Seeded:
    seed: int = 3


@clean("generators made from a seed")
def seeded_generators():
    seeds = Seeded()

    def run(x, seed=1):
        old = np.random.RandomState(0), np.random.RandomState(seed=seed), np.random.RandomState(seeds.seed)
        return x + sum(random.normal() for random in (*old, np.random.default_rng(seed)))

    return run, (X,)


@clean("keyword arguments popped")
def popped():
    def run(x, **options):
        return x * options.pop("scale", 1.0)

    return functools.partial(run, scale=3.0), (X,)


@clean("argument changed and returned")
def returned():
    def run(batch):
        batch["x"] = batch["x"] * 2
        batch["extra"] = jnp.ones(3)
        return batch

    return run, ({"x": X},)


@clean("Python number that must stay one")
def needs_number():
    return (lambda x, n: sum(x * i for i in range(n))), (X, 3)


@clean("static argument of a jitted method")
def static_self():
    class Model:
        def __init__(self):
            self.scale = 2.0

        @functools.partial(jax.jit, static_argnums=0)
        def apply(self, x):
            return self.scale * x

    return Model().apply, (X,)


@clean("dataclass pytree")
def dataclass_pytree():
    @jax.tree_util.register_dataclass
    @dataclasses.dataclass(frozen=True)
    class State:
        w: Any
        step: Any

    def update(state, x):
        return dataclasses.replace(state, w=state.w + x.sum(), step=state.step + 1)

    return update, (State(jnp.ones(3), jnp.array(0)), X)


@clean("jax.debug.print and callbacks")
def debug_print():
    def run(x):
        jax.debug.print("{x}", x=x.sum())
        return jax.pure_callback(lambda v: v, jax.ShapeDtypeStruct((4, 3), jnp.float32), x)

    return run, (X,)


@clean("logging and warnings")
def logged():
    logger = logging.Logger("quiet")
    logger.addHandler(logging.NullHandler())

    def run(x):
        logger.warning("traced %s", x.shape)
        return 2 * x

    return run, (X,)


@clean("seeded generator held and never asked")
def held_generator():
    class Holder:
        def __init__(self):
            self.random, self.rows = np.random.default_rng(0), iter([1, 2])

        def apply(self, x):
            return 2 * x

    return Holder().apply, (X,)


# Optax ----------------------------------------------------------------------------------------------

OPTIMIZERS = {
    "adamw": lambda: optax.adamw(1e-3),
    "clip and schedule": lambda: optax.chain(
        optax.clip_by_global_norm(1.0), optax.sgd(optax.cosine_decay_schedule(0.1, 10), momentum=0.9)
    ),
    "inject_hyperparams": lambda: optax.inject_hyperparams(optax.adam)(learning_rate=1e-3),
    "MultiSteps": lambda: optax.MultiSteps(optax.sgd(0.1), 2),
}


def _optax_step(make):
    tx = make()

    def step(params, opt_state, x):
        grads = jax.grad(lambda p: ((x @ p["w"]) ** 2).mean())(params)
        updates, opt_state = tx.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    params = {"w": jnp.ones((3, 2))}
    return step, (params, tx.init(params), X)


for _name, _make in OPTIMIZERS.items():
    CLEAN[f"optax {_name}"] = functools.partial(_optax_step, _make)


@clean("optax update itself")
def optax_update():
    tx, params = optax.adam(1e-3), {"w": jnp.ones(3)}
    return tx.update, (params, tx.init(params), params)


# Flax -----------------------------------------------------------------------------------------------


class LinenModel(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool = True):
        x = nn.BatchNorm(use_running_average=not train)(nn.Dense(4)(x))
        return nn.Dropout(0.5, deterministic=not train)(x)


@clean("flax.linen apply with BatchNorm and Dropout")
def linen():
    model = LinenModel()
    variables = model.init(jax.random.key(0), X, train=False)

    def step(variables, key, x):
        out, changed = model.apply(variables, x, rngs={"dropout": key}, mutable=["batch_stats"])
        return out.mean(), {**variables, **changed}

    return step, (variables, jax.random.key(1), X)


@clean("flax.linen bound apply")
def linen_apply():
    model = LinenModel()
    return functools.partial(model.apply, train=False), (model.init(jax.random.key(0), X, train=False), X)


class NnxModel(nnx.Module):
    def __init__(self, rngs):
        self.linear, self.norm = nnx.Linear(3, 4, rngs=rngs), nnx.BatchNorm(4, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.drop(self.norm(self.linear(x)))


@clean("nnx functional: merge, call, split")
def nnx_functional():
    graph, state = nnx.split(NnxModel(nnx.Rngs(0)))

    def step(state, x):
        model = nnx.merge(graph, state)
        loss = model(x).mean()
        return loss, nnx.state(model)

    return step, (state, X)


@clean("nnx functional gradient")
def nnx_gradient():
    graph, params, rest = nnx.split(NnxModel(nnx.Rngs(0)), nnx.Param, ...)

    def loss(params, rest, x):
        model = nnx.merge(graph, params, rest, copy=True)
        return model(x).mean(), nnx.split(model, nnx.Param, ...)[2]

    return jax.value_and_grad(loss, has_aux=True), (params, rest, X)


@clean("nnx module returned")
def nnx_returned():
    def step(model, x):
        return model(x).mean(), model

    return step, (NnxModel(nnx.Rngs(0)), X)


@clean("nnx.jit train step")
def nnx_jitted():
    model = NnxModel(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.adam(1e-3), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer, x):
        loss, grads = nnx.value_and_grad(lambda m: m(x).mean())(model)
        optimizer.update(model, grads)
        return loss

    return step, (model, optimizer, X)


@clean("nnx.jit inside")
def nnx_jit_inside():
    model = NnxModel(nnx.Rngs(0))
    step = nnx.jit(lambda model, x: model(x).mean())

    @nnx.jit
    def run(model, x):
        return step(model, x) + step(model, 2 * x)

    return run, (model, X)


@clean("jit inside whose writes to its arguments are returned")
def jit_inside_returns():
    @jax.jit
    def halve(model, batch):
        batch["x"] = batch["x"] / 2
        return model(batch["x"]).mean(), nnx.state(model), batch

    @jax.jit
    def folded(batch):
        seen = {}
        for name, rows in batch.items():
            seen[name] = rows.sum()
        return seen

    def run(model, x):
        loss, state, batch = halve(model, {"x": x})
        return loss, state, folded(batch)

    return run, (NnxModel(nnx.Rngs(0)), X)


@clean("captured nnx module that writes nothing")
def nnx_captured():
    return nnx.Linear(3, 4, rngs=nnx.Rngs(0)), (X,)


# Equinox --------------------------------------------------------------------------------------------


class EquinoxModel(eqx.Module):
    mlp: eqx.nn.MLP
    scale: float = eqx.field(static=True)

    def __init__(self, key):
        self.mlp, self.scale = eqx.nn.MLP(3, 2, 4, 1, key=key), 2.0

    def loss(self, x):
        return self.scale * jax.vmap(self.mlp)(x).mean()

    @eqx.filter_jit
    def jitted(self, x):
        return self.loss(x)


@clean("Equinox bound method")
def equinox_method():
    return EquinoxModel(jax.random.key(0)).loss, (X,)


@clean("Equinox filter_jit method")
def equinox_jitted():
    return EquinoxModel(jax.random.key(0)).jitted, (X,)


@clean("Equinox module as argument")
def equinox_argument():
    @eqx.filter_jit
    def step(model, x):
        grads = eqx.filter_grad(lambda m: m.loss(x))(model)
        return eqx.apply_updates(model, jax.tree.map(lambda g: -0.1 * g, grads))

    return step, (EquinoxModel(jax.random.key(0)), X)


@clean("Equinox BatchNorm with explicit state")
def equinox_state():
    norm, state = eqx.nn.make_with_state(eqx.nn.BatchNorm)(3, "batch", mode="batch")

    def apply(state, x):
        return jax.vmap(norm, axis_name="batch", in_axes=(0, None), out_axes=(0, None))(x, state)

    return apply, (state, X)


# fourbeat -------------------------------------------------------------------------------------------


def _beats(kind):
    def loss_fn(model, batch):
        losses, logits = KINDS[kind].items(model, batch)
        return losses, {"logits": logits, "labels": batch["label"]}

    metrics = fourbeat.metrics.Collection(
        loss=fourbeat.metrics.Mean("loss"), accuracy=fourbeat.metrics.Accuracy()
    )
    beats = fourbeat.four_beats(loss_fn, optax.adamw(1e-3), metrics=metrics)
    return beats, beats.init(KINDS[kind].make(0), key=0), KINDS[kind].batch(0, 4)


@clean("fourbeat train step of a CNN")
def train_step():
    beats, state, batch = _beats("cnn")
    return beats.train_step, (state, batch)


@clean("fourbeat compiled step of a dict")
def compiled_step():
    beats, state, batch = _beats("dict")
    return fourbeat.compile(beats.train_step), (state, batch)


@clean("fourbeat gradient, eval step")
def eval_step():
    beats, state, batch = _beats("dict")
    return beats.eval_step, (state, batch, state.metrics)


@clean("split and merge inside")
def split_merge():
    model = NnxModel(nnx.Rngs(0))

    def run(x):
        static, params, rest = split(model)
        return static.merge(params, rest)(x)

    return run, (X,)


# Libraries beside JAX -------------------------------------------------------------------------------


@clean("einops")
def rearranged():
    return (lambda x: einops.rearrange(x, "a b -> (b a)")), (X,)


@clean("chex")
def asserted():
    def run(x):
        chex.assert_shape(x, (4, 3))
        chex.assert_rank(x, 2)
        return 2 * x

    return run, (X,)
