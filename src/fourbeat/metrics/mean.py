"""The weighted mean, of a named value or of what a user's function returns."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self, final

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from fourbeat.metrics import totals
from fourbeat.metrics.inputs import named_value, spread_weight
from fourbeat.metrics.per_example import check_one_value_an_example
from fourbeat.metrics.summed import WeightedMean
from fourbeat.trees.example_counts import common_num_examples


@final
@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class Mean(WeightedMean):
    """Weighted mean of a value, or of what a function makes of the values: a metric of your own.

    Computes float32 `sum(value * weight) / sum(weight)`; NaN where nothing was seen.

    Args:
      value: name of a real array that holds one number an example; or a function that returns such
        an array. The names of the function's parameters say which values it is given; one that has
        a default may be missing. Define the function once: the same lambda written twice is two
        functions, and a step compiled for one is compiled again for the other.

    Raises:
      TypeError: `value` is neither, or the function has a parameter that no value can be given to.
      ValueError: on update, the first axis of what the function returned is not the batch's.

    Warns:
      CrossedExamplesWarning: on update, the function returned a value for every pair of examples.

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
    # What the function reads, found once: unflattening makes a metric anew at every dispatch.
    reads: tuple[str, ...] = field(default=(), kw_only=True, repr=False, metadata={"static": True})
    may_read: tuple[str, ...] = field(default=(), kw_only=True, repr=False, metadata={"static": True})

    def __post_init__(self) -> None:
        if self.sums is totals.FRESH:
            reads, may_read = _names_read(self.value)
            object.__setattr__(self, "reads", reads)
            object.__setattr__(self, "may_read", may_read)
        super().__post_init__()

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
        weights = spread_weight(self, value.shape, weight, of=what)
        if function is not None:
            again = lambda given: jnp.asarray(function(**given))
            check_one_value_an_example(what, value.shape, given, _num_examples(given, values, weight), again)
        return self.add_weighted(value, weights)


def _num_examples(given: dict[str, Any], values: dict[str, Any], weight: ArrayLike | None) -> int | None:
    """How many examples the batch has: by its weight or loss, else by what the function is given."""
    for told in (weight, values.get("loss")):
        if told is not None and jnp.ndim(told):
            return jnp.shape(told)[0]
    return common_num_examples(given) if len(jax.tree.leaves(given)) > 1 else None


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
                f"Write it as def {name}(logits, labels), returning one number an example."
            )
    required = [each.name for each in parameters if each.default is each.empty]
    optional = [each.name for each in parameters if each.default is not each.empty]
    return tuple(required), tuple(optional)
