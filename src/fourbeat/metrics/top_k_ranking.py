"""Precision and recall among the k classes that a model ranks highest."""

import abc
from dataclasses import dataclass, field
from typing import Any, Self, final

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from fourbeat.metrics.inputs import named_value, spread_weight
from fourbeat.metrics.summed import WeightedMean


@dataclass(frozen=True, eq=False, repr=False)
class AtK(WeightedMean):
    """A mean over examples of a measure of the k highest logits, given which classes are relevant."""

    k: int = field(kw_only=True, metadata={"static": True})
    logits: str = field(default="logits", kw_only=True, metadata={"static": True})
    labels: str = field(default="labels", kw_only=True, metadata={"static": True})

    @abc.abstractmethod
    def of_example(self, found: jax.Array, relevant: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The measure of each example, and bool, whether it has one.

        Args:
          found: int32 (...), how many of the k highest are relevant.
          relevant: int32 (...), how many classes are.
        """

    def sums_shape(self) -> tuple[int, ...]:
        name = type(self).__name__
        if isinstance(self.k, bool) or not isinstance(self.k, int) or self.k < 1:
            raise ValueError(f"{name} needs k, an int of at least 1, and got {self.k!r}. Write {name}(k=5).")
        return (2,)

    def update(self, /, *, weight: ArrayLike | None = None, **values: Any) -> Self:
        rename = type(self).__name__ + '({}="...")'
        logits = named_value(self, values, self.logits, rename=rename.format("logits"))
        labels = named_value(self, values, self.labels, rename=rename.format("labels"))
        if logits.ndim == 0 or labels.shape not in (logits.shape, logits.shape[:-1]):
            raise ValueError(
                f"{self!r} cannot compare {self.logits!r} of shape {logits.shape} with {self.labels!r} of "
                f"shape {labels.shape}: for logits (..., C) labels are (...), one class each, or (..., C), 1 "
                "where a class is relevant."
            )
        if self.k > logits.shape[-1]:
            raise ValueError(
                f"{self!r} cannot take {self.k} classes of {self.logits!r} of shape {logits.shape}. "
                "Use a smaller k."
            )
        examples = spread_weight(self, logits.shape[:-1], weight, of=repr(self.logits))
        _, likely = jax.lax.top_k(logits, self.k)
        if labels.shape == logits.shape:
            is_relevant = labels > 0
            found = jnp.sum(jnp.take_along_axis(is_relevant, likely, axis=-1), axis=-1)
            relevant, is_class = jnp.sum(is_relevant, axis=-1), jnp.ones(examples.shape, bool)
        else:
            found = jnp.sum(likely == labels[..., None], axis=-1)
            is_class = (labels >= 0) & (labels < logits.shape[-1])
            relevant = is_class.astype(jnp.int32)
        measure, has_one = self.of_example(found, relevant)
        return self.add_weighted(measure, jnp.where(has_one & is_class, examples, 0))


@final
@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class PrecisionAtK(AtK):
    """Weighted mean over the examples of the fraction of the k highest logits whose classes are relevant.

    Of equal logits the first classes are taken. Computes a float32 scalar in [0, 1]; NaN where nothing was
    seen.

    Args:
      k: how many classes are taken, from 1 to C.
      logits: name of a real array (..., C).
      labels: name of an integer array (...), the one relevant class, or (..., C), above 0 where a class is
        relevant. Examples whose one label is no class are left out.

    Raises:
      ValueError: k is not an int of at least 1, or is above C; or shapes do not fit.

    >>> import jax.numpy as jnp
    >>> logits, relevant = jnp.array([[4.0, 3.0, 2.0, 1.0]]), jnp.array([[1, 0, 1, 1]])
    >>> float(PrecisionAtK(k=2).update(logits=logits, labels=relevant).compute())
    0.5
    """

    def of_example(self, found, relevant):
        return found / self.k, relevant >= 0


@final
@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class RecallAtK(AtK):
    """Weighted mean over the examples of the fraction of the relevant classes that are among the k highest.

    An example without a relevant class is left out. Its options are those of `PrecisionAtK`.

    Args:
      k: how many classes are taken, from 1 to C.
      logits: name of a real array (..., C).
      labels: name of an integer array (...) or (..., C).

    Raises:
      ValueError: k is not an int of at least 1, or is above C; or shapes do not fit.

    >>> import jax.numpy as jnp
    >>> logits, relevant = jnp.array([[4.0, 3.0, 2.0, 1.0]]), jnp.array([[1, 0, 1, 0]])
    >>> float(RecallAtK(k=2).update(logits=logits, labels=relevant).compute())
    0.5
    """

    def of_example(self, found, relevant):
        return found / jnp.maximum(relevant, 1), relevant > 0
