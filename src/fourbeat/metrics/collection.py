"""Metrics by name, updated and computed together."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self, final

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from fourbeat.metrics.metric import Metric, check_mergeable
from fourbeat.trees.rendering import opened
from fourbeat.types import Object


@final
@jax.tree_util.register_pytree_with_keys_class
@dataclass(frozen=True, eq=False, repr=False, init=False)
class Collection(Metric):
    """Metrics by name: each update goes to all of them, and they compute to a dict.

    A metric is read as `metrics["loss"]` or `metrics.loss`. The names keep their order. What is given
    is copied, so that a step that donates the collection's buffers deletes no array of the caller's.

    Args:
      **metrics: a `Metric` by name, another collection among them; at least one.

    Raises:
      ValueError: no metric is given, or a name is one of the collection's own methods or starts
        with an underscore.
      TypeError: something given is not a metric.

    >>> import jax.numpy as jnp
    >>> from fourbeat.metrics import Accuracy, Mean
    >>> metrics = Collection(loss=Mean("loss"), accuracy=Accuracy())
    >>> metrics
    Collection(loss=Mean('loss'), accuracy=Accuracy())
    >>> logits, labels = jnp.array([[2.0, 1.0], [0.0, 3.0]]), jnp.array([0, 0])
    >>> metrics = metrics.update(loss=jnp.array([0.25, 0.75]), logits=logits, labels=labels)
    >>> {name: float(value) for name, value in metrics.compute().items()}
    {'loss': 0.5, 'accuracy': 0.5}
    >>> metrics["loss"]
    Mean('loss')
    """

    _metrics: Mapping[str, Metric]

    def __init__(self, /, **metrics: Metric) -> None:
        if not metrics:
            raise ValueError(
                "Collection() holds no metric. "
                'Give at least one by name, such as Collection(loss=Mean("loss")).'
            )
        for name, metric in metrics.items():
            if not isinstance(metric, Metric):
                made = f"{metric.__name__}(...)" if isinstance(metric, type) else 'Mean("loss")'
                raise TypeError(
                    f"Collection cannot hold {name}={metric!r}, which is not a Metric. "
                    f"Give the metric itself, such as {name}={made}."
                )
            if name.startswith("_") or hasattr(Collection, name):
                raise ValueError(
                    f"Collection cannot hold a metric named {name!r}: the collection's own "
                    f"attributes and methods are named so. Use another name."
                )
        copies = {name: jax.tree.map(jnp.array, metric) for name, metric in metrics.items()}
        object.__setattr__(self, "_metrics", copies)

    def update(self, /, *, weight: ArrayLike | None = None, **values: Any) -> Self:
        updated = []
        for name, metric in self._metrics.items():
            try:
                updated.append(metric.update(weight=weight, **values))
            except (TypeError, ValueError) as error:
                error.add_note(f"Raised by the collection's metric {name!r}.")
                raise
        return self._with(updated)

    def merge(self, other: Self, /) -> Self:
        check_mergeable(self, other)
        return self._with([metric.merge(other[name]) for name, metric in self._metrics.items()])

    def compute(self) -> dict[str, Any]:
        return {name: metric.compute() for name, metric in self._metrics.items()}

    def reset(self) -> Self:
        return self._with([metric.reset() for metric in self._metrics.values()])

    def __getitem__(self, name: str) -> Metric:
        if name not in self._metrics:
            held = ", ".join(map(repr, self._metrics))
            raise KeyError(f"the collection holds no metric {name!r}: it holds {held}")
        return self._metrics[name]

    def __getattr__(self, name: str) -> Metric:
        if name.startswith("_"):  # not yet made, as while it is unpickled
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(*error.args) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._metrics)

    def __len__(self) -> int:
        return len(self._metrics)

    def __repr__(self) -> str:
        return f"Collection({', '.join(f'{name}={self[name]!r}' for name in self)})"

    def __treescope_repr__(self, path: str | None, subtree_renderer: Object) -> Any:
        return opened(self, dict(self._metrics), path, subtree_renderer)

    # A dict's leaves come sorted by name, and a field's path names the field: hence its own rules.
    def tree_flatten_with_keys(self):
        keys = tuple((jax.tree_util.DictKey(name), self._metrics[name]) for name in self._metrics)
        return keys, tuple(self._metrics)

    def tree_flatten(self):
        return tuple(self._metrics.values()), tuple(self._metrics)

    @classmethod
    def tree_unflatten(cls, names: tuple[str, ...], metrics: Iterable[Any]) -> Self:
        collection = object.__new__(cls)
        object.__setattr__(collection, "_metrics", dict(zip(names, metrics, strict=True)))
        return collection

    def _with(self, metrics: Iterable[Metric]) -> Self:
        """The same names with these metrics, in the same order."""
        return self.tree_unflatten(tuple(self), metrics)
