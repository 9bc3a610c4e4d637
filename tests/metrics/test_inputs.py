"""Missing values and weights that do not fit."""

import jax.numpy as jnp
import numpy as np
import pytest

from fourbeat.metrics import Accuracy, Mean, MeanSquaredError, Perplexity


def message_of(call):
    with pytest.raises(ValueError) as error:
        call()
    return str(error.value)


def test_fractional_weights_are_exact():
    weight = jnp.array([0.5, 0.5, 0.5, 0.2])
    assert float(Mean("x").update(x=jnp.ones(4), weight=weight).compute()) == 1.0


@pytest.mark.parametrize("shape", [(), (2,), (2, 3), (2, 3, 4)])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int32, bool])
def test_a_weight_of_leading_axes(shape, dtype):
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=(2, 3, 4)), np.asarray(rng.uniform(0.5, 2, shape)).astype(dtype)
    wide = np.broadcast_to(weight.reshape(shape + (1,) * (3 - len(shape))), x.shape)
    metric = Mean("x").update(x=x.astype(np.float32), weight=weight)
    np.testing.assert_allclose(metric.compute(), np.average(x, weights=wide), rtol=2e-6)


@pytest.mark.parametrize("shape", [(3,), (3, 2), (2, 4), (2, 1), (2, 3, 1)])
def test_a_weight_of_another_shape_is_refused(shape):
    message = message_of(lambda: Mean("x").update(x=jnp.ones((2, 3)), weight=jnp.ones(shape)))
    assert message == (
        f"Mean('x') cannot weigh 'x' of shape (2, 3) by a weight of shape {shape}: a weight has "
        "the shape of the values or of their leading axes, here (2,) or (2, 3). Give one value an "
        "example (drop a .mean()), or reshape the weight."
    )


def test_a_mean_already_taken_cannot_be_weighed():
    message = message_of(lambda: Mean("x").update(x=jnp.float32(1), weight=jnp.ones(3)))
    assert message == (
        "Mean('x') cannot weigh 'x' of shape () by a weight of shape (3,): a weight has the shape "
        "of the values or of their leading axes, here (). Give one value an example (drop a "
        ".mean()), or reshape the weight."
    )


def half(logits):
    return logits / 2


@pytest.mark.parametrize(
    ("metric", "name", "rename"),
    [
        (Mean("loss"), "loss", 'Mean("...")'),
        (Mean(half), "logits", "rename the parameter of half"),
        (Perplexity("nll"), "nll", 'Perplexity("...")'),
        (Accuracy(), "logits", 'Accuracy(logits="...")'),
        (MeanSquaredError(), "predictions", 'MeanSquaredError(predictions="...")'),
    ],
    ids=repr,
)
def test_a_missing_value_is_named_with_those_present(metric, name, rename):
    assert message_of(lambda: metric.update(image=1, label=2)) == (
        f"{metric!r} cannot update: it reads {name!r}, and was given 'image', 'label'. "
        f"Return {name!r} in the aux of the loss function, or read another name: {rename}."
    )


def test_nothing_given():
    assert message_of(lambda: Mean("loss").update()) == (
        "Mean('loss') cannot update: it reads 'loss', and was given no values at all. Return "
        "'loss' in the aux of the loss function, or read another name: Mean(\"...\")."
    )
