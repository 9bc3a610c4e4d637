"""Every transformation of optax and optax.contrib updates as by hand, and one of each kind to the bit."""

import functools
import inspect
import os
import warnings

import jax
import numpy as np
import optax
import pytest

import fourbeat as fb
from tests.kinds import KINDS, assert_bit_equal

KIND = KINDS["dict"]
NUM_STEPS = 3


def loss_of(params, batch):
    return KIND.items(params, batch)[0].mean()


def labels_of(params):
    return jax.tree.map(lambda param: "matrix" if param.ndim > 1 else "vector", params)


SGD = optax.sgd(0.1)
# What has no default, by name; a name alone first, then the parameter of one transformation.
ARGUMENTS = {
    "learning_rate": 0.01, "decay": 0.9, "eta": 0.1, "gamma": 0.5, "inner": SGD, "tx": SGD,
    "base_optimizer": SGD, "optimizer": SGD, "max_consecutive_errors": 3, "max_delta": 0.1, "threshold": 0.1,
    "max_norm": 0.5, "clipping": 0.1, "step_size": -0.1, "step_size_fn": lambda count: -0.1 / (1 + count),
    "transforms": {"matrix": optax.sgd(0.1), "vector": optax.adam(0.01)}, "param_labels": labels_of,
    "mask": {"w": True, "b": False}, "freeze_mask": {"w": True, "b": False}, "sync_period": 2,
    "should_transform_fn": lambda step, **_: step % 2 == 0, "measure_name": "first",
    "measure": optax.tree.norm, "f": lambda updates, params: updates,
    "max_backtracking_steps": 5, "max_linesearch_steps": 5,
    "adv_optimizer": optax.sgd(0.05), "key": 0, "inner_factory": optax.sgd,
}  # fmt: skip
SPECIAL = {
    "stateless_with_tree_map": lambda make: make(lambda update, param: -0.1 * update),
    "inject_hyperparams": lambda make: make(optax.sgd)(learning_rate=0.1),
    "inject_stateful_hyperparams": lambda make: make(optax.sgd)(learning_rate=0.1),
    "chain": lambda make: make(optax.clip_by_global_norm(0.5), optax.adam(0.01)),
    "named_chain": lambda make: make(("clip", optax.clip_by_global_norm(0.5)), ("sgd", SGD)),
    "measure_with_ema": lambda make: make(lambda updates: updates, 0.9),
    "monitor": lambda make: make({"norm": optax.tree.norm}),
    "add_noise": lambda make: optax.chain(make(0.1, 0.5, key=0), SGD),
    "MultiSteps": lambda make: make(SGD, every_k_schedule=2).gradient_transformation(),
    "noisy_sgd": lambda make: make(0.01, key=0),
    "keep_params_nonnegative": lambda make: optax.chain(SGD, make()),
    "scale_by_factored_rms": lambda make: make(min_dim_size_to_factor=2),
    "adafactor": lambda make: make(0.01, min_dim_size_to_factor=2),
    "galore": lambda make: make(0.01, rank=1),
    "scale_by_galore": lambda make: make(rank=1),
}
# Given to `beats.update` by the user, of the step's parameters, batch and key.
OBJECTIVES = {
    "lbfgs": "value_fn", "scale_by_backtracking_linesearch": "value_fn",
    "scale_by_zoom_linesearch": "value_fn", "sophia": "obj_fn", "hutchinson_estimator_diag_hessian": "obj_fn",
}  # fmt: skip
LEFT_OUT = {
    "dpsgd": "takes the gradients of single examples",
    "differentially_private_aggregate": "takes the gradients of single examples",
    "lookahead": "takes a pair of parameters, `optax.LookaheadParams`",
    "scale_by_muon": "takes masked trees from `muon`, which is in the list",
}


def transformations():
    """Public functions that give a transformation, with their names; those of `optax` first."""
    found = {}
    for library in (optax, optax.contrib):
        for name in sorted(vars(library)):
            make = getattr(library, name)
            if name.startswith("_") or name in found or not inspect.isfunction(make):
                continue
            gives = str(inspect.signature(make).return_annotation)
            if "GradientTransformation" in gives or name in SPECIAL or name in OBJECTIVES:
                found[name] = make
    return {**found, "dog": optax.contrib.dog, "dowg": optax.contrib.dowg, "MultiSteps": optax.MultiSteps}


