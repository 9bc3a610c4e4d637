"""evaluator: every example once, in evaluation mode, without touching the state."""

import dataclasses
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import fourbeat as fb
from tests.kinds import KINDS, assert_bit_equal
from tests.oracles.steps_by_hand import accuracy

KIND = KINDS["cnn"]


@pytest.fixture(scope="module")
def beats():
    def loss_fn(model, batch):
        loss, logits = KIND.items(model, batch)
        return loss, {"logits": logits, "labels": batch["label"]}

    return fb.four_beats(loss_fn, optax.sgd(0.1), metrics=fb.metrics.Accuracy())


def test_it_uses_the_states_metric_or_the_one_it_is_given_or_the_mean_loss(beats):
    state = beats.init(KIND.make(0))
    data = fb.data.Arrays(**KIND.batch(0, 21))
    batches = data.batches(8)
    right, loss = accuracy(KIND.items, state.model, [dict(data.columns)])
    before = jax.device_get(state)
    assert fb.evaluator(beats)(state, batches) == pytest.approx({"value": right})
    own = fb.metrics.Collection(loss=fb.metrics.Mean("loss"), right=fb.metrics.Accuracy())
    assert fb.evaluator(beats, own)(state, batches) == pytest.approx({"loss": loss, "right": right})
    assert fb.evaluator(beats)(state.replace(metrics=None), batches) == pytest.approx({"loss": loss})
    assert_bit_equal(state, before)


def test_any_iterable_of_dicts_will_do(beats):
    state = beats.init(KIND.make(0))
    plain = [KIND.batch(seed, 4) for seed in range(3)]
    right, _ = accuracy(KIND.items, state.model, plain)
    assert fb.evaluator(beats)(state, iter(plain)) == pytest.approx({"value": right})


def test_it_refuses_to_leave_examples_out_or_to_score_nothing(beats):
    state = beats.init(KIND.make(0))
    dropping = fb.data.Arrays(**KIND.batch(0, 21)).batches(8, remainder="drop")
    with pytest.raises(ValueError) as caught:
        fb.evaluator(beats)(state, dropping)
    assert str(caught.value) == (
        "evaluation would miss 5 examples: these batches drop what does not fill the last one. Use "
        "batches(..., remainder='pad'); padding counts nothing."
    )
    with pytest.raises(ValueError, match="there is nothing to evaluate: batches gave no batch at all"):
        fb.evaluator(beats)(state, [])


def test_predict_step_needs_no_labels_and_runs_in_evaluation_mode(beats):
    predicting = fb.four_beats(
        lambda model, batch: KIND.items(model, batch)[0],
        optax.sgd(0.1),
        predict=lambda model, batch: model(batch["x"]).argmax(-1),
    )
    state = predicting.init(KIND.make(0))
    images = KIND.batch(0, 6)["x"]
    step = jax.jit(predicting.predict_step)
    first, second = step(state, {"x": images}), step(state, {"x": images})
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first, np.asarray(state.model(images)).argmax(-1))


def plain(loss, **options):
    return fb.four_beats(
        loss, optax.sgd(0.1), predict=lambda model, batch: batch["x"] * model["w"], **options
    )


def squared(model, batch):
    return (batch["x"] * model["w"] - 1) ** 2


NOT_BATCHES = {
    "a dict": (
        {"x": np.ones(2)},
        "batches is one dict, not many batches. Pass the batches in a list: [batch].",
    ),
    "text": ("ab", "batches is one str, not many batches. Pass the batches in a list: [batch]."),
    "a data set": (
        fb.data.Arrays(x=[1.0]),
        "batches is the Arrays itself, which has no batch size. Pass data.batches(32).",
    ),
    "nothing": (
        None,
        "batches is of type NoneType, which cannot be iterated. Pass data.batches(...), a list of dicts, or "
        "an iterable of dicts.",
    ),
    "a list of columns": (
        [{"x": [1.0, 2.0]}],
        "batch['x'] is a list of 2, which is no array. Use np.asarray(batch['x']).",
    ),
    "tuples": (
        [(np.ones(2), np.ones(2))],
        "a batch is a dict of arrays, and this one is a tuple. Give each column a name, such as "
        '{"image": images, "label": labels}.',
    ),
    "arrays": (
        [np.ones(2)],
        "a batch is a dict of arrays, and this one is an ndarray. Give each column a name, such as "
        '{"image": images, "label": labels}.',
    ),
    "a list of None": (
        [None],
        "a batch is a dict of arrays, and this one is a NoneType. Give each column a name, such as "
        '{"image": images, "label": labels}.',
    ),
}


