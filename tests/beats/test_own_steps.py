"""Steps that a user makes of the beats, beside the same steps in plain JAX and Optax."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import fourbeat as fb
from tests.kinds import KINDS, assert_bit_equal

KIND = KINDS["dict"]
STEPS = 5


def loss_fn(model, batch):
    return KIND.items(model, batch)[0]


def mean_loss(params, batch):
    return KIND.items(params, batch)[0].mean()


def batches():
    return [jax.tree.map(jnp.asarray, KIND.batch(seed, 8)) for seed in range(STEPS)]


# ---- gradients of single examples


def of_single_examples(beats, state, batch):
    """The step of docs/own-steps.md."""
    examples = jax.tree.map(lambda column: column[:, None], batch)  # each a batch of one
    keys = jax.random.split(state.step_key(), len(batch["label"]))

    def one(example, key):
        return beats.gradient(state.replace(key=key), example)

    grads, out = jax.vmap(one)(examples, keys)
    mean = jax.tree.map(lambda grad: grad.mean(0), grads)
    out = out._replace(loss=out.loss.mean(), weight=out.weight.sum(), rest=state.rest, metrics=state.metrics)
    state, logs = beats.update(state, grads, out)
    return state, logs | {"grad_norm": optax.tree.norm(mean)}


def private(learning_rate=0.1):
    return optax.chain(
        optax.contrib.differentially_private_aggregate(
            l2_norm_clip=0.5, noise_multiplier=1.1, key=jax.random.key(7)
        ),
        optax.sgd(learning_rate),
    )


def test_private_training_has_every_bit_of_optax_s_own_example():
    tx = private()
    params, opt_state = KIND.make(0), tx.init(KIND.make(0))

    @jax.jit
    def by_hand(params, opt_state, batch):
        examples = jax.tree.map(lambda x: x[:, None], batch)
        grads = jax.vmap(jax.grad(mean_loss), in_axes=(None, 0))(params, examples)
        updates, opt_state = tx.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, jax.grad(mean_loss)(params, batch)

    beats = fb.four_beats(loss_fn, private())
    state, step = beats.init(KIND.make(0)), fb.compile(partial(of_single_examples, beats))
    for batch in batches():
        params, opt_state, grads = by_hand(params, opt_state, batch)
        before = state.replace()
        state, logs = step(state, batch)
        np.testing.assert_allclose(logs["grad_norm"], optax.tree.norm(grads), rtol=1e-5)
        np.testing.assert_allclose(logs["loss"], mean_loss(before.params, batch), rtol=1e-6)
    assert_bit_equal(state.params, params)
    assert_bit_equal(state.opt_state[0].rng_key.data, jax.random.key_data(opt_state[0].rng_key))
    assert (int(state.step), float(logs["weight"])) == (STEPS, 8.0)


def test_each_single_example_has_a_key_of_its_own():
    def noisy(model, batch, key):
        return model["w"] * jax.random.normal(key, batch["label"].shape)

    beats = fb.four_beats(noisy, optax.sgd(1.0))
    state = beats.init({"w": jnp.ones(())}, key=3)
    batch = {"label": jnp.zeros(6)}
    keys = jax.random.split(jax.random.fold_in(jax.random.key(3), 0), 6)
    alone = lambda label: beats.gradient(state, {"label": label})[0]["w"]
    same = jax.jit(jax.vmap(alone))(jnp.zeros((6, 1)))
    assert len(np.unique(same)) == 1  # of vmap alone

    def one(label, key):
        return beats.gradient(state.replace(key=key), {"label": label})[0]["w"]

    own = jax.jit(jax.vmap(one))(batch["label"][:, None], keys)
    assert len(np.unique(own)) == 6
    by_hand = [jax.random.normal(jax.random.fold_in(key, 0), (1,))[0] for key in keys]
    np.testing.assert_array_equal(own, by_hand)
    mean_beats = beats_of_mean(noisy)
    state = mean_beats.init({"w": jnp.ones(())}, key=3)
    after, _ = jax.jit(partial(of_single_examples, mean_beats))(state, batch)
    np.testing.assert_allclose(after.params["w"], 1 - np.mean(by_hand), rtol=1e-6)


def beats_of_mean(loss):
    """Beats whose optimizer takes gradients of single examples and applies their mean."""
    take_mean = optax.stateless(lambda updates, _: jax.tree.map(lambda update: update.mean(0), updates))
    return fb.four_beats(loss, optax.chain(take_mean, optax.sgd(1.0)))


# ---- several optimizers on one model


class Net(nnx.Module):
    """A body with statistics and a head."""

    def __init__(self, seed):
        rngs = nnx.Rngs(seed)
        self.body, self.norm = nnx.Linear(3, 4, rngs=rngs), nnx.BatchNorm(4, rngs=rngs)
        self.head = nnx.Linear(4, 2, rngs=rngs)

    def __call__(self, x):
        return self.head(nnx.relu(self.norm(self.body(x))))


HEAD = nnx.All(nnx.Param, nnx.PathContains("head"))
BODY = nnx.All(nnx.Param, nnx.Not(nnx.PathContains("head")))


def net_loss(model, batch):
    return optax.softmax_cross_entropy_with_integer_labels(model(batch["x"]), batch["label"])


def test_two_optimizers_in_turn_on_one_model_have_every_bit_of_the_loop_by_hand():
    model = Net(0)
    model.train()
    optimizers = [
        nnx.Optimizer(model, optax.adam(1e-2), wrt=HEAD),
        nnx.Optimizer(model, optax.sgd(0.1), wrt=BODY),
    ]

    @nnx.jit(static_argnames="wrt")
    def by_hand(model, optimizer, batch, wrt):
        loss = lambda model: net_loss(model, batch).mean()
        grads = nnx.grad(loss, argnums=nnx.DiffState(0, wrt))(model)
        optimizer.update(model, grads)
        return optax.tree.norm(grads)

    head_beats = fb.four_beats(net_loss, optax.adam(1e-2), wrt=HEAD)
    body_beats = fb.four_beats(net_loss, optax.sgd(0.1), wrt=BODY)
    states = head_beats.init(Net(0)), body_beats.init(Net(0))
    head_step, body_step = fb.compile(head_beats.train_step), fb.compile(body_beats.train_step)
    head, body = states
    for batch in batches():
        for optimizer, wrt in zip(optimizers, (HEAD, BODY), strict=True):
            by_hand(model, optimizer, batch, wrt)
        head, _ = head_step(head, batch)
        body, _ = body_step(body.replace(model=head.model), batch)
        head = head.replace(model=body.model)
    theirs = jax.tree.leaves(nnx.to_pure_dict(nnx.state(model, (nnx.Param, nnx.BatchStat))))
    ours = jax.tree.leaves(nnx.to_pure_dict(nnx.state(head.model, (nnx.Param, nnx.BatchStat))))
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)
    assert (int(head.num_updates), int(body.num_updates)) == (STEPS, STEPS)


def test_two_optimizers_in_turn_are_one_compiled_step_too():
    head_beats = fb.four_beats(net_loss, optax.adam(1e-2), wrt=HEAD)
    body_beats = fb.four_beats(net_loss, optax.sgd(0.1), wrt=BODY)

    def both(states, batch):
        head, body = states
        head, logs = head_beats.train_step(head, batch)
        body, _ = body_beats.train_step(body.replace(model=head.model), batch)
        return (head.replace(model=body.model), body), logs

    states, (head, body) = ((head_beats.init(Net(0)), body_beats.init(Net(0))) for _ in range(2))
    step = fb.compile(both, on_recompile="raise")
    head_step, body_step = fb.compile(head_beats.train_step), fb.compile(body_beats.train_step)
    for batch in batches():
        states, _ = step(states, batch)
        head, _ = head_step(head, batch)
        body, _ = body_step(body.replace(model=head.model), batch)
        head = head.replace(model=body.model)
    assert step.num_compilations == 1
    for one, other in zip(jax.tree.leaves(states), jax.tree.leaves((head, body)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


# ---- extra state in a dict model


def test_extra_state_of_a_dict_model_is_written_kept_and_saved_as_by_hand(tmp_path):
    def centred(model, batch):
        model["mean"] = 0.9 * model["mean"] + 0.1 * batch["x"].mean(0)
        model["seen"] = model["seen"] + len(batch["x"])
        return loss_fn(model["net"], {**batch, "x": batch["x"] - model["mean"]})

    def make():
        return {"net": KIND.make(0), "mean": jnp.zeros(3), "seen": jnp.array(0)}

    beats = fb.four_beats(centred, optax.sgd(0.1), wrt=lambda path, leaf: path[0] == "net")
    state, step = beats.init(make()), fb.compile(beats.train_step, on_recompile="raise")
    params, mean, tx = KIND.make(0), jnp.zeros(3), optax.sgd(0.1)

    @jax.jit
    def by_hand(params, mean, batch):
        mean = 0.9 * mean + 0.1 * batch["x"].mean(0)
        grads = jax.grad(mean_loss)(params, {**batch, "x": batch["x"] - mean})
        updates, _ = tx.update(grads, tx.init(params), params)
        return optax.apply_updates(params, updates), mean, optax.tree.norm(grads)

    for batch in batches():
        params, mean, _ = by_hand(params, mean, batch)
        state, _ = step(state, batch)
    assert_bit_equal((state.params["net"], state.rest["mean"]), (params, mean))
    assert int(state.model["seen"]) == 8 * STEPS
    with fb.Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(STEPS, state)
        checkpoints.wait()
        assert_bit_equal(checkpoints.restore(beats.init(make())), state)


# ---- a step inside of a loss


def test_a_train_step_inside_of_a_loss_is_maml():
    inner = fb.four_beats(loss_fn, optax.sgd(0.3))

    def outer_loss(model, task):
        def of_task(support, query):
            state = inner.init(model)
            for _ in range(2):
                state, _ = inner.train_step(state, support)
            return loss_fn(state.params, query).mean()

        return jax.vmap(of_task)(task["support"], task["query"])

    def by_hand(params, task):
        def of_task(support, query):
            adapted = params
            for _ in range(2):
                grads = jax.grad(mean_loss)(adapted, support)
                adapted = jax.tree.map(lambda p, g: p - 0.3 * g, adapted, grads)
            return mean_loss(adapted, query)

        return jax.vmap(of_task)(task["support"], task["query"]).mean()

    stacked = lambda seeds: jax.tree.map(lambda *leaves: np.stack(leaves), *(KIND.batch(s, 8) for s in seeds))
    task = {"support": stacked((0, 1, 2)), "query": stacked((3, 4, 5))}
    outer = fb.four_beats(outer_loss, optax.sgd(0.1))
    state = outer.init(KIND.make(0))
    grads, out = jax.jit(outer.gradient)(state, task)
    loss, expected = jax.jit(jax.value_and_grad(by_hand))(KIND.make(0), task)
    np.testing.assert_allclose(out.loss, loss, rtol=1e-6)
    first_order = jax.jit(jax.grad(mean_loss))(KIND.make(0), KIND.batch(3, 8))
    for name in ("w", "b"):
        np.testing.assert_allclose(grads[name], expected[name], rtol=2e-5, atol=1e-7)
        assert not np.allclose(grads[name], first_order[name], rtol=1e-2)
    step = fb.compile(outer.train_step)
    state, _ = step(state, task)
    np.testing.assert_allclose(state.params["w"], KIND.make(0)["w"] - 0.1 * expected["w"], rtol=1e-5)


def test_maml_of_a_module():
    inner = fb.four_beats(net_loss, optax.sgd(0.3))

    def outer_loss(model, task):
        adapted, _ = inner.train_step(inner.init(model), task["support"])
        return net_loss(adapted.model, task["query"])

    def by_hand(params, rest, graph, task):
        def mean(params, batch, train):
            model = nnx.merge(graph, params, rest, copy=True)
            model.train() if train else model.eval()
            loss = net_loss(model, batch).mean()
            return loss, nnx.state(model, nnx.Not(nnx.Param))

        grads, after = jax.grad(mean, has_aux=True)(params, task["support"], True)
        adapted = jax.tree.map(lambda p, g: p - 0.3 * g, params, grads)
        model = nnx.merge(graph, adapted, after, copy=True)
        model.eval()
        return net_loss(model, task["query"]).mean()

    task = {"support": KIND.batch(0, 8), "query": KIND.batch(1, 8)}
    outer = fb.four_beats(outer_loss, optax.sgd(0.1))
    grads, _ = jax.jit(outer.gradient)(outer.init(Net(0)), task)
    graph, params, rest = nnx.split(Net(0), nnx.Param, ...)
    expected = jax.jit(jax.grad(by_hand), static_argnums=2)(params, rest, graph, task)
    for one, other in zip(jax.tree.leaves(grads), jax.tree.leaves(nnx.to_pure_dict(expected)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


# ---- optimizers that ask for more


def with_function(name):
    """The step of docs/own-steps.md: the loss as a function of the parameters, under the name asked for."""

    def step(beats, state, batch):
        grads, out = beats.gradient(state, batch)
        loss_of = lambda params: beats.loss(state.replace(params=params), batch)[0]
        return beats.update(state, grads, out, **{name: loss_of})

    return step


# those of a line search, too: tests/beats/test_every_optimizer.py
ASK_FOR_MORE = {
    "lbfgs without line search": (lambda: optax.lbfgs(0.1, linesearch=None), "value_fn"),
    "sophia": (lambda: optax.contrib.sophia(1e-2, update_interval=2), "obj_fn"),
}


@pytest.mark.parametrize("name", ASK_FOR_MORE)
def test_an_optimizer_that_asks_for_the_loss_has_every_bit_of_the_loop_by_hand(name):
    make, argument = ASK_FOR_MORE[name]
    tx = make()
    params, opt_state = KIND.make(0), tx.init(KIND.make(0))

    @jax.jit
    def by_hand(params, opt_state, batch):
        value, grads = jax.value_and_grad(mean_loss)(params, batch)
        norm = optax.tree.norm(grads)
        extra = {argument: lambda params: mean_loss(params, batch), "value": value, "grad": grads}
        updates, opt_state = tx.update(grads, opt_state, params, **extra)
        return optax.apply_updates(params, updates), opt_state, norm

    beats = fb.four_beats(loss_fn, make())
    state, step = beats.init(KIND.make(0)), fb.compile(partial(with_function(argument), beats))
    losses = []
    for batch in batches():
        params, opt_state, _ = by_hand(params, opt_state, batch)
        state, logs = step(state, batch)
        losses.append(float(logs["loss"]))
    assert_bit_equal(state.params, params)
    assert step.num_compilations == 1


def test_partition_by_path_has_every_bit_of_the_loop_by_hand():
    def by_kind(params):
        return jax.tree.map_with_path(lambda path, _: "bias" if path[-1].key == "bias" else "other", params)

    make = lambda: optax.partition({"bias": optax.sgd(0.2), "other": optax.adam(1e-2)}, by_kind)
    model = Net(0)
    model.train()
    labels = nnx.map_state(
        lambda path, _: "bias" if path[-1] == "bias" else "other", nnx.state(model, nnx.Param)
    )
    by_hand = nnx.Optimizer(
        model, optax.partition({"bias": optax.sgd(0.2), "other": optax.adam(1e-2)}, labels), wrt=nnx.Param
    )

    @nnx.jit
    def hand_step(model, optimizer, batch):
        grads = nnx.grad(lambda model: net_loss(model, batch).mean())(model)
        optimizer.update(model, grads)
        return optax.tree.norm(grads)

    beats = fb.four_beats(net_loss, make())
    state, step = beats.init(Net(0)), fb.compile(beats.train_step)
    for batch in batches():
        hand_step(model, by_hand, batch)
        state, _ = step(state, batch)
    theirs = jax.tree.leaves(nnx.to_pure_dict(nnx.state(model, nnx.Param)))
    for one, other in zip(jax.tree.leaves(state.params), theirs, strict=True):
        np.testing.assert_array_equal(one, other)
