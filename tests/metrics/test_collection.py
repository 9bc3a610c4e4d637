import copy
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fourbeat.metrics import Accuracy, Collection, ConfusionMatrix, Mean


def make():
    return Collection(
        loss=Mean("loss"),
        accuracy=Accuracy(),
        more=Collection(matrix=ConfusionMatrix(num_classes=3), half=Mean("loss")),
    )


VALUES = {"loss": jnp.array([1.0, 3.0]), "logits": jnp.eye(2, 3), "labels": jnp.array([0, 0])}


def test_each_metric_sees_what_it_would_see_alone():
    weight = jnp.array([1.0, 0.25])
    seen = jax.jit(lambda m: m.update(weight=weight, **VALUES))(make())
    computed = seen.compute()
    assert list(computed) == ["loss", "accuracy", "more"]
    assert list(computed["more"]) == ["matrix", "half"]
    for name, alone in [("loss", Mean("loss")), ("accuracy", Accuracy())]:
        expected = alone.update(weight=weight, **VALUES).compute()
        np.testing.assert_array_equal(computed[name], expected)
    np.testing.assert_array_equal(computed["more"]["matrix"].sum(), 1.25)
    assert seen.merge(seen).compute()["loss"] == computed["loss"]


def test_metrics_are_read_by_name():
    metrics = make()
    assert repr(metrics["loss"]) == repr(metrics.loss) == "Mean('loss')"
    assert list(metrics) == ["loss", "accuracy", "more"]
    assert len(metrics) == 3 and "loss" in metrics and "other" not in metrics
    for read in (lambda: metrics["acc"], lambda: metrics.acc):
        with pytest.raises((KeyError, AttributeError)) as error:
            read()
        assert error.value.args[0] == (
            "the collection holds no metric 'acc': it holds 'loss', 'accuracy', 'more'"
        )


def test_the_path_of_a_leaf_names_its_metric():
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(make())]
    assert paths == [
        "['loss'].sums",
        "['accuracy'].sums",
        "['more']['matrix'].sums",
        "['more']['half'].sums",
    ]


def test_the_same_metric_twice_shares_no_buffer_and_stays_the_callers():
    metric = Mean("loss")
    metrics = Collection(a=metric, b=metric)
    jax.jit(lambda m: m.update(loss=jnp.ones(2)), donate_argnums=0)(metrics)
    assert float(metric.update(loss=2.0).compute()) == 2.0


def test_it_can_be_copied_and_pickled():
    seen = make().update(**VALUES)
    for same in (copy.deepcopy(seen), pickle.loads(pickle.dumps(seen)), copy.copy(seen)):
        assert repr(same) == repr(seen)
        assert same.compute()["loss"] == seen.compute()["loss"]


@pytest.mark.parametrize(
    ("kind", "metrics", "message"),
    [
        (
            ValueError,
            {},
            'Collection() holds no metric. Give at least one by name, such as Collection(loss=Mean("loss")).',
        ),
        (
            TypeError,
            {"loss": "loss"},
            "Collection cannot hold loss='loss', which is not a Metric. Give the metric itself, "
            'such as loss=Mean("loss").',
        ),
        (
            TypeError,
            {"accuracy": Accuracy},
            "Collection cannot hold accuracy=<class 'fourbeat.metrics.accuracy.Accuracy'>, which "
            "is not a Metric. Give the metric itself, such as accuracy=Accuracy(...).",
        ),
        (
            ValueError,
            {"update": Mean("loss")},
            "Collection cannot hold a metric named 'update': the collection's own attributes and "
            "methods are named so. Use another name.",
        ),
        (
            ValueError,
            {"_loss": Mean("loss")},
            "Collection cannot hold a metric named '_loss': the collection's own attributes and "
            "methods are named so. Use another name.",
        ),
    ],
)
def test_what_it_cannot_hold(kind, metrics, message):
    with pytest.raises(kind) as error:
        Collection(**metrics)
    assert str(error.value) == message


def test_an_error_names_the_metric_by_its_name():
    with pytest.raises(ValueError, match="it reads 'logits'") as error:
        make().update(loss=jnp.ones(2))
    assert error.value.__notes__ == ["Raised by the collection's metric 'accuracy'."]
