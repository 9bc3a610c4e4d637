"""What every metric is: an immutable pytree with four methods."""

import abc
from typing import Any, Self

import jax
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from fourbeat.trees.rendering import one_line
from fourbeat.types import Object


class Metric(abc.ABC):
    """A running measure, as an immutable pytree: `update` returns a new one.

    Its leaves are running totals and its static fields are options, so it can be carried through
    `jax.jit` and `lax.scan`, donated, saved, and merged with what another device or part saw.

    A metric of one number an example needs no class: `Mean(function)` is one. Write a class where
    totals of another form are needed. Make it a frozen dataclass with `eq=False` (arrays have no
    one truth value), register it, and mark its options static. Every update must keep the shape
    and type of each leaf, `reset` must make new buffers, and an example of weight 0 must change
    nothing. Subclass `Metric` itself, never one of its subclasses.

    >>> from dataclasses import dataclass, field, replace
    >>> import jax.numpy as jnp
    >>> def lowest():
    ...     return jnp.full((), -jnp.inf, jnp.float32)
    >>> @jax.tree_util.register_dataclass
    ... @dataclass(frozen=True, eq=False, repr=False)
    ... class Largest(Metric):
    ...     '''The largest of the values so far; -inf where there is none.'''
    ...
    ...     name: str = field(metadata={"static": True})
    ...     largest: jax.Array = field(default_factory=lowest, kw_only=True)
    ...
    ...     def update(self, /, *, weight=None, **values):
    ...         value = values[self.name]
    ...         if weight is not None:
    ...             value = jnp.where(weight > 0, value, -jnp.inf)
    ...         return replace(self, largest=jnp.maximum(self.largest, value.max()))
    ...
    ...     def merge(self, other):
    ...         return replace(self, largest=jnp.maximum(self.largest, other.largest))
    ...
    ...     def compute(self):
    ...         return self.largest
    ...
    ...     def reset(self):
    ...         return replace(self, largest=lowest())
    >>> largest = Largest("error")
    >>> largest
    Largest('error')
    >>> error, weight = jnp.array([1.0, 3.0, 9.0]), jnp.array([1, 1, 0])
    >>> float(jax.jit(Largest.update)(largest, error=error, weight=weight).compute())
    3.0
    """

    @abc.abstractmethod
    def update(self, /, *, weight: ArrayLike | None = None, **values: Any) -> Self:
        """A new metric that has also seen these values.

        Args:
          weight: how much each example (or token) counts, of the shape of the values or of their leading
            axes; None for one each. What an example of weight 0 holds, even NaN, changes nothing.
          **values: arrays by name. The metric takes those that it reads and ignores the others.

        Raises:
          ValueError: a value that the metric reads is missing, or shapes do not fit.
          TypeError: a value is of a type that the metric cannot read.
        """

    @abc.abstractmethod
    def merge(self, other: Object, /) -> Self:
        """A new metric that has seen all that both have seen.

        Raises:
          ValueError: `other` is a metric of another class or with other options.
        """

    @abc.abstractmethod
    def compute(self) -> Any:
        """The measure of all that was seen, as device arrays. Never raises inside jit."""

    @abc.abstractmethod
    def reset(self) -> Self:
        """A metric with the same options that has seen nothing, its leaves in new buffers."""

    def __repr__(self) -> str:
        """The call that makes such a metric, without what it has seen."""
        options = []
        for option in getattr(self, "__dataclass_fields__", {}).values():
            value = getattr(self, option.name)
            if option.repr and option.metadata.get("static") and value != option.default:
                text = getattr(value, "__name__", None) or repr(value)
                options.append(f"{option.name}={text}" if option.kw_only else text)
        return f"{type(self).__name__}({', '.join(options)})"

    def __treescope_repr__(self, path: str | None, subtree_renderer: Object) -> Any:
        """The call that makes it, and what it computes to so far."""
        return one_line(repr(self), path, _so_far(self))


def _so_far(metric: Metric) -> str:
    """What a metric computes to, in a few words; none where it cannot be read any more."""
    leaves = jax.tree.leaves(metric)
    if not all(isinstance(leaf, np.ndarray | jax.Array) and _is_readable(leaf) for leaf in leaves):
        return ""
    value = np.asarray(metric.compute())
    return f"{value:.4f} so far" if value.ndim == 0 else f"{' x '.join(map(str, value.shape))} values so far"


def _is_readable(leaf: Object) -> bool:
    if isinstance(leaf, Tracer):
        return False
    return isinstance(leaf, np.ndarray) or (leaf.is_fully_addressable and not leaf.is_deleted())


def check_mergeable(metric: Metric, other: Object) -> None:
    """Raise unless the two are metrics of one class with the same options.

    Raises:
      ValueError: names both.
    """
    if jax.tree.structure(metric) != jax.tree.structure(other):
        raise ValueError(
            f"cannot merge {metric!r} with {other!r}: only metrics of one class with the same "
            f"options can be merged. Make both by the same call, {metric!r}."
        )
