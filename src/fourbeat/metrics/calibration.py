"""Calibration: whether a model that is 80 percent sure is right in 80 percent of the cases."""

from dataclasses import dataclass, field
from typing import Any, Self, final

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from fourbeat.metrics.classified import Classified, read_classified
from fourbeat.metrics.summed import Summed


@dataclass(frozen=True, eq=False, repr=False)
class ConfidenceBins(Summed):
    """A metric of examples by how sure the model was: their confidence, what was right, their weight."""

    bins: int = field(default=15, kw_only=True, metadata={"static": True})
    from_logits: bool = field(default=True, kw_only=True, metadata={"static": True})
    logits: str = field(default="logits", kw_only=True, metadata={"static": True})
    labels: str = field(default="labels", kw_only=True, metadata={"static": True})

    def sums_shape(self) -> tuple[int, ...]:
        name = type(self).__name__
        if isinstance(self.bins, bool) or not isinstance(self.bins, int) or self.bins < 1:
            raise ValueError(
                f"{name} needs bins, an int of at least 1, and got {self.bins!r}. Write {name}(bins=15)."
            )
        return 3, self.bins

    def update(self, /, *, weight: ArrayLike | None = None, **values: Any) -> Self:
        seen = read_classified(self, values, weight, logits=self.logits, labels=self.labels)
        confidence, is_right = _confidence(seen, self.from_logits)
        place = jnp.clip(jnp.nan_to_num(confidence) * self.bins, 0, self.bins - 1).astype(jnp.int32)
        confidence = jnp.where(seen.weight != 0, confidence, 0)
        amounts = jnp.stack([confidence, is_right.astype(jnp.float32), jnp.ones_like(confidence)])
        return self.add_at(place + self.bins * _rows(place.ndim), amounts * seen.weight)


@final
@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class ECE(ConfidenceBins):
    """Expected calibration error: by how much confidence and accuracy differ, on average over the examples.

    The confidence of an example is the probability of its predicted class; with one number an example it is
    the probability of class 1, and right is an example of class 1. In each of `bins` evenly wide bins of
    confidence its mean is compared with the fraction that was right. Equal to torchmetrics'
    `CalibrationError(norm="l1")`. Computes a float32 scalar in [0, 1]; NaN where nothing was seen.

    Args:
      bins: how many bins of confidence there are.
      from_logits: whether `logits` are logits; else they are probabilities.
      logits: name of a real array (..., C); or (...) for two classes.
      labels: name of an integer array (...). Examples whose label is no class are left out.

    References:
      Guo et al., On Calibration of Modern Neural Networks, 2017, https://arxiv.org/abs/1706.04599

    >>> import jax.numpy as jnp
    >>> sure, labels = jnp.array([0.9, 0.9, 0.9, 0.9]), jnp.array([1, 1, 1, 0])
    >>> round(float(ECE(from_logits=False).update(logits=sure, labels=labels).compute()), 4)
    0.15
    """

    def compute(self) -> jax.Array:
        confidence, right, weight = self.total
        return jnp.sum(jnp.abs(confidence - right)) / jnp.sum(weight)


@final
@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class Reliability(ConfidenceBins):
    """What a reliability diagram shows: the mean confidence, the fraction right and the weight of each bin.

    Equal to scikit-learn's `calibration_curve` for two classes. Computes a float32 array (3, bins), NaN where
    a bin is empty; `fourbeat.metrics.reliability_plot` draws it. The options, and what confidence is, are
    those of `ECE`.

    Args:
      bins: how many bins of confidence there are.
      from_logits: whether `logits` are logits; else they are probabilities.
      logits: name of a real array.
      labels: name of an integer array.

    >>> import jax.numpy as jnp
    >>> sure, labels = jnp.array([0.25, 0.75, 0.75]), jnp.array([0, 1, 0])
    >>> Reliability(bins=2, from_logits=False).update(logits=sure, labels=labels).compute().tolist()
    [[0.25, 0.75], [0.0, 0.5], [1.0, 2.0]]
    """

    def compute(self) -> jax.Array:
        confidence, right, weight = self.total
        return jnp.stack([confidence / weight, right / weight, weight])


def _confidence(seen: Classified, from_logits: bool) -> tuple[jax.Array, jax.Array]:
    """float32 (...), how sure the model was; and bool (...), whether it was right."""
    logits = seen.logits.astype(jnp.float32)
    if seen.is_binary:
        return jax.nn.sigmoid(logits) if from_logits else logits, seen.labels == 1
    probabilities = jax.nn.softmax(logits, axis=-1) if from_logits else logits
    return jnp.max(probabilities, axis=-1), seen.predictions == seen.labels


def _rows(ndim: int) -> jax.Array:
    """0, 1 and 2, to stand before the places of examples with so many axes."""
    return jnp.arange(3, dtype=jnp.int32).reshape(3, *[1] * ndim)
