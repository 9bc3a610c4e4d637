"""A metric is its options and two formulas: the rest is shared."""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fourbeat.metrics.inputs import named_value, spread_weight
from fourbeat.metrics.summed import Summed, WeightedMean


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class MeanOfLogarithms(WeightedMean):
    value: str = field(metadata={"static": True})

    def update(self, /, *, weight=None, **values):
        value = named_value(self, values, self.value, rename='MeanOfLogarithms("...")')
        return self.add_weighted(jnp.log(value), spread_weight(self, value.shape, weight, of=self.value))


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class Spread(Summed):
    """Standard deviation of a column, by its first two moments."""

    value: str = field(metadata={"static": True})

    def sums_shape(self):
        if not self.value:
            raise ValueError("Spread needs a name.")
        return (3,)

    def update(self, /, *, weight=None, **values):
        value = named_value(self, values, self.value, rename='Spread("...")')
        weight = spread_weight(self, value.shape, weight, of=self.value)
        return self.add(jnp.stack([(weight * value**power).sum() for power in range(3)]))

    def compute(self):
        weight, first, second = self.total
        return jnp.sqrt(second / weight - (first / weight) ** 2)


RANDOM = np.random.default_rng(0)
X, WEIGHT = RANDOM.uniform(1, 2, 12).astype(np.float32), RANDOM.uniform(0, 2, 12).astype(np.float32)
CENTRE = np.average(X, weights=WEIGHT)
KINDS = {
    MeanOfLogarithms: np.average(np.log(X), weights=WEIGHT),
    Spread: np.sqrt(np.average((X - CENTRE) ** 2, weights=WEIGHT)),
}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_new_metric_is_merged_reset_donated_and_named_without_a_line_of_its_own(kind):
    fresh, expected = kind("x"), KINDS[kind]
    assert repr(fresh) == f"{kind.__name__}('x')"
    step = jax.jit(lambda metric, x, weight: metric.update(x=x, weight=weight), donate_argnums=0)
    metric = fresh.reset()
    for start in (0, 4, 8):
        metric = step(metric, X[start : start + 4], WEIGHT[start : start + 4])
    assert step._cache_size() == 1
    halves = [fresh.update(x=X[half], weight=WEIGHT[half]) for half in (slice(0, 5), slice(5, None))]
    for seen in (metric, halves[0].merge(halves[1]), metric.reset().merge(metric)):
        np.testing.assert_allclose(seen.compute(), expected, rtol=1e-4)
    assert np.isnan(metric.reset().compute())
    with pytest.raises(ValueError, match="cannot merge"):
        fresh.merge(kind("y"))


def test_options_are_checked_when_it_is_made():
    with pytest.raises(ValueError, match=r"^Spread needs a name\.$"):
        Spread("")
