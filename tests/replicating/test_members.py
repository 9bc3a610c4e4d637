"""Members of replicas against their runs alone, and against loops written by hand in JAX and Optax."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fourbeat as fb
from fourbeat.control import MemberStopping
from fourbeat.replicating import SameMembersWarning, SlowReplicasWarning
from tests.kinds import KINDS

SEEDS, RATES = [3, 4, 5], [0.01, 0.1, 0.02]
LINEAR, CNN = KINDS["dict"], KINDS["cnn"]
BATCHES = [LINEAR.batch(seed, 16) for seed in range(4)]


def beats_of(kind, **options):
    def loss_fn(model, batch):
        losses, logits = kind.items(model, batch)
        return losses, {"logits": logits}

    return fb.four_beats(
        loss_fn,
        optax.inject_hyperparams(optax.sgd)(learning_rate=0.1, momentum=0.9),
        metrics=fb.metrics.Collection(loss=fb.metrics.Mean("loss")),
        predict=lambda model, batch: kind.items(model, batch)[1],
        **options,
    )


class Sweep:
    """Replicas of a kind, their compiled steps, and the step of one member."""

    def __init__(self, kind, vmapped):
        self.kind, self.vmapped, self.beats = kind, vmapped, beats_of(kind, guard=fb.guard.skip())
        self.one = fb.compile(self.beats.train_step, donate=False)
        self.members = self.replicas(RATES)
        self.step = fb.compile(self.members.train_step, donate=False)
        self.first = self.members.init(kind.make)

    def replicas(self, rates):
        return fb.replicas(self.beats, 3, over={"seed": SEEDS, "learning_rate": rates}, vmapped=self.vmapped)

    def alone(self, place, batches):
        """The run of one member alone."""
        state = self.beats.init(self.kind.make(SEEDS[place]), key=SEEDS[place])
        held = state.opt_state
        hyperparams = {**held.hyperparams, "learning_rate": RATES[place]}
        state = state.replace(opt_state=held._replace(hyperparams=hyperparams))
        for batch in batches:
            state, logs = self.one(state, batch)
        return state, logs


@pytest.fixture(scope="module")
def vmapped():
    return Sweep(LINEAR, None)


@pytest.fixture(scope="module")
def in_turn():
    return Sweep(LINEAR, False)


def run(step, state, batches=BATCHES):
    for batch in batches:
        state, logs = step(state, batch)
    return state, logs


def assert_equal(one, other):
    leaves = [jax.device_get(jax.tree.leaves(tree)) for tree in (one, other)]
    for leaf, expected in zip(*leaves, strict=True):
        np.testing.assert_array_equal(leaf, expected)


def assert_close(one, other):
    for leaf, expected in zip(*(jax.tree.leaves(tree) for tree in (one, other)), strict=True):
        np.testing.assert_allclose(leaf, expected, rtol=1e-6, atol=1e-6)


def by_hand(place):
    """One member in plain JAX and Optax."""
    tx = optax.sgd(RATES[place], momentum=0.9)
    params = LINEAR.make(SEEDS[place])
    opt_state, losses = tx.init(params), []

    @jax.jit
    def step(params, opt_state, batch):
        loss, grads = jax.value_and_grad(lambda params: LINEAR.items(params, batch)[0].mean())(params)
        updates, opt_state = tx.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, loss

    for batch in BATCHES:
        params, opt_state, loss = step(params, opt_state, batch)
        losses.append(float(loss))
    return params, losses


def test_vmapped_members_equal_their_runs_alone_and_those_by_hand(vmapped):
    state, logs = run(vmapped.step, vmapped.first)
    assert state.vmapped and int(state.step) == 4 and vmapped.step.num_compilations == 1
    for place in range(3):
        alone, alone_logs = vmapped.alone(place, BATCHES)
        params, losses = by_hand(place)
        assert_close(state.member(place), alone)
        assert_close(state.member(place).params, params)
        np.testing.assert_allclose(logs["loss"][place], losses[-1], rtol=1e-6)
        np.testing.assert_allclose(logs["grad_norm"][place], alone_logs["grad_norm"], rtol=1e-6)


def test_members_one_after_the_other_equal_their_runs_alone_to_the_bit(in_turn):
    state, logs = run(in_turn.step, in_turn.first)
    for place in range(3):
        alone, alone_logs = in_turn.alone(place, BATCHES)
        assert_equal(state.member(place), alone)
        assert_equal({name: log[place] for name, log in logs.items()}, alone_logs)


def test_convolutions_with_batch_statistics_and_dropout_are_stepped_in_turn_to_the_bit():
    sweep, batches = Sweep(CNN, None), [CNN.batch(seed, 8) for seed in range(2)]
    state = sweep.first
    assert repr(state) == "ReplicasState(step=0, 3 members, one after the other in one program)"
    state, _ = run(sweep.step, state, batches)
    assert_equal(state.member(1), sweep.alone(1, batches)[0])
    seen, state = state.pop_metrics()
    assert seen["loss"].shape == (3,)
    slow = fb.replicas(sweep.beats, 2, over={"seed": [0, 1]}, vmapped=True)
    with pytest.warns(SlowReplicasWarning, match=r"fb\.replicas\(\.\.\., vmapped=False\)"):
        jax.eval_shape(slow.train_step, slow.init(CNN.make), batches[0])


@pytest.mark.parametrize("way", ["vmapped", "in_turn"])
def test_a_member_that_stops_or_breaks_changes_no_bit_of_another(way, request):
    sweep = request.getfixturevalue(way)
    whole, _ = run(sweep.step, sweep.first)
    half, _ = run(sweep.step, sweep.first, BATCHES[:2])
    stopped = half.stop([False, True, False])
    after, logs = run(sweep.step, stopped, BATCHES[2:])
    assert after.running.tolist() == [True, False, True] and int(after.step) == 4
    assert np.isnan(logs["loss"]).tolist() == [False, True, False]
    assert_equal(after.member(1), half.member(1))
    assert int(after.member(1).step) == 2
    for place in (0, 2):
        assert_equal(after.member(place), whole.member(place))

    broken, _ = run(sweep.step, sweep.replicas([RATES[0], float("nan"), RATES[2]]).init(LINEAR.make))
    for place in (0, 2):
        assert_equal(broken.member(place), whole.member(place))
    assert_equal(broken.member(1).params, sweep.first.member(1).params)
    report = fb.guard.check(broken, raises=False)
    assert not report.ok and report.num_bad == 4
    assert report.text.startswith("member 1: step 4 was skipped: params['b'] has")
    assert fb.guard.check(whole).text == "No step of any member was skipped as bad."


@pytest.mark.parametrize("way", ["vmapped", "in_turn"])
def test_scores_predictions_blocks_and_resuming(way, request, tmp_path):
    sweep = request.getfixturevalue(way)
    whole, _ = run(sweep.step, sweep.first)
    half, _ = run(sweep.step, sweep.first, BATCHES[:2])
    with fb.Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(half.step, half.stop([False, False, True]))
        found = checkpoints.restore(sweep.first)
    assert found.running.tolist() == [True, True, False]
    resumed, _ = run(sweep.step, found, BATCHES[2:])
    for place in (0, 1):
        assert_equal(resumed.member(place), whole.member(place))
    assert_equal(resumed.member(2), half.member(2))

    scores = fb.evaluator(sweep.members)(whole, BATCHES)
    outputs = fb.predictor(sweep.members)(whole, BATCHES)
    assert outputs.shape == (64, 3, 2)
    for place, state in enumerate(whole.members):
        np.testing.assert_allclose(
            scores["loss"][place], fb.evaluator(sweep.beats)(state, BATCHES)["loss"], rtol=1e-6
        )
        np.testing.assert_allclose(
            outputs[:, place], fb.predictor(sweep.beats)(state, BATCHES), rtol=1e-5, atol=1e-6
        )
    seen, emptied = whole.pop_metrics()
    np.testing.assert_allclose(emptied.metrics.reset().compute()["loss"], [np.nan] * 3)
    np.testing.assert_allclose(seen["loss"][1], np.mean(by_hand(1)[1]), rtol=1e-6)
    step = fb.compile(sweep.members.train_step)
    state = sweep.first.replace()
    for tick in fb.loop(BATCHES, start=state.step, until=fb.at(steps=4), steps_per_call=2):
        state, _ = step(state, tick.batch)
    assert_close(state, whole)


def test_members_stop_by_their_own_scores(vmapped):
    stopping = MemberStopping(fb.EarlyStopping(patience=1), 3)
    state = vmapped.first
    for scores in ([3.0, 2.0, np.nan], [2.0, 2.0, np.nan], [1.0, 1.0, 0.0]):
        state, _ = vmapped.step(state, BATCHES[0])
        stopping = stopping.update(scores)
        state = state.stop(stopping.stopped)
    assert [int(member.step) for member in state.members] == [3, 2, 1]
    assert stopping.best_member == 0 and not stopping.should_stop
    np.testing.assert_array_equal(stopping.best, np.float32([1.0, 2.0, np.nan]))


def test_fields_of_members_are_replaced(vmapped, in_turn):
    for sweep in (vmapped, in_turn):
        state = sweep.first.replace(lr_scale=[1.0, 0.5, 0.0])
        after, _ = sweep.step(state, BATCHES[0])
        assert_equal(after.member(2).params, state.member(2).params)
        assert float(after.member(1).lr_scale) == 0.5


def test_members_of_one_model_differ_by_their_rates_alone():
    members = fb.replicas(beats_of(LINEAR), 2, over={"learning_rate": np.array([0.0, 0.1])})
    state = members.init(LINEAR.make(0), key=7)
    after, logs = members.train_step(state, BATCHES[0])
    np.testing.assert_allclose(logs["learning_rate"], [0.0, 0.1])
    assert_equal(after.member(0).params, LINEAR.make(0))
    grads, out = members.gradient(state, BATCHES[0])
    assert_close(members.update(state, grads, out)[0], after)
    scaled = fb.four_beats(lambda m, b, scale: scale * LINEAR.items(m, b)[0], optax.sgd(0.1))
    twice, _ = fb.replicas(scaled, 2).loss(fb.replicas(scaled, 2).init(LINEAR.make(0)), BATCHES[0], scale=2.0)
    loss, aux = members.loss(state, BATCHES[0])
    np.testing.assert_allclose(twice, 2 * loss, rtol=1e-6)
    assert loss.shape == (2,) and aux["logits"].shape == (2, 16, 2)
    with pytest.warns(SameMembersWarning, match="3 members with seeds of their own begin with the same"):
        fb.replicas(beats_of(LINEAR), 3, over={"seed": SEEDS}).init(LINEAR.make(0))


def test_a_field_of_one_run_is_said_to_be_with_the_members(vmapped):
    with pytest.raises(AttributeError) as raised:
        vmapped.beats.train_step(vmapped.first, BATCHES[0])
    assert str(raised.value) == (
        "the state of replicas has no attribute 'static'. What a TrainState has, each member has: "
        "state.member(0).static. The beats of fb.replicas take the state as it is."
    )


def _refusals():
    beats, plain = beats_of(LINEAR), fb.four_beats(lambda m, b: m["w"] * b["x"], optax.adam(1e-3))
    scheduled = fb.four_beats(
        lambda m, b: m["w"] * b["x"],
        optax.inject_hyperparams(optax.sgd)(learning_rate=optax.constant_schedule(0.1)),
    )
    two = fb.four_beats(
        lambda m, b: m["w"] * b["x"],
        optax.chain(*[optax.inject_hyperparams(optax.sgd)(learning_rate=0.1)] * 2),
    )
    scalar = {"w": jnp.zeros(())}
    rate = {"learning_rate": [0.1, 0.2]}
    return {
        "beats": (lambda: fb.replicas(None, 2), "beats is None; expected what fb.four_beats gives."),
        "n": (lambda: fb.replicas(beats, 0), "n is 0; expected a number of members of at least 1."),
        "values": (
            lambda: fb.replicas(beats, 3, over=rate),
            "over['learning_rate'] has 2 values for 3 members. Give one value a member.",
        ),
        "seeds": (
            lambda: fb.replicas(beats, 2, over={"seed": [0.5, 1]}),
            "over['seed'] has the value 0.5; expected ints, from which models and keys are made.",
        ),
        "one value": (
            lambda: fb.replicas(beats, 2, over={"learning_rate": 0.1}),
            "over['learning_rate'] is 0.1; expected one value a member: a list, a range or an array.",
        ),
        "no hyperparameter": (
            lambda: fb.replicas(plain, 2, over=rate).init(scalar),
            "over has 'learning_rate', and the optimizer has no hyperparameter of that name in its state: it "
            "holds none. Make it with optax.inject_hyperparams, such as "
            "optax.inject_hyperparams(optax.adamw)(learning_rate=...).",
        ),
        "another": (
            lambda: fb.replicas(beats, 2, over={"decay": [0.1, 0.2]}).init(LINEAR.make(0)),
            "over has 'decay', and the optimizer has no hyperparameter of that name in its state: it holds "
            "learning_rate, momentum. Make it with optax.inject_hyperparams, such as "
            "optax.inject_hyperparams(optax.adamw)(decay=...).",
        ),
        "schedule": (
            lambda: fb.replicas(scheduled, 2, over=rate).init(scalar),
            "over has 'learning_rate', and in this optimizer a schedule sets it at every step, so it cannot "
            "vary over the members. Give inject_hyperparams a number, and let the schedule multiply it: "
            "optax.chain(tx, optax.scale_by_schedule(schedule)), where the schedule begins at 1.",
        ),
        "several": (
            lambda: fb.replicas(two, 2, over=rate).init(scalar),
            "over has 'learning_rate', and 2 parts of this optimizer have a hyperparameter of that name. "
            "Make one of them without optax.inject_hyperparams, or list it in its static_args.",
        ),
        "no seeds": (
            lambda: fb.replicas(beats, 2).init(LINEAR.make),
            'init was given a function of a seed, and over has no seeds. Pass over={"seed": [...]} with one '
            "seed a member, or a function without arguments.",
        ),
        "key": (
            lambda: fb.replicas(beats, 2, over={"seed": [0, 1]}).init(LINEAR.make, key=0),
            "key is 0, and the seeds vary: the key of each member is its seed. Leave key out.",
        ),
        "unlike": (
            lambda: fb.replicas(beats, 2, over={"seed": [1, 2]}).init(lambda seed: {"w": [scalar] * seed}),
            "the model of member 1 is built otherwise than that of member 0: ",
        ),
        "state of one": (
            lambda: fb.replicas(beats, 2).train_step(beats.init(LINEAR.make(0)), BATCHES[0]),
            "state is TrainState(step=0, 8 parameters in 2 arrays, with metrics); the beats of replicas take "
            "the state that their own init makes. For one member use the beats that replicas was given.",
        ),
        "stop": (
            lambda: fb.replicas(beats, 2).init(LINEAR.make(0)).stop([1, 0]),
            "which is int64 of shape (2,); expected one bool for each of the 2 members, True where it is to "
            "stop.",
        ),
        "scores": (
            lambda: MemberStopping(fb.EarlyStopping(patience=1), 2).update([1.0]),
            "MemberStopping.update takes one score for each of 2 members, not an array of shape (1,).",
        ),
    }  # fmt: skip


@pytest.mark.parametrize("what", _refusals())
def test_what_cannot_be_is_refused(what):
    act, text = _refusals()[what]
    with pytest.raises((TypeError, ValueError)) as raised:
        act()
    assert str(raised.value) == text or (what == "unlike" and str(raised.value).startswith(text))
