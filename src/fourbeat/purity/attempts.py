"""One watched trace: the calls and lines that were seen, and the arguments that were written."""

import sys
from typing import Any

from flax import nnx

from fourbeat.objects.calls import CallWatch
from fourbeat.objects.lines import LineWatch
from fourbeat.objects.ownership import Ownership
from fourbeat.objects.reaching import reach_arguments
from fourbeat.objects.snapshot import Snapshot
from fourbeat.purity.inner_jits import Called, InnerJits, Lost, lost_changes
from fourbeat.purity.programs import Program
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
        self.lost: list[Lost] = []
        self._target = target
        self._own = own
        self._known = known
        self._calls = calls
        self._lines = lines
        self._argument_paths = argument_paths
        self._inner = InnerJits(own, known, lines, argument_paths)
        self._arguments = Snapshot(())
        self._profiler: Any = None

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
        self._profiler = sys.getprofile()
        if self._calls or self._lines:
            sys.setprofile(self._on_event)
        if self._lines:
            self._lines.start()
        return self

    def __exit__(self, *raised: Any) -> None:
        if self._lines:
            self._lines.stop()
        sys.setprofile(self._profiler)  # a profiler that watched before goes on

    def _on_event(self, frame: Any, event: str, arg: Any) -> None:
        if self._calls:
            self._calls.on_event(frame, event, arg)
        self._inner.on_event(frame, event, arg)

    def finish(self, out: Any) -> None:
        """Finds the writes to arguments that the result does not carry out."""
        called = Called(self._target.name, tuple(self._target.parameters))
        lost = [Lost(change, called) for change in lost_changes(self._arguments, out)]
        self.lost = [*lost, *self._inner.lost]
