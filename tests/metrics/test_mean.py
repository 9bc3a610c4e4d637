import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fourbeat.metrics import Mean


def test_a_function_is_given_what_its_parameters_name():
    def score(a, *, b, scale=2.0, other=1.0):
        assert other == 1.0
        return scale * (a - b)

    a, b, weight = np.float32([1, 2, 5]), np.float32([0, 4, 1]), np.float32([1, 0.5, 0])
    metric = Mean(score)
    assert repr(metric) == "Mean(score)"
    assert float(metric.update(a=a, b=b, weight=weight, c=b).compute()) == 0.0
    assert float(metric.update(a=a, b=b, scale=3.0).compute()) == 3.0


def halved(x):
    return x / 2


def test_the_signature_is_read_once(monkeypatch):
    seen = []
    signature = inspect.signature
    monkeypatch.setattr(inspect, "signature", lambda fn: seen.append(fn) or signature(fn))
    metric = Mean(halved)
    assert seen == [halved]
    leaves, structure = jax.tree.flatten(metric)
    for _ in range(3):
        metric = jax.tree.unflatten(structure, leaves).reset()
    assert seen == [halved]


@pytest.mark.parametrize("value", [np.ones(3, bool), np.arange(3), jnp.ones(3, jnp.bfloat16), 2.5])
def test_values_of_any_real_type(value):
    metric = Mean("x").update(x=value)
    assert metric.compute().dtype == jnp.float32
    assert float(metric.compute()) == float(np.mean(np.asarray(value, np.float32)))


def test_a_value_that_counts_is_not_hidden_when_it_is_not_finite():
    assert float(Mean("x").update(x=jnp.array([1.0, jnp.inf])).compute()) == np.inf
    assert np.isnan(Mean("x").update(x=jnp.array([1.0, jnp.nan])).compute())


def positional(logits, /):
    return logits


def several(*logits):
    return logits


def all_of_them(**values):
    return values


def weighed(loss, weight):
    return loss * weight


NOT_BY_NAME = (
    "Mean({name}) cannot give {name} its parameter `{parameter}`: values are given by name, and "
    "the weight is applied to what the function returns. Write it as def {name}(logits, labels), "
    "returning one number an example."
)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            3,
            "Mean takes the name of a value or a function of named values, and got 3. "
            'Write Mean("loss"), or Mean(function).',
        ),
        (
            dict.fromkeys,
            "Mean(fromkeys) cannot give fromkeys its parameter `iterable`: values are given by "
            "name, and the weight is applied to what the function returns. Write it as def "
            "fromkeys(logits, labels), returning one number an example.",
        ),
        (
            max,
            "Mean(max) cannot tell which values to give: max has no signature. "
            "Wrap it: def metric(logits, labels): return max(logits, labels).",
        ),
        (positional, NOT_BY_NAME.format(name="positional", parameter="logits")),
        (several, NOT_BY_NAME.format(name="several", parameter="*logits")),
        (all_of_them, NOT_BY_NAME.format(name="all_of_them", parameter="**values")),
        (weighed, NOT_BY_NAME.format(name="weighed", parameter="weight")),
    ],
)
def test_what_cannot_be_a_mean_is_refused(value, message):
    with pytest.raises(TypeError) as error:
        Mean(value)
    assert str(error.value) == message


def test_a_partial_function():
    metric = Mean(functools.partial(lambda a, b: a - b, b=1.0))
    assert float(metric.update(a=jnp.array([3.0])).compute()) == 2.0
