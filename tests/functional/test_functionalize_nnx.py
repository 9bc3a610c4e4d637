"""An ordinary in-place NNX train step, unchanged, against `nnx.jit` of the same step."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from fourbeat.functional.functionalizing import functionalize
from fourbeat.functional.refusals import FunctionalizeError
from fourbeat.functional.stepping import as_step


class MLP(nnx.Module):
    """Linear layers in a list, two of which share their kernel; a Python counter beside them."""

    def __init__(self, rngs, depth=3):
        self.layers = nnx.List([nnx.Linear(4, 4, rngs=rngs) for _ in range(depth)])
        self.layers[2].kernel = self.layers[1].kernel
        self.norm, self.dropout = nnx.BatchNorm(4, rngs=rngs), nnx.Dropout(0.3, rngs=rngs)
        self.head = nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, x):
        for layer in self.layers:
            x = x + 0.1 * layer(x)
        return self.head(self.dropout(self.norm(nnx.relu(x))))


class Attention(nnx.Module):
    def __init__(self, rngs):
        self.attention = nnx.MultiHeadAttention(2, in_features=4, decode=False, rngs=rngs)
        self.norm, self.head = nnx.LayerNorm(4, rngs=rngs), nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, x):
        return self.head(self.norm(self.attention(x[:, None]))[:, 0])


def train_step(model, optimizer, metrics, x, y):
    def loss_fn(model):
        logits = model(x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), logits

    (loss, logits), grads = nnx.value_and_grad(loss_fn, has_aux=True)(model)
    optimizer.update(model, grads)
    metrics.update(loss=loss, logits=logits, labels=y)
    return loss


def objects(kind, tx):
    model = kind(nnx.Rngs(0, dropout=1))
    metrics = nnx.MultiMetric(loss=nnx.metrics.Average("loss"), accuracy=nnx.metrics.Accuracy())
    return model, nnx.Optimizer(model, tx, wrt=nnx.Param), metrics


RANDOM = np.random.RandomState(0)
X = jnp.asarray(RANDOM.standard_normal((5, 6, 4)), jnp.float32)
Y = jnp.asarray(RANDOM.randint(0, 3, (5, 6)), jnp.int32)
KINDS = {
    "mlp, adamw": (MLP, lambda: optax.adamw(1e-2)),
    "mlp, clip and schedule": (
        MLP,
        lambda: optax.chain(
            optax.clip_by_global_norm(0.5), optax.sgd(optax.cosine_decay_schedule(0.1, 9), 0.9)
        ),
    ),
    "attention, adam": (Attention, lambda: optax.adam(1e-2)),
}


def assert_bit_equal(got, expected):
    expected = jax.tree.leaves(nnx.to_pure_dict(nnx.state(expected)))
    for one, other in zip(jax.tree.leaves(nnx.to_pure_dict(nnx.state(got))), expected, strict=True):
        if jnp.issubdtype(one.dtype, jax.dtypes.prng_key):
            one, other = jax.random.key_data(one), jax.random.key_data(other)
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


@pytest.mark.parametrize("name", KINDS)
def test_bit_equal_to_nnx_jit(name):
    kind, tx = KINDS[name]
    theirs, ours = objects(kind, tx()), objects(kind, tx())
    their_step = nnx.jit(train_step)
    F = functionalize(train_step, *ours)
    state = F.init(X[0], Y[0])
    step = jax.jit(F, donate_argnums=0)
    for x, y in zip(X, Y, strict=True):
        expected = their_step(*theirs, x, y)
        loss, state = step(state, x, y)
        np.testing.assert_array_equal(loss, expected)
    assert step._cache_size() == 1
    kernel = ours[0].head.kernel
    F.commit(state)
    assert_bit_equal(nnx.state(ours), nnx.state(theirs))
    assert ours[0].head.kernel is kernel
    assert ours[2].compute()["loss"] == theirs[2].compute()["loss"]
    if kind is MLP:
        assert ours[0].layers[2].kernel is ours[0].layers[1].kernel
    their_step(*ours, X[0], Y[0])  # the live objects go on as NNX objects


def test_a_step_under_nnx_jit_and_objects_by_keyword():
    theirs, ours = objects(MLP, optax.sgd(0.1)), objects(MLP, optax.sgd(0.1))
    jitted = nnx.jit(train_step)
    F = functionalize(jitted, model=ours[0], optimizer=ours[1], metrics=ours[2])
    state = F.init(x=X[0], y=Y[0])
    assert "model.head.kernel" in state and "optimizer.step" in state
    loss, state = jax.jit(F)(state, x=X[0], y=Y[0])
    np.testing.assert_array_equal(loss, jitted(*theirs, X[0], Y[0]))


def test_two_models_built_the_same_way_are_one_program():
    def make():
        return functionalize(train_step, *objects(MLP, optax.adamw(1e-2)))

    one, other = make().init(X[0], Y[0]), make().init(X[0], Y[0])
    assert one.spec is other.spec
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_lists_longer_than_ten_keep_their_order():
    model = MLP(nnx.Rngs(0, dropout=1), depth=12)
    model.eval()
    F = functionalize(model)
    out, state = F(F.init(X[0]), X[0])
    np.testing.assert_allclose(out, model(X[0]), rtol=1e-5)
    assert F.init(X[0]).spec is state.spec


def test_a_scan_over_batches():
    theirs, ours = objects(MLP, optax.adamw(1e-2)), objects(MLP, optax.adamw(1e-2))
    F = functionalize(train_step, *ours)

    def step(state, batch):
        return as_step(F)(state, *batch)

    _, losses = jax.jit(lambda state: jax.lax.scan(step, state, (X, Y)))(F.init(X[0], Y[0]))
    jitted = nnx.jit(train_step)
    expected = [jitted(*theirs, x, y) for x, y in zip(X, Y, strict=True)]
    np.testing.assert_allclose(losses, np.stack(expected), rtol=1e-5)


def test_a_module_with_python_numbers_and_modes():
    class Counting(nnx.Module):
        def __init__(self, rngs):
            self.linear, self.calls = nnx.Linear(4, 2, rngs=rngs), 0
            self.dropout = nnx.Dropout(0.5, rngs=rngs)

        def __call__(self, x):
            self.calls += 1
            return self.dropout(self.linear(x)).sum()

    model = Counting(nnx.Rngs(0))
    F = functionalize(model)
    state = F.init(X[0])
    call = jax.jit(F)
    for _ in range(3):
        _, state = call(state, X[0])
    assert int(state["calls"]) == 3 and call._cache_size() == 1
    model.eval()
    _, evaluating = call(F.init(X[0]), X[0])
    assert call._cache_size() == 2
    np.testing.assert_array_equal(evaluating["dropout.rngs.count"], 0)


def test_a_key_array_of_nnx_is_vmapped():
    @nnx.vmap(in_axes=0, out_axes=0)
    def make(key):
        return nnx.Linear(4, 2, rngs=nnx.Rngs(key))

    ensemble = make(jax.random.split(jax.random.key(0), 3))

    def forward(model, x):
        return nnx.vmap(lambda model, x: model(x), in_axes=(0, None))(model, x)

    F = functionalize(forward, ensemble)
    out, _ = jax.jit(F)(F.init(X[0]), X[0])
    np.testing.assert_allclose(out, forward(ensemble, X[0]), rtol=1e-5)


def test_a_target_that_cannot_be_called_is_refused():
    with pytest.raises(TypeError) as raised:
        functionalize([1], MLP(nnx.Rngs(0, dropout=1)))
    assert str(raised.value) == (
        "functionalize takes one object, or a function and its stateful arguments; list cannot be called"
    )
    F = functionalize(MLP(nnx.Rngs(0, dropout=1)))
    with pytest.raises(FunctionalizeError, match="takes the state first and got"):
        F(X[0])
