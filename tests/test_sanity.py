"""sanity.check: each fault is found, a sound setup passes, and training is as it was."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import fourbeat as fb
from fourbeat import guard, sanity
from tests.kinds import KINDS, assert_bit_equal


class Network(nnx.Module):
    def __init__(self, *, rngs):
        self.first = nnx.Linear(4, 16, rngs=rngs)
        self.drop = nnx.Dropout(0.1, rngs=rngs)
        self.spare = nnx.Linear(16, 3, rngs=rngs)
        self.head = nnx.Linear(16, 3, rngs=rngs)

    def __call__(self, x):
        return self.head(self.drop(nnx.relu(self.first(x))))


class Complete(Network):
    def __call__(self, x):
        x = self.drop(nnx.relu(self.first(x)))
        return self.head(x) + self.spare(x)


def loss_fn(model, batch):
    logits = model(batch["x"])
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
    return loss, {"logits": logits, "labels": batch["label"]}


def looks_at_mask(model, batch):
    loss, aux = loss_fn(model, batch)
    return loss, aux | {"masked": batch["mask"] * 2}  # no metric reads it


def make_batch(**changes):
    random = np.random.RandomState(0)
    x = random.standard_normal((32, 4)).astype(np.float32)
    return {"x": x, "label": random.randint(0, 3, 32).astype(np.int32)} | changes


def report_of(model, batch, *, loss=loss_fn, tx=None, edit=None, steps=0, **options):
    beats = fb.four_beats(loss, tx or optax.adam(1e-2), **options)
    state = beats.init(model(rngs=nnx.Rngs(0)))
    state = state if edit is None else edit(state)
    return sanity.check(beats, state, batch, overfit_steps=steps)


def all_dead(state):
    first = {**state.params["first"], "bias": jnp.full(16, -1.0).at[5:].set(-1e3)}
    return state.replace(params={**state.params, "first": first})


def huge_head(state):
    head = {**state.params["head"], "kernel": 100 * state.params["head"]["kernel"]}
    return state.replace(params={**state.params, "head": head})


LABELS = make_batch()["label"]
FAULTS = {
    "loss at initialisation": lambda: report_of(Complete, make_batch(), edit=huge_head),
    "labels in range": lambda: report_of(Complete, make_batch(label=np.where(LABELS == 2, 7, LABELS))),
    "inputs scaled": lambda: report_of(Complete, make_batch(x=100 * make_batch()["x"] + 128)),
    "columns read": lambda: report_of(Complete, make_batch(mask=np.ones(32, np.float32)), loss=looks_at_mask),
    "parameters with gradient": lambda: report_of(Network, make_batch()),
    "live units": lambda: report_of(Complete, make_batch(), edit=all_dead),
    "one batch overfitted": lambda: report_of(Complete, make_batch(), tx=optax.sgd(1e-6), steps=20),
}
SEEN = {
    "labels in range": "7 is not in 0..2: their loss is garbage or NaN. Give these labels a weight of 0",
    "columns read": "batch['mask'] changes neither loss, metrics nor other variables",
    "parameters with gradient": "params['spare']['bias'], params['spare']['kernel'] have none",
    "live units": "no gradient reaches 11 of 16 of params['first']['kernel']",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found_and_named(fault):
    report = FAULTS[fault]()
    assert not report.ok
    assert report[fault].status == "warn"
    if fault in SEEN:
        assert report[fault].seen == SEEN[fault]


def test_a_sound_setup_passes_and_the_table_says_so():
    beats = fb.four_beats(loss_fn, optax.adam(1e-2), guard=guard.skip())
    report = sanity.check(beats, beats.init(Complete(rngs=nnx.Rngs(0))), make_batch(), overfit_steps=40)
    assert report.ok
    assert [finding.status for finding in report.findings] == ["ok"] * 9
    lines = str(report).splitlines()
    assert [line[:24].strip() for line in lines] == [finding.check for finding in report.findings]
    assert lines[0].startswith("loss at initialisation    ok  ")
    assert "batch['x'] has mean" in lines[3]
    report.raise_if_bad()


def test_a_report_raises_what_it_shows():
    report = FAULTS["columns read"]()
    text = re.escape(f"columns read: {SEEN['columns read']}")
    with pytest.raises(sanity.SanityError, match=f"^{text}$") as raised:
        report.raise_if_bad()
    assert raised.value.report is report


def test_bad_numbers_and_labels_without_weight():
    x = make_batch()["x"].copy()
    x[3] = np.nan
    report = report_of(Complete, make_batch(x=x))
    assert report["inputs scaled"].seen.startswith("batch['x'] holds 4 NaN or Inf")
    assert report["loss at initialisation"].status == "warn"
    weight = np.float32(np.arange(32) < 30)
    label = np.where(weight > 0, LABELS, -1).astype(np.int32)
    assert report_of(Complete, make_batch(label=label, weight=weight))["labels in range"].status == "ok"


def test_pictures_of_bytes_are_inputs_and_tokens_are_none():
    def mean_of(model, batch):
        return model["w"] * batch["image"].mean((1, 2)) + batch["tokens"].sum(1)

    beats = fb.four_beats(mean_of, optax.sgd(0.1))
    batch = {"image": np.full((4, 2, 2), 200, np.uint8), "tokens": np.full((4, 3), 200, np.int32)}
    report = sanity.check(beats, beats.init({"w": jnp.zeros(())}), batch, overfit_steps=0)
    assert report["inputs scaled"].seen == (
        "batch['image'] has mean 200, deviation 0. Scale to about mean 0, deviation 1"
    )


def test_what_cannot_be_checked_is_skipped():
    beats = fb.four_beats(lambda m, b: (m["w"] - b["x"]) ** 2, optax.sgd(0.1))
    state = beats.init({"w": jnp.zeros(())})
    report = sanity.check(beats, state, {"x": np.ones(4, np.float32)}, overfit_steps=0)
    statuses = {finding.check: finding.status for finding in report.findings}
    assert statuses == {
        "loss at initialisation": "skip",
        "examples apart": "ok",
        "labels in range": "skip",
        "inputs scaled": "ok",
        "columns read": "ok",
        "gradients finite": "ok",
        "parameters with gradient": "ok",
        "live units": "skip",
        "one batch overfitted": "skip",
    }


def test_training_after_a_check_is_bit_equal_to_training_without():
    kind = KINDS["cnn"]
    beats = fb.four_beats(lambda m, b: kind.items(m, b)[0], optax.adam(1e-2), guard=guard.skip(), ema=0.9)
    data = fb.data.Arrays(**kind.batch(0, 24)).batches(8, shuffle=True, seed=0, remainder="drop")
    step = fb.compile(beats.train_step)
    ends = []
    for checked in (False, True):
        state = beats.init(kind.make(0), key=3)
        for n in range(3):
            if checked and n == 1:
                sanity.check(beats, state, data[n], overfit_steps=2)
            state, _ = step(state, data[n])
        ends.append(state)
    assert_bit_equal(*ends)


def column_against_row(model, batch):
    return (model(batch["x"])[:, :1] - batch["label"]) ** 2


def averaged_over_the_wrong_axis(model, batch):
    return column_against_row(model, batch).mean(-1)


def contrastive(model, batch):
    outputs = model(batch["x"])
    return optax.softmax_cross_entropy_with_integer_labels(outputs @ outputs.T, jnp.arange(len(outputs)))


def mean_over_the_batch(model, batch):
    return loss_fn(model, batch)[0].mean()


class Normalised(Complete):
    def __init__(self, *, rngs):
        super().__init__(rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)

    def __call__(self, x):
        return super().__call__(self.norm(x))


APART = {
    "a broadcast": (
        column_against_row,
        Complete,
        "error",
        "the loss has shape (32, 32) for 32 examples, and axis 1",
    ),
    "a mean over its axis": (
        averaged_over_the_wrong_axis,
        Complete,
        "warn",
        "example 16 changes the losses of 31 others, that",
    ),
    "contrasts": (
        contrastive,
        Complete,
        "warn",
        "example 16 changes the losses of",
    ),
    "batch statistics": (loss_fn, Normalised, "ok", "no other loss changes with example 16"),
    "a scalar": (mean_over_the_batch, Complete, "skip", "the loss is one value for the whole batch"),
}


@pytest.mark.parametrize("case", APART)
def test_whether_the_loss_of_one_example_depends_on_another(case):
    loss, model, status, seen = APART[case]
    report = report_of(model, make_batch(), loss=loss)
    assert report["examples apart"].status == status
    assert report["examples apart"].seen.startswith(seen)
    assert report.ok or status in ("warn", "error") or case == "a scalar"


def by_index(logits, label):
    return -nnx.log_softmax(logits)[jnp.arange(len(label)), label]


def by_one_hot(logits, label):
    return optax.softmax_cross_entropy(logits, nnx.one_hot(label, 3))


@pytest.mark.parametrize("column", ["label", "labels"])
@pytest.mark.parametrize(
    "item_loss",
    [optax.softmax_cross_entropy_with_integer_labels, by_index, by_one_hot],
    ids=lambda f: f.__name__,
)
@pytest.mark.parametrize(("wrong", "named"), [(-1, "-1 is"), (3, "3 is"), (None, None)])
def test_labels_are_named_without_logits_in_aux(column, item_loss, wrong, named):
    labels = LABELS.copy()
    labels[[2, 5]] = labels[[2, 5]] if wrong is None else wrong
    batch = {"x": make_batch()["x"], column: labels}
    report = report_of(Complete, batch, loss=lambda model, batch: item_loss(model(batch["x"]), batch[column]))
    finding = report["labels in range"]
    if wrong is None:
        assert (finding.status, finding.seen) == ("ok", "0..2 of 3 classes")
    else:
        advice = "their loss is garbage or NaN. Give these labels a weight of 0"
        assert (finding.status, finding.seen) == ("warn", f"{named} not in 0..2: {advice}")


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_a_guess_between_two_classes_is_log_2(reduction):
    def multi_label(model, batch):
        logits = model(batch["x"])
        loss = optax.sigmoid_binary_cross_entropy(logits, batch["labels"])
        return getattr(loss, reduction)(-1), {"logits": logits, "labels": batch["labels"]}

    def binary(model, batch):
        logits = model(batch["x"])[:, 0]
        return optax.sigmoid_binary_cross_entropy(logits, batch["label"]), {"logits": logits}

    x, random = make_batch()["x"], np.random.RandomState(1)
    many = random.randint(0, 2, (32, 3)).astype(np.int32)
    report = report_of(Complete, {"x": x, "labels": many}, loss=multi_label)
    assert report["loss at initialisation"].status == report["labels in range"].status == "ok"
    assert "a guess between two classes has 0.6931, and 2.079 summed over 3 labels" in (
        report["loss at initialisation"].seen
    )
    assert report["labels in range"].seen == "0..1 of 2 classes"
    wrong = report_of(Complete, {"x": x, "labels": np.where(many == 1, 2, many)}, loss=multi_label)
    assert wrong["labels in range"].status == "warn"
    two = report_of(Complete, {"x": x, "label": many[:, 0]}, loss=binary)
    assert two["loss at initialisation"].status == two["labels in range"].status == "ok"
    assert two["labels in range"].seen == "0..1 of 2 classes"


def log_once(x, is_used):
    return jnp.where(is_used, jnp.log(x), 0.0)


def log_twice(x, is_used):
    return jnp.where(is_used, jnp.log(jnp.where(is_used, x, 1.0)), 0.0)


def norm_of_examples(x, is_used):
    return jnp.linalg.norm(x, axis=-1)


EXAMPLE_5 = {"x": np.float32([1, 2, 3, 4, 5, 0]), "weight": np.float32([1, 1, 1, 0, 1, 0])}
TOKENS = {"x": np.float32([[1, 2], [0, 3], [4, 0]]), "weight": np.float32([[1, 1], [0, 1], [1, 0]])}
EXAMPLES = {"x": np.float32([[3, 4], [0, 0], [1, 1]]), "weight": np.float32([1, 0, 0])}
COUNTED = {"x": np.float32([1, 0, 0]), "weight": np.float32([1, 1, 0])}
ALONE = {"x": np.float32([1, 0])}
WEIGHT_0 = {
    "an example": (log_once, EXAMPLE_5, "example 5"),
    "tokens": (log_once, TOKENS, "examples 1, 2"),
    "a norm": (norm_of_examples, EXAMPLES, "example 1"),
    "with where twice": (log_twice, EXAMPLE_5, None),
    "one that counts": (log_once, COUNTED, ""),
    "no weight": (log_once, ALONE, ""),
}


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("case", WEIGHT_0)
def test_a_nan_that_the_model_makes_at_weight_0_is_named(case, accumulate):
    function, batch, named = WEIGHT_0[case]
    if len(batch["x"]) % accumulate:
        batch = {name: np.concatenate([column, column[:1]]) for name, column in batch.items()}

    def loss_fn(model, batch):
        return function(model["rate"] * batch["x"], batch["x"] > 0)

    def by_hand(rate):  # without the numbers of weight 0
        counts = batch.get("weight", np.ones(len(batch["x"]))) > 0
        x = batch["x"][counts]
        return function(rate * x, x > 0).mean()

    beats = fb.four_beats(loss_fn, optax.sgd(0.1), accumulate=accumulate)
    state = beats.init({"rate": jnp.ones(())})
    report = sanity.check(beats, state, batch, overfit_steps=0)
    finding, gradient = report["gradients finite"], float(beats.gradient(state, batch)[0]["rate"])
    if named is None:
        assert (finding.status, finding.seen) == ("ok", "all 1")
        np.testing.assert_allclose(gradient, jax.grad(by_hand)(1.0), rtol=1e-6)
        return
    assert np.isnan(gradient)
    assert np.isfinite(jax.grad(by_hand)(1.0)) == bool(named)
    assert report["loss at initialisation"].status == "skip"  # it is finite
    made = (
        f": the model makes it of finite numbers of weight 0, in {named}. Find the operation with "
        "fb.guard.locate, and use jnp.where twice, on its input and on its result: docs/production.md, "
        "'A NaN that weighs nothing'"
    )
    expected = made if named else ". Find the operation with fb.guard.locate"
    assert (finding.status, finding.seen) == ("warn", f"params['rate'] has NaN or Inf{expected}")


@pytest.mark.parametrize(("bad", "shown"), [(-1, "-1"), (3, "3")])
def test_labels_and_tokens_out_of_range_are_named_whatever_their_column(bad, shown):
    def loss_fn(model, batch):
        logits = model["table"][batch["token"]] @ model["w"]
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch["y"])

    model = {"table": jnp.ones((5, 4)), "w": 0.1 * jnp.ones((4, 3))}
    beats = fb.four_beats(loss_fn, optax.sgd(0.1))
    y, token = np.arange(12, dtype=np.int32) % 3, np.arange(12, dtype=np.int32) % 5
    check = lambda columns: fb.sanity.check(beats, beats.init(model), columns, overfit_steps=1)
    found = lambda **columns: check(columns)["labels in range"]
    assert found(y=y, token=token).status == "ok"
    y[3] = bad
    seen = found(y=y, token=token)
    assert seen.status == "warn" and seen.seen.startswith(f"batch['y'] indexes one of 3, and holds {shown}: ")
    weight = np.ones(12, np.float32)
    weight[3] = 0
    assert found(y=y, token=token, weight=weight).status == "ok"
