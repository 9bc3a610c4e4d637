"""A weighted batch that meets batch statistics is warned of, once, where they do not read its weight."""

import warnings

import numpy as np
import optax
import pytest
from flax import nnx

import fourbeat as fb
from fourbeat.beats.statistics import PaddingInStatisticsWarning


class Normalised(nnx.Module):
    """What `how` says: the plain layer, a masked one, one with its statistics frozen."""

    def __init__(self, how, *, rngs):
        self.how = how
        self.norm = nnx.BatchNorm(3, rngs=rngs)
        self.drop = nnx.Dropout(0.1, rngs=rngs)  # its count is written too, and is no statistic

    def __call__(self, x, weight):
        options = {"frozen": {"use_running_average": True}}.get(self.how, {})
        if self.how == "masked":
            options = {"mask": weight[:, None] > 0}
        return self.drop(self.norm(x, **options))


def warned(how, *, weighted=True, **options):
    def loss_fn(model, batch):
        return model(batch["x"], batch.get("weight")).sum(1)

    beats = fb.four_beats(loss_fn, optax.sgd(0.1), **options)
    batch = {"x": np.ones((8, 3), np.float32)}
    if weighted:
        batch["weight"] = np.ones(8, np.float32)
    step, state = fb.compile(beats.train_step), beats.init(Normalised(how, rngs=nnx.Rngs(0)))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            state, _ = step(state, batch)
    return [str(warning.message) for warning in caught]


@pytest.mark.parametrize(
    "options", [{}, {"accumulate": 4, "rolled": True}, {"accumulate": 4, "rolled": False}]
)
def test_unmasked_statistics_are_warned_of_once(options):
    assert warned("plain", **options) == [
        "model.norm.mean, model.norm.var: examples of weight 0 take part in these batch statistics, and "
        "change the gradients of all other examples. Use remainder='drop' for training, or give the layer "
        "mask=batch['weight'][:, None] > 0."
    ]
    assert issubclass(PaddingInStatisticsWarning, UserWarning)


@pytest.mark.parametrize("accumulate", [1, 4])
@pytest.mark.parametrize("how", ["masked", "frozen"])
def test_masked_and_frozen_ones_are_not(how, accumulate):
    assert warned(how, accumulate=accumulate) == []


def test_nor_any_where_there_is_no_weight():
    assert warned("plain", weighted=False) == []
