"""Parameters chosen by patterns over their paths in the model, and labels for them."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from fourbeat.trees.globs import joined, matches, unmatched
from fourbeat.trees.paths import Path, plain_path
from fourbeat.types import Object, Params, Tree


@dataclasses.dataclass(frozen=True)
class Paths:
    """A filter for what lies at certain paths. Made by `paths`."""

    patterns: tuple[str, ...]

    def __call__(self, path: Path, value: Object) -> bool:
        if isinstance(value, nnx.Variable) and not isinstance(value, nnx.Param):
            return False
        if isinstance(value, jax.Array | np.ndarray | np.generic) and not jnp.issubdtype(
            value.dtype, jnp.inexact
        ):
            return False
        return any(matches(pattern, joined(path)) for pattern in self.patterns)

    def __repr__(self) -> str:
        return f"paths({', '.join(map(repr, self.patterns))})"


def paths(*patterns: str) -> Paths:
    """A filter for the parameters at these paths: for `wrt`, and wherever Flax takes a filter.

    Args:
      patterns: over the path in the model, whose keys are joined by slashes, as in "blocks/*/kernel"; `*`
        stands for any part of a path, slashes too, as in `fourbeat.shard.by_path`. Of variables only
        `nnx.Param` are chosen, never batch statistics or random state, and of a plain pytree only arrays of
        floats. Of modules, in `model.set_attributes`, the path alone counts.

    Raises:
      ValueError: as `wrt`, for a pattern that matches no parameter.
      TypeError: there is no pattern, or one is no text.

    >>> import fourbeat as fb
    >>> model = {"head": {"w": jnp.ones(2)}, "body": {"w": jnp.ones(3)}}
    >>> static, params, rest = fb.split(model, wrt=fb.models.paths("head/*"))
    >>> list(params), list(rest)
    (['head'], ['body'])
    """
    if not patterns or not all(isinstance(pattern, str) for pattern in patterns):
        raise TypeError(
            f"paths takes patterns, such as paths('head/*', 'blocks/3/*'); got {patterns!r:.200}."
        )
    return Paths(patterns)


def check_patterns(wrt: Object, places: Sequence[str]) -> None:
    """Raises a ValueError if a pattern within a filter matches none of the places, which are joined paths."""
    for each in _within(wrt):
        if said := unmatched(each.patterns, places, of=repr(each), what="array of the model"):
            raise ValueError(said)


def _within(selects: Object) -> Iterator[Paths]:
    """The `Paths` that a filter is made of."""
    if isinstance(selects, Paths):
        yield selects
    elif isinstance(selects, nnx.All | nnx.Any):
        for each in selects.predicates:
            yield from _within(each)
    elif isinstance(selects, nnx.Not):
        yield from _within(selects.predicate)
    elif isinstance(selects, list | tuple):
        for each in selects:
            yield from _within(each)


def labels(by_pattern: Mapping[str, str], *, otherwise: str | None = None) -> Callable[[Params], Tree]:
    """A function that labels each parameter by its path: for `optax.partition`, whose groups these are.

    Args:
      by_pattern: labels by pattern, as `paths` takes them; the first pattern that matches counts. A pattern
        may match nothing: which parameters there are depends on `wrt`.
      otherwise: the label of what no pattern matches.

    Returns:
      `label(params)`, a tree of labels like the parameters. It raises a ValueError for a parameter that no
      pattern matches where `otherwise` is None.

    >>> label = labels({"*/bias": "no decay"}, otherwise="decay")
    >>> label({"head": {"bias": 0.0, "kernel": 1.0}})
    {'head': {'bias': 'no decay', 'kernel': 'decay'}}
    """

    def label_of(key_path: tuple, _: Object) -> str:
        place = joined(plain_path(key_path))
        found = next((label for pattern, label in by_pattern.items() if matches(pattern, place)), otherwise)
        if found is None:
            raise ValueError(
                f"labels has no label for the parameter {place!r}: its patterns are "
                f"{', '.join(map(repr, by_pattern))}. Add one that matches, or pass otherwise=."
            )
        return found

    return lambda params: jax.tree.map_with_path(label_of, params)
