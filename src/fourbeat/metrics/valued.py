"""Metrics of a named value, or of what a user's function makes of named values: how they read it."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from fourbeat.metrics.inputs import named_value, spread_weight
from fourbeat.metrics.metric import Metric
from fourbeat.metrics.per_example import check_one_value_an_example
from fourbeat.trees.example_counts import common_num_examples


@dataclass(frozen=True, eq=False, repr=False)
class Valued(Metric):
    """A metric of one value: what is read by name, or what a function makes of the values."""

    value: str | Callable[..., ArrayLike] = field(metadata={"static": True})

    def read(self, values: dict[str, Any], weight: ArrayLike | None) -> tuple[jax.Array, jax.Array]:
        """The value of one update, and the weight of each number in it.

        Raises:
          ValueError: a value is missing, or shapes do not fit.

        Warns:
          CrossedExamplesWarning: the function returned a value for every pair of examples.
        """
        what, value, check = self.read_value(values, weight)
        weights = spread_weight(self, value.shape, weight, of=what)
        check()
        return value, weights

    def read_value(
        self, values: dict[str, Any], weight: ArrayLike | None
    ) -> tuple[str, jax.Array, Callable[[], None]]:
        """How the value reads in a text, the value, and a check of its shape against the examples' number."""
        if isinstance(self.value, str):
            rename = f'{type(self).__name__}("...")'
            value = named_value(self, values, self.value, rename=rename)
            return repr(self.value), value, lambda: None
        function, name = self.value, name_of(self.value)
        required, optional = names_read(self, function)
        rename = f"rename the parameter of {name}"
        given = {each: named_value(self, values, each, rename=rename) for each in required}
        given |= {each: values[each] for each in optional if each in values}
        what, value = f"what {name} returned", jnp.asarray(function(**given))

        def check() -> None:
            again = lambda given: jnp.asarray(function(**given))
            num_examples = _num_examples(given, values, weight)
            check_one_value_an_example(what, value.shape, given, num_examples, again)

        return what, value, check


def _num_examples(given: dict[str, Any], values: dict[str, Any], weight: ArrayLike | None) -> int | None:
    """How many examples the batch has: by its weight or loss, else by what the function is given."""
    for told in (weight, values.get("loss")):
        if told is not None and jnp.ndim(told):
            return jnp.shape(told)[0]
    return common_num_examples(given) if len(jax.tree.leaves(given)) > 1 else None


def name_of(value: str | Callable[..., ArrayLike]) -> str:
    """How a value reads in a text."""
    if isinstance(value, str):
        return repr(value)
    return getattr(value, "__name__", None) or repr(value)


def names_read(
    metric: Metric, value: str | Callable[..., ArrayLike]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of the values that must be given, and of those that may be.

    Raises:
      TypeError: the value is neither a name nor a function of named parameters.
    """
    if isinstance(value, str):
        return (value,), ()
    kind = type(metric).__name__
    if not callable(value):
        raise TypeError(
            f"{kind} takes the name of a value or a function of named values, and got {value!r}. "
            f'Write {kind}("loss"), or {kind}(function).'
        )
    name = name_of(value)
    try:
        parameters = inspect.signature(value).parameters.values()
    except ValueError as error:
        raise TypeError(
            f"{kind}({name}) cannot tell which values to give: {name} has no signature. "
            f"Wrap it: def metric(logits, labels): return {name}(logits, labels)."
        ) from error
    for parameter in parameters:
        by_name = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        if not by_name or parameter.name == "weight":
            shown = parameter.replace(annotation=parameter.empty)
            raise TypeError(
                f"{kind}({name}) cannot give {name} its parameter `{shown}`: values are given by "
                f"name, and the weight is applied to what the function returns. "
                f"Write it as def {name}(logits, labels), returning one number an example."
            )
    required = [each.name for each in parameters if each.default is each.empty]
    optional = [each.name for each in parameters if each.default is not each.empty]
    return tuple(required), tuple(optional)
