"""Freezing and unfreezing by path, rates by depth: beside the same training in plain NNX and Optax."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import fourbeat as fb
from fourbeat.beats import SharedCountWarning, hand_over
from tests.kinds import KINDS, SmallCNN, assert_bit_equal, image_batch

RATES = {"head": 0.1, "body": 0.01}
BATCHES = [jax.tree.map(jnp.asarray, image_batch(seed, 8)) for seed in range(5)]
HEAD = fb.models.paths("head/*")
LABEL = fb.models.labels({"head/*": "head"}, otherwise="body")


class Net(nnx.Module):
    def __init__(self, *, rngs):
        self.body = nnx.Linear(64, 6, rngs=rngs)
        self.norm = nnx.BatchNorm(6, rngs=rngs)
        self.head = nnx.Linear(6, 5, rngs=rngs)

    def __call__(self, x):
        return self.head(nnx.tanh(self.norm(self.body(x.reshape(len(x), -1)))))


def loss_fn(model, batch):
    return optax.softmax_cross_entropy_with_integer_labels(model(batch["x"]), batch["label"])


def in_groups():
    return optax.partition({name: optax.adam(rate) for name, rate in RATES.items()}, LABEL)


def trained(beats, state, batches):
    step = fb.compile(beats.train_step)
    for batch in batches:
        state, _ = step(state, batch)
    return state


def by_hand(frozen_steps):
    """The head alone for so many steps, then all: an Optax optimizer for each part, begun when it begins."""
    graph, params, rest = nnx.split(Net(rngs=nnx.Rngs(0)), nnx.Param, ...)
    parts = {"head": [("head",)], "body": [("body",), ("norm",)]}
    params = nnx.to_pure_dict(params)
    held = {name: {path: params[path] for (path,) in paths} for name, paths in parts.items()}
    optimizers = {name: optax.adam(rate) for name, rate in RATES.items()}
    opt_states = {}

    def loss_of(chosen, frozen, rest, batch):
        pure = {path: arrays for part in (chosen | frozen).values() for path, arrays in part.items()}
        model = nnx.merge(graph, nnx.State(pure), rest, copy=True)
        return loss_fn(model, batch).mean(), nnx.state(model, nnx.BatchStat)

    @jax.jit
    def step(chosen, frozen, rest, opt_states, batch):
        grads, rest = jax.grad(loss_of, has_aux=True)(chosen, frozen, rest, batch)
        for name in chosen:
            updates, opt_states[name] = optimizers[name].update(grads[name], opt_states[name])
            chosen[name] = optax.apply_updates(chosen[name], updates)
        return chosen, rest, opt_states

    for number, batch in enumerate(BATCHES):
        names = ["head"] if number < frozen_steps else ["head", "body"]
        for name in names:
            opt_states.setdefault(name, optimizers[name].init(held[name]))
        chosen = {name: held[name] for name in names}
        frozen = {name: held[name] for name in held.keys() - chosen.keys()}
        chosen, rest, opt_states = step(chosen, frozen, rest, opt_states, batch)
        held |= chosen
    return {path: arrays for part in held.values() for path, arrays in part.items()}, opt_states


@pytest.fixture(scope="module")
def unfrozen():
    """`(state while frozen, state handed over, state at the end)` of gradual unfreezing."""
    frozen_beats = fb.four_beats(loss_fn, in_groups(), wrt=HEAD, ema=0.9, guard=fb.guard.skip())
    beats = fb.four_beats(loss_fn, in_groups(), ema=0.9, guard=fb.guard.skip())
    frozen = trained(frozen_beats, frozen_beats.init(Net(rngs=nnx.Rngs(0)), key=7), BATCHES[:3])
    kept = frozen.replace()
    handed = hand_over(frozen, beats)
    return kept, handed, trained(beats, handed.replace(), BATCHES[3:])


def test_gradual_unfreezing_has_every_bit_of_two_optimizers_begun_one_after_the_other(unfrozen):
    _, _, state = unfrozen
    params, opt_states = by_hand(frozen_steps=3)
    assert_bit_equal(state.params, params)
    for name, expected in opt_states.items():
        moments = state.opt_state.inner_states[name].inner_state[0]
        assert int(moments.count) == int(expected[0].count) == {"head": 5, "body": 2}[name]
        for path, arrays in expected[0].nu.items():
            assert_bit_equal(moments.nu[path], arrays)


def test_what_was_frozen_did_not_move_and_what_was_trained_is_handed_over_bit_by_bit(unfrozen):
    frozen, handed, _ = unfrozen
    start = fb.split(Net(rngs=nnx.Rngs(0)))[1]
    assert list(frozen.params) == ["head"]
    for path in ("body", "norm"):
        assert_bit_equal(handed.params[path], start[path])
        assert_bit_equal(jax.tree.map(jnp.asarray, handed.ema[path]), start[path])
    for name in ("params", "ema"):
        assert_bit_equal(getattr(handed, name)["head"], getattr(frozen, name)["head"])
    assert_bit_equal(handed.rest["norm"]["mean"], frozen.rest["norm"]["mean"])
    assert (int(handed.step), int(handed.num_updates)) == (3, 3)
    assert_bit_equal(handed.key, frozen.key)
    assert_bit_equal(handed.guard, frozen.guard)


def test_freezing_again_drops_what_is_not_trained_and_keeps_the_rest(unfrozen):
    _, _, state = unfrozen
    again = hand_over(state, fb.four_beats(loss_fn, in_groups(), wrt=HEAD))
    assert list(again.params) == ["head"]
    head = again.opt_state.inner_states["head"].inner_state[0]
    assert_bit_equal(head.mu["head"], state.opt_state.inner_states["head"].inner_state[0].mu["head"])
    assert_bit_equal(again.rest["body"], state.params["body"])


def test_a_count_that_new_parameters_would_share_is_a_warning():
    head, both = (fb.four_beats(loss_fn, optax.adam(0.1), wrt=wrt) for wrt in (HEAD, None))
    state, _ = jax.jit(head.train_step)(head.init(Net(rngs=nnx.Rngs(0))), BATCHES[0])
    with pytest.warns(SharedCountWarning) as caught:
        handed = hand_over(state, both)
    assert str(caught[0].message) == (
        "body/bias begins to be trained, and opt_state[0] counts 1 steps for all of its parameters. Its "
        "moments begin at 0 beside that count, so its first updates are too large: about three times with "
        "Adam's defaults. Give what is unfrozen later a group of its own from the start: "
        "optax.partition({...}, fb.models.labels({...}))."
    )
    assert caught[0].filename == __file__
    assert_bit_equal(handed.opt_state[0].mu["head"], state.opt_state[0].mu["head"])
    hand_over(head.init(Net(rngs=nnx.Rngs(0))), both)  # before the first step there is nothing to share


def test_an_optimizer_built_in_another_way_is_refused():
    head = fb.four_beats(loss_fn, optax.adam(0.1), wrt=HEAD)
    text = (
        "the optimizer keeps opt_state[0].mu['head']['bias'], and the one to go on with has no such place: "
        "it is built in another way. Use one optimizer for both beats: optax.partition with a group for "
        "each part that is unfrozen, from the start."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        hand_over(head.init(Net(rngs=nnx.Rngs(0))), fb.four_beats(loss_fn, in_groups()))


def test_statistics_stay_frozen_where_the_loss_asks_and_the_gradient_is_that_of_evaluation():
    def frozen_loss(model, batch):
        model.set_attributes(nnx.All(nnx.BatchNorm, fb.models.paths("norm")), use_running_average=True)
        return loss_fn(model, batch)

    beats = fb.four_beats(frozen_loss, optax.sgd(0.1))
    model = Net(rngs=nnx.Rngs(0))
    model.norm.mean[...], model.norm.var[...] = jnp.full(6, 0.5), jnp.full(6, 2.0)
    state, _ = fb.compile(beats.train_step)(beats.init(model), BATCHES[0])
    assert_bit_equal(state.rest["norm"], {"mean": jnp.full(6, 0.5), "var": jnp.full(6, 2.0)})
    graph, params, rest = nnx.split(nnx.clone(model), nnx.Param, ...)

    def mean_loss(params):
        evaluated = nnx.merge(graph, params, rest)
        evaluated.eval()
        return loss_fn(evaluated, BATCHES[0]).mean()

    expected = jax.jit(lambda p: jax.tree.map(lambda a, g: a - 0.1 * g, p, jax.grad(mean_loss)(p)))(params)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
        state.params,
        nnx.to_pure_dict(expected),
    )


def test_a_filter_chooses_parameters_alone_and_by_whole_paths():
    model = SmallCNN(rngs=nnx.Rngs(0))
    for wrt, names in (
        (fb.models.paths("*"), ["conv", "head", "norm"]),  # no statistics, no random state
        (fb.models.paths("norm/*"), ["norm"]),
        (nnx.All(nnx.Param, nnx.Not(fb.models.paths("conv/*", "norm/*"))), ["head"]),
    ):
        assert sorted(fb.split(model, wrt)[1]) == names
    assert sorted(fb.split(model, fb.models.paths("norm/*"))[1]["norm"]) == ["bias", "scale"]
    _, params, rest = fb.split({"w": jnp.ones(2), "n": jnp.array(1)}, fb.models.paths("*"))
    assert (list(params), list(rest)) == (["w"], ["n"])


@pytest.mark.parametrize("wrt", [fb.models.paths("head/*", "haed/*"), nnx.Not(fb.models.paths("haed/*"))])
def test_a_pattern_that_matches_nothing_is_refused(wrt):
    patterns = "paths('head/*', 'haed/*')" if not isinstance(wrt, nnx.Not) else "paths('haed/*')"
    text = (
        f"the pattern 'haed/*' of {patterns} matches no array of the model. Near it are 'head/bias', "
        "'head/kernel'. A '*' stands for any part of a path, slashes too."
    )
    with pytest.raises(ValueError) as error:
        fb.split(SmallCNN(rngs=nnx.Rngs(0)), wrt)
    assert str(error.value) == text


def test_no_pattern_and_no_label_are_refused():
    with pytest.raises(TypeError, match=r"^paths takes patterns, such as .*; got \(\)\.$"):
        fb.models.paths()
    text = (
        "labels has no label for the parameter 'b': its patterns are 'w'. Add one that matches, or pass "
        "otherwise=."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        fb.models.labels({"w": "decay"})(KINDS["dict"].make(0))