@pytest.mark.parametrize("make", [fb.evaluator, fb.predictor])
@pytest.mark.parametrize("kind", NOT_BATCHES)
def test_what_is_no_batches_is_refused_as_by_the_loop(kind, make):
    given, text = NOT_BATCHES[kind]
    our = plain(squared)
    with pytest.raises(TypeError) as caught:
        make(our)(our.init({"w": jnp.ones(())}), given)
    assert str(caught.value) == text
    with pytest.raises(TypeError) as caught:
        list(fb.loop(given, until=fb.at(steps=1)))
    assert str(caught.value) == text


def test_a_buffer_that_is_filled_again_is_scored_as_it_was():
    our, buffer = plain(squared), np.zeros(4, np.float32)

    def filled():
        for value in range(5):
            buffer[:] = value
            yield {"x": buffer}

    state = our.init({"w": jnp.ones(())})
    assert fb.evaluator(our)(state, filled()) == pytest.approx({"loss": np.mean((np.arange(5.0) - 1) ** 2)})
    np.testing.assert_array_equal(fb.predictor(our)(state, filled()), np.repeat(np.arange(5.0), 4))


class Sequence:
    """Batches by number, of a length, that do not end by an IndexError."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return {"x": np.full(2, index, np.float32)}


@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("batch_size", [1, 3, 4, 10, 16])
def test_a_predictor_gives_every_row_once(batch_size, resident):
    our = fb.four_beats(
        squared, optax.sgd(0.1), predict=lambda model, batch: {"twice": 2 * batch["x"], "pair": batch["pair"]}
    )
    x, pair = np.arange(10, dtype=np.float32), np.arange(20).reshape(10, 2)
    weight = np.array([0, 1] * 5, np.float32)  # an example that weighs nothing is an example
    data = fb.data.Arrays(x=x, pair=pair, weight=weight)
    predict = fb.predictor(our)
    got = predict(our.init({"w": jnp.ones(())}), data.batches(batch_size, resident=resident))
    assert {type(leaf) for leaf in jax.tree.leaves(got)} == {np.ndarray}
    np.testing.assert_array_equal(got["twice"], 2 * x)
    np.testing.assert_array_equal(got["pair"], pair)


def test_a_predictor_compiles_once_and_takes_any_batches():
    traces = []

    def predict(model, batch):
        traces.append(1)
        return batch["x"] * model["w"]

    our = fb.four_beats(squared, optax.sgd(0.1), predict=predict)
    state, predict = our.init({"w": jnp.full((), 3.0)}), fb.predictor(our)
    expected = [0, 0, 3, 3, 6, 6]
    assert predict(state, Sequence()).tolist() == expected
    assert predict(state, (Sequence()[i] for i in range(3))).tolist() == expected
    assert predict(state, [Sequence()[i] for i in range(3)]).tolist() == expected
    assert len(traces) == 1


RESETS = []


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Largest(fb.metrics.Metric):
    """The largest value of each of `size` equal ones."""

    seen: jax.Array

    def update(self, /, *, weight=None, **values):
        return Largest(jnp.maximum(self.seen, values["loss"].max()))

    def merge(self, other):
        return Largest(jnp.maximum(self.seen, other.seen))

    def compute(self):
        return self.seen[0]

    def reset(self):
        RESETS.append(self.seen.size)
        return Largest(jnp.full(self.seen.shape, -jnp.inf))


@pytest.mark.parametrize(("size", "resets"), [(1, 1), (2**17, 3)])
def test_small_totals_are_made_once_for_a_metric_and_each_evaluation_begins_with_them(size, resets):
    our = plain(squared)
    evaluate = fb.evaluator(our, Largest(jnp.zeros(size)))
    batches = [{"x": np.float32([4.0, 1.0])}, {"x": np.float32([2.0, 1.0])}]
    RESETS.clear()
    scores = [evaluate(our.init({"w": jnp.float32(w)}), batches)["value"] for w in (2.0, 0.0, 1.0)]
    assert scores == [49.0, 1.0, 9.0]
    assert [size] * resets == RESETS


def test_batches_of_the_host_and_large_totals_are_scored_in_one_program_each(monkeypatch):
    """Large totals are donated, small ones are not; nothing is placed by a call of its own."""
    traces = []

    def loss_fn(model, batch):
        traces.append(None)
        return squared(model, batch), {"logits": jnp.eye(300)[batch["label"]], "labels": batch["label"]}

    our = plain(loss_fn)
    state = our.init({"w": jnp.ones(())})
    x, label = np.linspace(0, 2, 21, dtype=np.float32), np.arange(21) % 3
    batches = fb.data.Arrays(x=x, label=label).batches(4, resident=False)
    own = fb.metrics.Collection(
        loss=fb.metrics.Mean("loss"), counts=fb.metrics.ConfusionMatrix(num_classes=300)
    )
    large, small = fb.evaluator(our, own), fb.evaluator(our)
    monkeypatch.setattr(jax, "device_put", lambda *args, **kwargs: pytest.fail("placed"))
    for _ in range(2):
        scores = large(state, batches)
        assert scores["loss"] == small(state, batches)["loss"] == pytest.approx(((x - 1) ** 2).mean())
        assert np.array_equal(np.asarray(scores["counts"])[:3, :3], 7 * np.eye(3))
    assert len(traces) == 2


FUSED = {
    "padded": (fb.data.Arrays(x=np.linspace(0, 2, 267, dtype=np.float32)).batches(2), {}),
    "on the host": (
        fb.data.Arrays(x=np.linspace(0, 2, 267, dtype=np.float32)).batches(2, resident=False),
        {},
    ),
    "one whole batch": (fb.data.Arrays(x=np.linspace(0, 2, 5, dtype=np.float32)).batches(5), {}),
    "mapped with keys": (
        fb.data.Arrays(x=np.linspace(0, 2, 140, dtype=np.float32))
        .map(lambda batch, key: {"x": batch["x"] + jax.random.uniform(key)})
        .batches(2, seed=3),
        {},
    ),
    "a key for each batch": (
        fb.data.Arrays(x=np.linspace(0, 2, 140, dtype=np.float32)).batches(2),
        {"key": 5},
    ),
}


@pytest.mark.parametrize("kind", FUSED)
def test_batches_on_the_device_are_scored_many_a_call_as_one_by_one(kind, monkeypatch):
    batches, options = FUSED[kind]
    traces, calls = [], []

    def loss_fn(model, batch, key):
        traces.append(None)
        return squared(model, batch) + (0 if key is None else jax.random.uniform(key))

    our = plain(loss_fn)
    state, evaluate = our.init({"w": jnp.ones(())}), fb.evaluator(our, **options)
    stacked = type(batches).stacked
    monkeypatch.setattr("fourbeat.evaluating.programs._FUSED", 64)
    monkeypatch.setattr(type(batches), "stacked", lambda *args: calls.append(args[1:]) or stacked(*args))
    scores = [evaluate(state, batches)["loss"] for _ in range(2)]
    starts = range(0, len(batches) if len(batches) > 1 else 0, 64)  # one batch is no stack
    assert calls == [(start, min(64, len(batches) - start), 64) for start in starts] * 2
    assert len(traces) == 1
    one_by_one = fb.evaluator(our, **options)(state, (batch for batch in batches))["loss"]
    assert scores == pytest.approx([one_by_one] * 2, rel=1e-6)


@pytest.mark.parametrize("carry", [False, True])
@pytest.mark.parametrize("resident", [False, True])
def test_small_batches_are_predicted_many_a_call_as_one_by_one(resident, carry, monkeypatch):
    monkeypatch.setattr("fourbeat.evaluating.programs._FUSED", 4)
    traces, calls = [], []

    def predict(model, batch):
        traces.append(None)
        return {"times": model(batch["x"]), "label": batch["label"]}

    our = fb.four_beats(lambda model, batch: model(batch["x"]), optax.sgd(0.1), predict=predict)
    state, predict = our.init(Counting() if carry else Product()), fb.predictor(our, carry=carry)
    x, label = np.linspace(1, 2, 19, dtype=np.float32), np.arange(19)
    times = (1 + np.arange(19) // 2 if carry else np.ones(19)).astype(np.float32)
    order = fb.data.by_length(np.arange(19) % 7, bounds=(8,))
    data = fb.data.Arrays(x=x, label=label)
    batches = data.batches(2, order=None if carry else order, resident=resident)
    stacked = type(batches).stacked
    monkeypatch.setattr(type(batches), "stacked", lambda *args: calls.append(args[1:]) or stacked(*args))
    for _ in range(2):
        found = predict(state, batches)
        assert found["label"].tolist() == label.tolist()
        assert_bit_equal(found["times"], x * times)
    assert calls == [(0, 4, 4), (4, 4, 4), (8, 2, 4)] * 2
    assert len(traces) == 1


def test_large_batches_of_the_host_and_those_of_a_source_are_read_one_by_one(monkeypatch):
    our, x = plain(squared), np.ones((6, 2**17), np.float32)
    state, read = our.init({"w": jnp.ones(())}), []
    source = fb.data.Examples([{"x": row} for row in x[:, :4]], decode=lambda row: read.append(0) or row)
    monkeypatch.setattr(fb.data.Batches, "stacked", lambda *args: pytest.fail("stacked"))
    for batches in (fb.data.Arrays(x=x).batches(2, resident=False), source.batches(2)):
        assert fb.evaluator(our)(state, batches) == {"loss": 0.0}
        assert fb.predictor(our)(state, batches).shape[0] == 6
    assert len(read) == 12


def test_a_convolution_is_not_scored_in_a_loop_on_a_cpu(beats, monkeypatch):
    """XLA runs it ten times slower there; the trace that tells is that of the program which then runs."""
    batches = fb.data.Arrays(**KIND.batch(0, 12)).batches(4)
    monkeypatch.setattr("fourbeat.evaluating.programs._FUSED", 64)
    monkeypatch.setattr(type(batches), "stacked", lambda *args: pytest.fail("stacked"))
    fb.evaluator(beats)(beats.init(KIND.make(0)), batches)


def test_a_predictor_refuses_what_would_lose_or_misplace_examples():
    our = fb.four_beats(squared, optax.sgd(0.1), predict=lambda model, batch: {"mean": batch["x"].mean()})
    state, data = our.init({"w": jnp.ones(())}), fb.data.Arrays(x=np.arange(10.0))
    refused = {
        "prediction would miss 2 examples: these batches drop what does not fill the last one. Use "
        "batches(..., remainder='pad'); padding counts nothing.": data.batches(4, remainder="drop"),
        "these batches are shuffled, so the entries of a prediction would be in another order than the "
        "data's. Use batches(..., shuffle=False).": data.batches(4, shuffle=True),
        "predict returned outputs['mean'] of shape () for a batch of 4 examples. Return arrays of one entry "
        "an example.": data.batches(4),
        "there is nothing to predict: batches gave no batch at all.": [],
    }
    for text, batches in refused.items():
        with pytest.raises(ValueError) as caught:
            fb.predictor(our)(state, batches)
        assert str(caught.value) == text


class Recurrent(nnx.Module):
    """Its carry goes from call to call; the mean of its inputs so far."""

    def __init__(self, kind=nnx.Variable):
        self.scale = nnx.Param(jnp.ones(()))
        self.carry = kind(jnp.zeros(()))
        self.count = nnx.BatchStat(jnp.zeros((), jnp.int32))

    def __call__(self, x):
        self.carry[...] = 0.5 * self.carry[...] + x.mean()
        self.count[...] += 1
        return self.scale * (x + self.carry[...])


def recurrent_loss(model, batch):
    return (model(batch["x"]) - batch["y"]) ** 2


def recurrent(kind=nnx.Variable, batches=5):
    our = fb.four_beats(recurrent_loss, optax.sgd(0.1))
    random = np.random.RandomState(0)
    columns = [random.standard_normal((2, 4)).astype(np.float32) for _ in range(batches)]
    return our, our.init(Recurrent(kind)), [{"x": x, "y": y} for x, y in columns]


def test_a_carry_goes_through_the_batches_of_an_evaluation_in_one_compilation():
    our, state, batches = recurrent()
    state = state.replace(rest={"carry": 0.75, "count": state.rest["count"]})
    traces = []

    def counted(*args, **kwargs):
        traces.append(1)
        return our.eval_step(*args, **kwargs)

    evaluate = fb.evaluator(our._replace(eval_step=counted), carry=True)
    before = jax.device_get(state)
    carry, losses = 0.75, []
    for batch in batches:
        carry = 0.5 * carry + batch["x"].mean()
        losses.append(((batch["x"] + carry - batch["y"]) ** 2).mean())
    for _ in range(2):  # each evaluation starts from the state's own
        assert evaluate(state, batches) == pytest.approx({"loss": np.mean(losses)}, rel=1e-5)
    assert len(traces) == 1
    columns = {name: np.concatenate([batch[name] for batch in batches]) for name in ("x", "y")}
    resident = fb.data.Arrays(**columns).batches(len(batches[0]["x"]))  # several in a call
    assert evaluate(state, resident) == pytest.approx({"loss": np.mean(losses)}, rel=1e-5)
    assert len(traces) == 2
    assert_bit_equal(state, before)


def test_a_lost_write_is_warned_of_once_a_compilation():
    our, state, batches = recurrent()
    evaluate = fb.evaluator(our)
    text = (
        "evaluation loses what the forward pass writes to model.carry: every batch starts from the state's "
        "own. Let it go from batch to batch with fb.evaluator(beats, carry=True), or write it in training "
        "alone; a variable that follows training should be an nnx.BatchStat."
    )
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        scores = evaluate(state, batches)
        evaluate(state, batches)
    assert [warning.category for warning in told] == [fb.beats.DroppedWriteWarning]
    assert [str(warning.message) for warning in told] == [text]
    by_hand = [((b["x"] + b["x"].mean() - b["y"]) ** 2).mean() for b in batches]
    assert scores == pytest.approx({"loss": np.mean(by_hand)}, rel=1e-5)


class Memory(nnx.Module):
    def __init__(self):
        self.seen, self.other = nnx.Variable(jnp.zeros(())), nnx.Variable(jnp.ones(()))


def remembering(write, precision):
    """A model that hands its memory through a compiled call, which writes back all that it was given."""

    class Net(nnx.Module):
        def __init__(self, rngs):
            self.linear, self.memory = nnx.Linear(4, 4, rngs=rngs), Memory()
            self.norm, self.dropout = nnx.BatchNorm(4, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)
            self.random = nnx.RngStream(0, tag="noise")

        def __call__(self, x):
            return self.linear(self.dropout(self.norm(write(self, x))))

    def loss(model, batch):
        return (model(batch["x"]) ** 2).mean(-1)

    our = fb.four_beats(loss, optax.sgd(0.1), precision=precision)
    return our, our.init(Net(nnx.Rngs(0))), [{"x": np.ones((2, 4), np.float32)}]


def to_a_statistic(net, x):
    net.norm.mean[...] += 1
    return x


def to_random_state(net, x):
    return x + jax.random.normal(net.random(), x.shape)


def to_nothing(net, x):
    return nnx.jit(lambda memory, x: x * memory.other[...])(net.memory, x)


def to_one_of_two(net, x):
    def inner(memory, x):
        memory.seen[...] += 1
        return x * memory.other[...]

    return nnx.jit(inner)(net.memory, x)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("write", [to_a_statistic, to_random_state, to_nothing])
def test_writes_that_are_meant_to_be_lost_and_values_handed_through_are_not_warned_of(write, precision):
    our, state, batches = remembering(write, precision)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fb.evaluator(our)(state, batches)


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_a_lost_write_beside_a_value_that_is_handed_through_is_named_alone(precision):
    our, state, batches = remembering(to_one_of_two, precision)
    with pytest.warns(fb.beats.DroppedWriteWarning, match=r"writes to model\.memory\.seen: every batch"):
        fb.evaluator(our)(state, batches)


def test_a_lost_write_to_a_dict_is_named_too():
    def loss(model, batch):
        model["seen"] = model["seen"] + 1
        return model["w"] * batch["x"]

    our = fb.four_beats(loss, optax.sgd(0.1), wrt=lambda path, leaf: path == ("w",))
    state = our.init({"w": jnp.ones(()), "seen": jnp.zeros(())})
    with pytest.warns(fb.beats.DroppedWriteWarning, match=r"writes to model\.seen: every batch"):
        fb.evaluator(our)(state, [{"x": np.ones(2)}])


def noisy(model, batch, key):
    return model["w"] * batch["x"] + jax.random.normal(key, batch["x"].shape)


@pytest.mark.parametrize("key", [3, jax.random.key(3), jax.random.PRNGKey(3)])
def test_a_loss_that_needs_its_key_gets_one_of_each_batch(key):
    our = fb.four_beats(noisy, optax.sgd(0.1))
    state, batches = our.init({"w": jnp.ones(())}), [{"x": np.full(4, i, np.float32)} for i in range(3)]
    by_hand = [
        b["x"] + jax.random.normal(jax.random.fold_in(jax.random.key(3), i), (4,))
        for i, b in enumerate(batches)
    ]
    evaluate = fb.evaluator(our, key=key)
    first, second = evaluate(state, batches), evaluate(state, batches)
    assert first == second == pytest.approx({"loss": float(np.mean(by_hand))}, rel=1e-5)


def test_an_error_says_that_the_key_is_none_in_evaluation():
    our = fb.four_beats(noisy, optax.sgd(0.1))
    with pytest.raises(Exception) as caught:
        fb.evaluator(our)(our.init({"w": jnp.ones(())}), [{"x": np.ones(4)}])
    assert caught.value.__notes__[0] == (
        "In evaluation the key of loss_fn is None: leave out there what is random. Or give it keys, "
        "fb.evaluator(beats, key=0)."
    )


def test_a_key_that_nobody_takes_is_refused():
    our = plain(squared)
    with pytest.raises(ValueError) as caught:
        fb.evaluator(our, key=0)(our.init({"w": jnp.ones(())}), [{"x": np.ones(4)}])
    assert str(caught.value) == (
        "evaluation has a key, and loss_fn takes none. Name one of its parameters `key`, or leave key= out."
    )


class Counting(nnx.Module):
    def __init__(self):
        self.count, self.w = nnx.Variable(jnp.zeros(())), nnx.Param(jnp.ones(()))

    def __call__(self, x):
        self.count[...] += 1.0
        return x * self.w * self.count


class Product(nnx.Module):
    def __init__(self):
        self.w = nnx.Param(jnp.ones(()))

    def __call__(self, x):
        return x * self.w


def test_a_prediction_warns_of_a_lost_write_and_carries_it_where_it_is_asked_to():
    call = lambda model, batch: model(batch["x"])
    beats = fb.four_beats(call, optax.sgd(0.1), predict=call)
    state, batches = beats.init(Counting()), [{"x": np.ones(2, np.float32)}] * 3
    with pytest.warns(fb.beats.DroppedWriteWarning) as caught:
        assert fb.predictor(beats)(state, batches).tolist() == [1] * 6
    assert [str(each.message) for each in caught] == [
        "prediction loses what the forward pass writes to model.count: every batch starts from the state's "
        "own. Let it go from batch to batch with fb.predictor(beats, carry=True), or write it in training "
        "alone; a variable that follows training should be an nnx.BatchStat."
    ]
    predict = fb.predictor(beats, carry=True)
    assert predict(state, batches).tolist() == [1, 1, 2, 2, 3, 3] == predict(state, batches).tolist()
    assert float(state.rest["count"]) == 0
