"""Metrics of members: the same metric once for each of them."""

from dataclasses import dataclass, replace
from typing import Any

import jax

from fourbeat.metrics import Metric
from fourbeat.replicating.forms import num_members, one_of, stacked


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class MemberMetrics:
    """One metric for each member. What it computes has a leading axis of members.

    Attributes:
      held: the metric with a leading axis of members, or a tuple of one metric a member.

    >>> import fourbeat as fb
    >>> metrics = MemberMetrics.of(fb.metrics.Mean("loss"), 2, is_stacked=True)
    >>> metrics.compute().shape
    (2,)
    """

    held: Any

    @classmethod
    def of(cls, metric: Metric, num: int, *, is_stacked: bool) -> "MemberMetrics":
        """A metric that has seen nothing, once for each of `num` members."""
        members = [metric.reset() for _ in range(num)]
        return cls(stacked(members) if is_stacked else tuple(members))

    def reset(self) -> "MemberMetrics":
        """The same metrics, which have seen nothing."""
        members = [one_of(self.held, place).reset() for place in range(num_members(self.held))]
        return replace(self, held=tuple(members) if type(self.held) is tuple else stacked(members))

    def compute(self) -> Any:
        """What each metric computes, with a leading axis of members."""
        if type(self.held) is tuple:
            each = [metric.compute() for metric in self.held]
            return _in_order(stacked(each), each[0])
        order: list[Any] = []

        def compute(metric: Metric) -> Any:
            order[:] = [metric.compute()]
            return order[0]

        return _in_order(jax.vmap(compute)(self.held), order[0])

    def __repr__(self) -> str:
        return f"MemberMetrics({one_of(self.held, 0)!r}, {num_members(self.held)} members)"


def _in_order(values: Any, like: Any) -> Any:
    """The values with their names in the order of `like`, and not sorted as JAX gives a dict back."""
    if not isinstance(like, dict):
        return values
    return {name: _in_order(values[name], each) for name, each in like.items()}
