"""One watched trace: the calls and lines that were seen, and the arguments that were written."""

from typing import Any

import jax
from flax import nnx
from jax.core import Tracer

from fourbeat.explicit.families import family_of
from fourbeat.purity.calls import CallWatch
from fourbeat.purity.lines import LineWatch
from fourbeat.purity.ownership import Ownership
from fourbeat.purity.programs import Program
from fourbeat.purity.reaching import reach_arguments
from fourbeat.purity.snapshot import Change, Snapshot
from fourbeat.purity.target import Target
from fourbeat.purity.tracing import Arguments, trace


class Attempt:
    """Traces a function once and watches it.

    Args:
      target: what is traced.
      own: the packages that count.
      known: what the function reaches, as it is now.
      calls: watch for clocks, entropy and printing.
      lines: watch which lines write to these paths.
    """

    def __init__(
        self,
        target: Target,
        own: Ownership,
        known: Snapshot,
        *,
        calls: CallWatch | None = None,
        lines: LineWatch | None = None,
        argument_paths: frozenset[str] = frozenset(),
    ):
        self.lost: list[Change] = []
        self._target = target
        self._own = own
        self._known = known
        self._calls = calls
        self._lines = lines
        self._argument_paths = argument_paths
        self._arguments = Snapshot(())

    def run(self, arguments: Arguments) -> Program:
        """Traces; raises what the function raises."""
        return trace(self._target, arguments, self._around)

    def _around(self, args: tuple[Any, ...], keywords: dict[str, Any]) -> "Attempt":
        roots = self._target.arguments(args, keywords)
        if self._target.keeps_nnx_writes:
            roots = [(name, value) for name, value in roots if not isinstance(value, nnx.Pytree)]
        self._arguments = reach_arguments(roots, self._own, self._known)
        if self._lines:
            self._lines.watch(each for each in self._arguments.holders if each.path in self._argument_paths)
        return self

    def __enter__(self) -> "Attempt":
        if self._calls:
            self._calls.start()
        if self._lines:
            self._lines.start()
        return self

    def __exit__(self, *raised: Any) -> None:
        if self._lines:
            self._lines.stop()
        if self._calls:
            self._calls.stop()

    def finish(self, out: Any) -> None:
        """Finds the writes to arguments that the result does not carry out."""
        changes = self._arguments.changes()
        if changes:
            returned = _returned(out)
            self.lost = [change for change in changes if not _is_returned(change, returned)]


def _returned(out: Any) -> set[int]:
    """The ids of everything that a result holds."""
    found = {id(leaf) for leaf in jax.tree.leaves(out)}
    queue = [out]
    for value in queue:  # the queue grows while it is read
        family = family_of(value)
        if family is not None and id(value) not in found:
            found.add(id(value))
            queue += family.parts(value).values
        elif isinstance(value, Tracer):
            found.add(id(value))
    return found


def _is_returned(change: Change, returned: set[int]) -> bool:
    if id(change.holder.value) in returned:
        return True
    tracers = [leaf for leaf in jax.tree.leaves(change.after) if isinstance(leaf, Tracer)]
    return bool(tracers) and all(id(tracer) in returned for tracer in tracers)
