"""Going on with another `wrt`, average, guard, loss scale or metrics: each variable by its path."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import fourbeat as fb
from fourbeat.checkpoints import Checkpoints
from tests.kinds import assert_bit_equal

ADAM = optax.adam(0.1)
HEAD = nnx.All(nnx.Param, nnx.PathContains("head"))
BATCH = {"x": np.linspace(-1, 1, 12, dtype=np.float32).reshape(6, 2), "y": np.ones(6, np.float32)}


class Net(nnx.Module):
    def __init__(self, rngs, dtype=jnp.float32):
        self.body = nnx.Linear(2, 3, rngs=rngs, param_dtype=dtype)
        self.norm = nnx.BatchNorm(3, rngs=rngs, param_dtype=dtype)
        self.head = nnx.Linear(3, 1, rngs=rngs, param_dtype=dtype)
        self.dropout = nnx.Dropout(0.2, rngs=rngs)

    def __call__(self, x):
        return self.head(self.dropout(self.norm(self.body(x))))[:, 0]


MADE = {}


def make(seed=0, steps=0, dtype=jnp.float32, **options):
    """The beats, and a state that has trained for `steps`; one of each options."""
    options = {"tx": ADAM, **options}
    key = (dtype, *((name, id(option)) for name, option in options.items()))
    if key not in MADE:
        beats = fb.four_beats(lambda model, batch: (model(batch["x"]) - batch["y"]) ** 2, **options)
        MADE[key] = beats, options  # which keeps the options, and so their ids
    beats, _ = MADE[key]
    state = beats.init(Net(nnx.Rngs(seed), dtype), key=seed)
    for _ in range(steps):
        state, _ = step_of(beats)(state, BATCH)
    return beats, state


@functools.cache
def step_of(beats):
    return fb.compile(beats.train_step, donate=False)


def by_path(tree):
    found = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in found}


def variables(state):
    """Every variable of the model by its path, wherever it is kept."""
    return by_path(state.params) | by_path(state.rest)


@pytest.fixture
def restored_from(tmp_path):
    def restore(saved, like):
        with Checkpoints(tmp_path) as checkpoints:
            checkpoints.save(1, {"state": saved, "more": 3})
        tree, mismatch = checkpoints.restore({"state": like, "more": 0}, partial=True)
        assert tree["more"] == 3
        return tree["state"], mismatch

    return restore


@pytest.mark.parametrize(("before", "after"), [(HEAD, None), (None, HEAD)], ids=["unfrozen", "frozen"])
@pytest.mark.parametrize("ema", [None, 0.9])
def test_another_wrt_keeps_every_variable(before, after, ema, restored_from):
    """Also what the body has learned is there, and the next step starts from it."""
    _, trained = make(steps=5, wrt=before, ema=ema)
    beats, fresh = make(seed=1, wrt=after, ema=ema)
    state, mismatch = restored_from(trained, fresh)
    assert variables(state).keys() == variables(fresh).keys()
    for path, value in variables(trained).items():
        np.testing.assert_array_equal(variables(state)[path], value, err_msg=path)
        assert not path.endswith("['kernel']") or np.any(variables(fresh)[path] != value), path
    assert state.static == fresh.static
    place, other = ("params", "rest") if after is None else ("rest", "params")
    moved = [(f"tree['state'].{place}{p}", f"tree['state'].{other}{p}") for p in (
        "['body']['bias']", "['body']['kernel']", "['norm']['bias']", "['norm']['scale']")]  # fmt: skip
    assert [pair for pair in mismatch.moved if ".ema" not in pair[0]] == moved
    if ema is not None:  # the head goes on with its average; the body's starts where the body is
        kept = by_path(trained.ema)
        for path, average in by_path(state.ema).items():
            np.testing.assert_array_equal(average, kept.get(path, variables(trained)[path]), err_msg=path)
    kept = by_path(trained.opt_state[0].mu)
    for path, moment in by_path(state.opt_state[0].mu).items():  # of what was not trained: as at the start
        np.testing.assert_array_equal(moment, kept.get(path, np.zeros(moment.shape)), err_msg=path)
    state, logs = step_of(beats)(state, BATCH)
    assert np.isfinite(logs["loss"])


def test_a_moved_place_is_told_in_the_table(restored_from):
    _, trained = make(wrt=HEAD)
    _, mismatch = restored_from(trained, make(seed=1)[1])
    [line] = [line for line in str(mismatch).splitlines() if ".params['body']['kernel']" in line]
    assert line.split("  ", 1)[0] == "tree['state'].params['body']['kernel']"
    assert line.split("  ", 1)[1].strip() == "from tree['state'].rest['body']['kernel']"
    assert mismatch.extra == mismatch.differing == ()
    assert set(mismatch.missing) == {
        f"tree['state'].opt_state[0].{moment}['{layer}']['{name}']"
        for moment in ("mu", "nu")
        for layer, name in (("body", "bias"), ("body", "kernel"), ("norm", "bias"), ("norm", "scale"))
    }


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("wrt", [None, HEAD])
def test_an_average_switched_on_starts_from_the_restored_parameters(wrt, dtype, restored_from):
    """By hand: average + rate * (new parameters - average), from the parameters that were saved."""
    _, trained = make(steps=5, wrt=wrt, dtype=dtype)
    beats, fresh = make(seed=1, ema=0.9, dtype=dtype)
    state, _ = restored_from(trained, fresh)
    saved = variables(trained)
    for path, average in jax.tree_util.tree_flatten_with_path(state.ema)[0]:
        assert average.dtype == jnp.float32
        path = jax.tree_util.keystr(path)
        np.testing.assert_array_equal(average, saved[path].astype(np.float32), err_msg=path)
    if wrt is None:
        after, _ = step_of(beats)(state, BATCH)
        rate = max((1 - 0.9) / (1 - 0.9 ** (5 + 1)), 9 / (10 + 5))
        for average, before, now in zip(
            *map(jax.tree.leaves, (after.ema, state.ema, after.params)), strict=True
        ):
            before, now = np.asarray(before, np.float64), np.asarray(now, np.float64)
            np.testing.assert_allclose(average, before + rate * (now - before), atol=1e-6)


def test_an_average_of_a_new_head_starts_from_the_new_head(restored_from):
    _, trained = make(steps=2)
    _, fresh = make(seed=1, ema=0.9)
    fresh = fresh.replace()
    wide = jax.tree.map(lambda leaf: leaf, fresh)
    wide.params["head"]["kernel"] = wide.ema["head"]["kernel"] = jnp.full((3, 7), 2.0)
    state, _ = restored_from(trained, wide)
    np.testing.assert_array_equal(state.ema["head"]["kernel"], np.full((3, 7), 2.0))
    np.testing.assert_array_equal(state.ema["body"]["kernel"], trained.params["body"]["kernel"])


SWITCHED = {
    "average off": ({"ema": 0.9}, {}),
    "guard on": ({}, {"guard": fb.guard.skip()}),
    "guard off": ({"guard": fb.guard.skip()}, {}),
    "loss scale on": ({}, {"precision": "float16"}),
    "metrics added": ({}, {"metrics": fb.metrics.Collection(loss=fb.metrics.Mean("loss"))}),
}


@pytest.mark.parametrize("case", SWITCHED)
def test_what_is_switched_leaves_the_rest_as_it_was_saved(case, restored_from):
    """What was not kept starts as a new run starts it; every other leaf has the saved bits."""
    before, after = SWITCHED[case]
    _, trained = make(steps=3, **before)
    beats, fresh = make(seed=1, **after)
    state, _ = restored_from(trained, fresh)
    for field in ("step", "num_updates", "params", "rest", "opt_state", "key", "lr_scale"):
        assert_bit_equal(getattr(state, field), getattr(trained, field))
    for field in ("metrics", "ema", "loss_scale", "guard"):
        assert_bit_equal(getattr(state, field), getattr(fresh, field))
    state, _ = step_of(beats)(state, BATCH)
    assert int(state.step) == 4


def test_two_states_are_not_mixed_up(tmp_path):
    """A GAN's: each finds its own."""
    first, second = make(seed=0, wrt=HEAD)[1], make(seed=1, wrt=HEAD)[1]
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"a": first, "b": second})
    tree, _ = checkpoints.restore({"a": make(seed=2)[1], "b": make(seed=3)[1]}, partial=True)
    for name, saved in (("a", first), ("b", second)):
        for path, value in variables(saved).items():
            np.testing.assert_array_equal(variables(tree[name])[path], value, err_msg=path)


@pytest.mark.parametrize("partial", [False, True])
def test_an_injected_rate_is_the_saved_one_until_it_is_set(partial, tmp_path):
    """`optax.inject_hyperparams` keeps the rate in its state, which is restored like all of it."""
    injected = lambda rate: optax.inject_hyperparams(optax.sgd)(learning_rate=rate)
    _, trained = make(steps=1, tx=injected(0.1))
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, trained)
    beats, fresh = make(seed=1, tx=injected(0.001))
    restored = checkpoints.restore(fresh, partial=partial)
    state = restored[0] if partial else restored
    assert float(state.opt_state.hyperparams["learning_rate"]) == np.float32(0.1)
    kept = {**state.opt_state.hyperparams, "learning_rate": jnp.float32(0.001)}
    state = state.replace(opt_state=state.opt_state._replace(hyperparams=kept))
    grads, out = jax.jit(beats.gradient)(state, BATCH)
    after, _ = jax.jit(beats.update)(state, grads, out)
    for new, old, grad in zip(*map(jax.tree.leaves, (after.params, state.params, grads)), strict=True):
        np.testing.assert_allclose(new, old - np.float32(0.001) * grad, rtol=1e-6)