def made(name, make):
    if name in SPECIAL:
        return SPECIAL[name](make)
    parameters = inspect.signature(make).parameters.values()
    needed = [p.name for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
    return make(**{parameter: ARGUMENTS[parameter] for parameter in needed})


with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # names of optax.contrib that stand in optax too
    MAKERS = transformations()


def test_the_library_was_found_and_is_left_out_for_a_reason_alone():
    assert {"adamw", "lion", "sam", "muon", "prodigy", "schedule_free", "lbfgs"} <= MAKERS.keys()
    assert len(MAKERS) > 100 and LEFT_OUT.keys() <= MAKERS.keys()


# `scale_by_adam` is a part of `adam`, which is in the list, and so for others by another name
PARTS = {
    name for name in MAKERS if name.removeprefix("scale_by_") != name and name[len("scale_by_") :] in MAKERS
} | {
    "scale_by_belief", "scale_by_distance_over_gradients", "scale_by_factored_rms", "scale_by_learning_rate",
    "scale_by_optimistic_gradient", "scale_by_param_block_rms", "scale_by_rms", "scale_by_rss",
    "scale_by_sign", "scale_by_stddev", "scale_by_trust_ratio", "scale", "trace", "identity",
    "scale_by_zoom_linesearch", "hutchinson_estimator_diag_hessian",  # of lbfgs, and of sophia
}  # fmt: skip
ROWS = sorted(MAKERS.keys() - LEFT_OUT.keys() - PARTS)
# One of each kind of state and of arguments is compiled; ./check_instruction_sets compiles all of them.
COMPILED = {
    "MultiSteps": "a state within another, of which one is taken",
    "adadelta": "quotients, which round differently if an operation moves",
    "adafactor": "a state by the shape of each parameter",
    "add_noise": "a key",
    "apply_if_finite": "counts and booleans",
    "chain": "a tuple of states",
    "inject_stateful_hyperparams": "hyperparameters",
    "lbfgs": "an objective, and a history",
    "masked": "parameters without a state",
    "mechanize": "sums over all parameters",
    "momo": "the loss",
    "monitor": "a state that changes its structure",
    "muon": "a state by the kind of parameter",
    "partition": "several states by label",
    "prodigy": "the initial parameters",
    "reduce_on_plateau": "the loss, and a scale",
    "sam": "every other step",
    "scale_by_backtracking_linesearch": "an objective, alone",
    "schedule_free_adamw": "parameters of its own",
    "set_to_zero": "no update",
    "sgd": "no state",
    "sophia": "an objective, and a key",
}
if os.environ.get("FOURBEAT_THOROUGH"):
    COMPILED = dict.fromkeys(ROWS)


@functools.cache
def gradient_of_sgd():
    """A state and its compiled gradient, which no transformation changes."""
    beats = fb.four_beats(lambda params, batch: KIND.items(params, batch)[0], SGD)
    return beats.init(KIND.make(0)), jax.jit(beats.gradient)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", [name for name in ROWS if name not in COMPILED])
def test_the_update_of_a_gradient_is_that_by_hand(name):
    first, gradient = gradient_of_sgd()
    tx = made(name, MAKERS[name])
    takes_value = isinstance(tx, optax.GradientTransformationExtraArgs)
    beats = fb.four_beats(lambda params, batch: KIND.items(params, batch)[0], tx)
    state, params = beats.init(KIND.make(0)), KIND.make(0)
    opt_state = tx.init(params)
    for seed in range(NUM_STEPS):
        grads, out = gradient(first.replace(params=state.params, step=state.step), KIND.batch(seed, 8))
        with jax.disable_jit():  # each operation is compiled once for all transformations
            given = {"value": out.loss, "grad": grads} if takes_value else {}
            updates, opt_state = tx.update(grads, opt_state, params, **given)
            params = optax.apply_updates(params, updates)
            state, _ = beats.update(state, grads, out)
    close = lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-7)
    jax.tree.map(close, state.params, params)
    jax.tree.map(close, *map(numbers_of, (state.opt_state, opt_state)))
    assert not all(map(np.array_equal, *map(jax.tree.leaves, (params, KIND.make(0)))))


def numbers_of(tree):
    """The leaves, a key as its numbers."""
    is_key = lambda leaf: jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return [jax.random.key_data(leaf) if is_key(leaf) else leaf for leaf in jax.tree.leaves(tree)]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", [name for name in ROWS if name in COMPILED])
def test_bit_equal_to_the_loop_by_hand(name):
    batches = [KIND.batch(seed, 8) for seed in range(NUM_STEPS)]
    objective = OBJECTIVES.get(name)

    def extra_of(loss):
        return {} if objective is None else {objective: loss}

    def by_hand():
        tx = made(name, MAKERS[name])
        takes_value = isinstance(tx, optax.GradientTransformationExtraArgs) and name != "sam"

        @jax.jit
        def step(params, opt_state, batch):
            value, grads = jax.value_and_grad(loss_of)(params, batch)
            given = {"value": value, "grad": grads} if takes_value else {}
            given |= extra_of(lambda params, *_: loss_of(params, batch))
            updates, opt_state = tx.update(grads, opt_state, params, **given)
            return optax.apply_updates(params, updates), opt_state, optax.tree.norm(grads)

        params = KIND.make(0)
        opt_state = tx.init(params)
        for batch in batches:
            params, opt_state, _ = step(params, opt_state, batch)
        return params

    tx = made(name, MAKERS[name])
    beats = fb.four_beats(lambda params, batch: KIND.items(params, batch)[0], tx)

    def step(state, batch):
        grads, out = beats.gradient(state, batch)
        loss = lambda params, *_: beats.loss(state.replace(params=params), batch)[0]
        return beats.update(state, grads, out, **extra_of(loss))

    # monitor's state has its first measurement after the first update alone
    on_recompile = "ignore" if name == "monitor" else "raise"
    compiled, state = fb.compile(step, on_recompile=on_recompile), beats.init(KIND.make(0))
    for batch in batches:
        state, _ = compiled(state, batch)
    if name == "dog":  # its last factor is a quotient of scalars, which XLA fuses otherwise
        close = lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-5)
        jax.tree.map(close, state.params, by_hand())
    else:
        assert_bit_equal(state.params, by_hand())
    changed = jax.tree.map(lambda new, old: bool((new != old).any()), state.params, KIND.make(0))
    assert name == "set_to_zero" or any(jax.tree.leaves(changed))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))
