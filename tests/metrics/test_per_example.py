"""A loss, and what a metric's function returns, is one value an example or a token."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import fourbeat as fb
from fourbeat.metrics import CrossedExamplesWarning, Mean

N = 6
RANDOM = np.random.RandomState(0)
X = RANDOM.standard_normal((N, N)).astype(np.float32)
Y = RANDOM.standard_normal(N).astype(np.float32)
WEIGHT = np.array([1, 0, 2, 1, 0.5, 1], np.float32)
TOKENS = RANDOM.randint(0, 5, (N, N + 1)).astype(np.int32)


class Net(nnx.Module):
    """A column of one output an example, and a token model whose examples do not meet."""

    def __init__(self, rngs):
        self.linear = nnx.Linear(N, 1, rngs=rngs)
        self.embed = nnx.Embed(5, 8, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, 8, decode=False, rngs=rngs)
        self.vocabulary = nnx.Linear(8, 5, rngs=rngs)

    def __call__(self, x):
        return self.linear(x)

    def next_token(self, tokens):
        x = self.embed(tokens)
        return self.vocabulary(x + self.attention(x))


def column_against_row(model, batch):
    return (model(batch["x"]) - batch["y"]) ** 2


def images_against_row(model, batch):
    return (model(batch["x"])[:, :, None] - jnp.stack([batch["y"]] * 3, 1)) ** 2


def unreduced_pairs(model, batch):
    return jnp.square(batch["x"] @ batch["x"].T) * model(batch["x"])


def next_token(model, batch):
    logits = model.next_token(batch["tokens"][:, :-1])
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch["tokens"][:, 1:])


def masked_patches(model, batch):
    """As many patches as examples, of a picture that has that length on no axis."""
    patches = batch["picture"].reshape(N if batch["picture"].shape[0] == N else 2 * N, N, -1)
    return (patches.mean(-1) * model.linear.bias[0] - 1) ** 2


def written_for_this_batch(model, batch):
    return (batch["x"].reshape(N, N) * model.linear.bias[0] - 1) ** 2


def contrastive(model, batch):
    similar = (batch["x"] * model.linear.kernel[:, 0]) @ batch["x"].T
    return optax.softmax_cross_entropy_with_integer_labels(similar, jnp.arange(similar.shape[0]))


def right_pairs(model, batch):
    return (model(batch["x"]).squeeze(-1) - batch["y"]) ** 2


COLUMNS = {"x": X, "y": Y, "tokens": TOKENS, "picture": RANDOM.standard_normal((N, 4, 12)).astype(np.float32)}
CROSSED = {
    column_against_row: ((N, N), 1),
    images_against_row: ((N, N, 3), 1),
    unreduced_pairs: ((N, N), 1),
}
FINE = [next_token, masked_patches, written_for_this_batch, contrastive, right_pairs]
WARNING = (
    "the loss has shape {} for 6 examples, and axis {} of it grows with the batch: every example meets "
    "every other. "
    "Arrays such as (6, 1) and (6,) were broadcast: give both the same shape, with .squeeze(-1). Where "
    "pairs of examples are meant, reduce them to one value an example."
)


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
@pytest.mark.parametrize("loss_fn", CROSSED, ids=lambda loss_fn: loss_fn.__name__)
def test_a_loss_of_every_pair_of_examples_is_warned_of_in_every_beat(loss_fn, weight):
    shape, axis = CROSSED[loss_fn]
    batch = {**COLUMNS, "weight": weight}
    beats = fb.four_beats(loss_fn, optax.sgd(0.1))
    state = beats.init(Net(nnx.Rngs(0)))
    for call in (
        lambda: beats.loss(state, batch),
        lambda: fb.compile(beats.train_step, donate=False)(state, batch),
        lambda: fb.evaluator(beats)(state, [batch]),
    ):
        with pytest.warns(CrossedExamplesWarning) as caught:
            call()
        assert [str(each.message) for each in caught] == [WARNING.format(shape, axis)]


@pytest.mark.parametrize("options", [{"guard": fb.guard.skip()}, {"precision": "bfloat16"}], ids=str)
def test_options_warn_alike(options):
    beats = fb.four_beats(column_against_row, optax.sgd(0.1), **options)
    with pytest.warns(CrossedExamplesWarning, match=r"\(6, 6\) for 6 examples"):
        jax.jit(beats.train_step).lower(beats.init(Net(nnx.Rngs(0))), COLUMNS)


def test_microbatches_are_looked_at_each_by_its_own_examples():
    beats = fb.four_beats(column_against_row, optax.sgd(0.1), accumulate=2)
    with pytest.warns(CrossedExamplesWarning, match=r"\(3, 3\) for 3 examples"):
        jax.jit(beats.train_step).lower(beats.init(Net(nnx.Rngs(0))), COLUMNS)


@pytest.mark.parametrize("loss_fn", FINE, ids=lambda loss_fn: loss_fn.__name__)
def test_tokens_patches_and_contrasts_pass_without_a_word(loss_fn):
    """As many of them as examples; the gradient is that of the mean by hand."""
    beats = fb.four_beats(loss_fn, optax.sgd(0.1))
    model = Net(nnx.Rngs(0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        grads, out = jax.jit(beats.gradient)(beats.init(model), COLUMNS)
    expected = nnx.jit(nnx.grad(lambda model: loss_fn(model, COLUMNS).mean()))(model)
    for ours, theirs in zip(jax.tree.leaves(grads), jax.tree.leaves(nnx.to_pure_dict(expected)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    assert float(out.weight) == (N * N if loss_fn in FINE[:3] else N)


def test_what_broadcasting_trained_on_is_not_least_squares():
    """Why it is warned of: 9 x - 2 y + 10 is learned where the shapes agree, and not where they do not."""
    x = RANDOM.standard_normal((64, 2)).astype(np.float32)
    batch = {"x": x, "y": x @ np.array([9.0, -2.0], np.float32) + 10}
    kernels = {}
    for squeezed in (True, False):

        def loss_fn(model, batch, squeezed=squeezed):
            predicted = model(batch["x"])
            return ((predicted.squeeze(-1) if squeezed else predicted) - batch["y"]) ** 2

        beats = fb.four_beats(loss_fn, optax.sgd(0.1))
        state, step = beats.init(nnx.Linear(2, 1, rngs=nnx.Rngs(0))), fb.compile(beats.train_step)
        with warnings.catch_warnings():
            warnings.simplefilter("error" if squeezed else "ignore")
            for _ in range(100):
                state, _ = step(state, batch)
        kernels[squeezed] = np.asarray(state.params["kernel"])[:, 0]
    np.testing.assert_allclose(kernels[True], [9, -2], atol=1e-3)
    assert abs(kernels[False] - [9, -2]).max() > 1


NOT_AN_EXAMPLE = {
    "flattened tokens": (
        lambda model, batch: next_token(model, batch).reshape(-1),
        "the loss has shape (36,) and the batch has 6 examples: its first axis is not the batch's. Return "
        "one value an example, (6,), or a token, (6, tokens), with .reshape(6, -1).",
    ),
    "tokens first": (
        lambda model, batch: next_token(model, batch)[:, :4].T,
        "the loss has shape (4, 6) and the batch has 6 examples: its first axis is not the batch's. Return "
        "one value an example, (6,), or a token, (6, tokens), with jnp.moveaxis(value, 1, 0).",
    ),
    "differences of examples": (
        lambda model, batch: jnp.diff(right_pairs(model, batch)),
        "the loss has shape (5,) and the batch has 6 examples: its first axis is not the batch's. Return "
        "one value an example, (6,), or a token, (6, tokens); or reduce it to one scalar for the batch.",
    ),
}


@pytest.mark.parametrize("case", NOT_AN_EXAMPLE)
def test_a_loss_whose_first_axis_is_not_the_batchs_is_refused(case):
    loss_fn, text = NOT_AN_EXAMPLE[case]
    beats = fb.four_beats(loss_fn, optax.sgd(0.1))
    state = beats.init(Net(nnx.Rngs(0)))
    evaluate = lambda state, batch: fb.evaluator(beats)(state, [batch])
    for call in (jax.jit(beats.loss), jax.jit(beats.train_step), evaluate):
        with pytest.raises(ValueError) as caught:
            call(state, COLUMNS)
        assert str(caught.value) == text


@pytest.mark.parametrize(
    "batch",
    [
        {
            "nodes": np.ones((9, 2), np.float32),
            "graph": np.zeros(9, np.int32),
            "label": np.ones(4, np.float32),
        },
        {},
        {"beta": np.float32(1)},
    ],
    ids=["graphs", "no data", "a scalar"],
)
def test_a_loss_of_a_batch_whose_examples_nothing_tells_is_not_asked(batch):
    beats = fb.four_beats(lambda model, batch: model["w"] * jnp.arange(4.0), optax.sgd(0.1))
    grads, out = beats.gradient(beats.init({"w": jnp.ones(())}), batch)
    assert float(grads["w"]) == 1.5 and float(out.weight) == 4


def absolute_error(predictions, targets):
    return jnp.abs(predictions - targets)


def test_what_a_metrics_function_returns_follows_the_same_rule():
    metric, targets = Mean(absolute_error), jnp.arange(4.0)
    for weight in (None, jnp.ones(4)):
        with pytest.warns(CrossedExamplesWarning) as caught:
            metric.update(predictions=jnp.ones((4, 1)), targets=targets, weight=weight)
        (warning,) = caught
        assert str(warning.message) == (
            "what absolute_error returned has shape (4, 4) for 4 examples, and axis 1 of it grows with the "
            "batch: every example meets every other. Arrays such as (4, 1) and (4,) were broadcast: give "
            "both "
            "the same shape, with .squeeze(-1). Where pairs of examples are meant, reduce them to one "
            "value an example."
        )
    with pytest.raises(ValueError) as caught:
        Mean(lambda predictions, targets: jnp.abs(predictions - targets).reshape(-1)).update(
            predictions=jnp.ones((4, 3)), targets=jnp.ones((4, 3))
        )
    assert str(caught.value) == (
        "what <lambda> returned has shape (12,) and the batch has 4 examples: its first axis is not the "
        "batch's. Return one value an example, (4,), or a token, (4, tokens), with .reshape(4, -1)."
    )


def layer_norms(hidden):
    return jnp.linalg.norm(hidden, axis=-1).mean(0)


def test_a_metrics_function_is_held_to_the_examples_of_the_step():
    """Tokens as many as examples, and values of another leading axis, pass; pairs are warned of inside a "
    "step."""
    square = np.arange(16, dtype=np.float32).reshape(4, 4)
    assert float(Mean(absolute_error).update(predictions=square, targets=square + 2).compute()) == 2
    hidden = np.ones((3, 4, 9), np.float32)
    for known in ({}, {"weight": np.ones(4)}, {"loss": np.ones(4)}):
        assert float(Mean(layer_norms).update(hidden=hidden, **known).compute()) == 3

    def loss_fn(model, batch):
        predictions = batch["x"] * model["w"]
        return predictions, {"predictions": predictions[:, None], "targets": batch["x"]}

    beats = fb.four_beats(loss_fn, optax.sgd(0.1), metrics=Mean(absolute_error))
    with pytest.warns(
        CrossedExamplesWarning, match=r"what absolute_error returned has shape \(4, 4\) for 4 examples"
    ):
        beats.train_step(beats.init({"w": jnp.ones(())}), {"x": np.ones(4, np.float32)})


def test_features_that_were_folded_into_one_axis_are_no_pairs():
    def loss_fn(model, batch):  # written for 8 examples
        x = batch["x"].reshape(8, 8)
        return (x @ model["w"] - x) ** 2

    beats = fb.four_beats(loss_fn, optax.sgd(0.1))
    beats.train_step(beats.init({"w": jnp.ones((8, 8))}), {"x": np.ones((8, 2, 4), np.float32)})
