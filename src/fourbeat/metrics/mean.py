"""The weighted mean, of a named value or of what a user's function returns."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Self, final

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from fourbeat.metrics import totals
from fourbeat.metrics.inputs import item_weight, named_value, weighted_sums
from fourbeat.metrics.metric import Metric, check_mergeable
from fourbeat.metrics.per_example import check_one_value_an_example
from fourbeat.trees.rows import common_rows


@final
@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class Mean(Metric):
    """Weighted mean of a value, or of what a function makes of the values: a metric of your own.

    Computes float32 `sum(value * weight) / sum(weight)`; NaN where nothing was seen.

    Args:
      value: name of a real array that holds one number per item; or a function that returns such
        an array. The names of the function's parameters say which values it is given; one that has
        a default may be missing. Define the function once: the same lambda written twice is two
        functions, and a step compiled for one is compiled again for the other.

    Raises:
      TypeError: `value` is neither, or the function has a parameter that no value can be given to.
      ValueError: on update, the first axis of what the function returned is not the batch's.

    Warns:
      CrossedExamplesWarning: on update, the function returned a value for every pair of rows.

    >>> loss, weight = jnp.array([1.0, 4.0, jnp.nan]), jnp.array([1.0, 0.5, 0.0])
    >>> float(Mean("loss").update(loss=loss, weight=weight).compute())
    2.0
    >>> def absolute_error(predictions, targets):
    ...     return jnp.abs(predictions - targets)
    >>> error = Mean(absolute_error)
    >>> error
    Mean(absolute_error)
    >>> float(error.update(predictions=jnp.array([1.0, 2.0]), targets=jnp.zeros(2)).compute())
    1.5
    """

    value: str | Callable[..., ArrayLike] = field(metadata={"static": True})
    sums: jax.Array = field(default=totals.FRESH, kw_only=True)
    # What the function reads, found once: unflattening makes a metric anew at every dispatch.
    reads: tuple[str, ...] = field(default=(), kw_only=True, repr=False, metadata={"static": True})
    may_read: tuple[str, ...] = field(default=(), kw_only=True, repr=False, metadata={"static": True})

    def __post_init__(self) -> None:
        if self.sums is totals.FRESH:
            reads, may_read = _names_read(self.value)
            object.__setattr__(self, "reads", reads)
            object.__setattr__(self, "may_read", may_read)
            object.__setattr__(self, "sums", totals.zeros(2))

    def update(self, /, *, weight: ArrayLike | None = None, **values: Any) -> Self:
        rename = f"rename the parameter of {_name_of(self.value)}"
        if isinstance(self.value, str):
            rename = 'Mean("...")'
        given = {name: named_value(self, values, name, rename=rename) for name in self.reads}
        if isinstance(self.value, str):
            value, what, function = given[self.value], repr(self.value), None
        else:
            given |= {name: values[name] for name in self.may_read if name in values}
            function, what = self.value, f"what {_name_of(self.value)} returned"
            value = jnp.asarray(function(**given))
        weights = item_weight(self, value.shape, weight, of=what)
        if function is not None:
            again = lambda given: jnp.asarray(function(**given))
            check_one_value_an_example(what, value.shape, given, _rows(given, values, weight), again)
        return replace(self, sums=totals.add(self.sums, weighted_sums(value, weights)))

    def merge(self, other: Self, /) -> Self:
        check_mergeable(self, other)
        return replace(self, sums=totals.merge(self.sums, other.sums))

    def compute(self) -> jax.Array:
        total, weight = totals.read(self.sums)
        return total / weight

    def reset(self) -> Self:
        return replace(self, sums=totals.zeros(2))


def _rows(given: dict[str, Any], values: dict[str, Any], weight: ArrayLike | None) -> int | None:
    """Rows of the batch that an update is of: by its weight or loss, else by what the function is given."""
    for told in (weight, values.get("loss")):
        if told is not None and jnp.ndim(told):
            return jnp.shape(told)[0]
    return common_rows(given) if len(jax.tree.leaves(given)) > 1 else None


def _name_of(value: str | Callable[..., ArrayLike]) -> str:
    if isinstance(value, str):
        return repr(value)
    return getattr(value, "__name__", None) or repr(value)


def _names_read(value: str | Callable[..., ArrayLike]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of the values that must be given, and of those that may be.

    Raises:
      TypeError: the value is neither a name nor a function of named parameters.
    """
    if isinstance(value, str):
        return (value,), ()
    if not callable(value):
        raise TypeError(
            f"Mean takes the name of a value or a function of named values, and got {value!r}. "
            f'Write Mean("loss"), or Mean(function).'
        )
    name = _name_of(value)
    try:
        parameters = inspect.signature(value).parameters.values()
    except ValueError as error:
        raise TypeError(
            f"Mean({name}) cannot tell which values to give: {name} has no signature. "
            f"Wrap it: def metric(logits, labels): return {name}(logits, labels)."
        ) from error
    for parameter in parameters:
        by_name = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        if not by_name or parameter.name == "weight":
            shown = parameter.replace(annotation=parameter.empty)
            raise TypeError(
                f"Mean({name}) cannot give {name} its parameter `{shown}`: values are given by "
                f"name, and the weight is applied to what the function returns. "
                f"Write it as def {name}(logits, labels), returning one number per item."
            )
    required = [each.name for each in parameters if each.default is each.empty]
    optional = [each.name for each in parameters if each.default is not each.empty]
    return tuple(required), tuple(optional)
