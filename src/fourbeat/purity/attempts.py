"""One watched trace: the calls and lines that were seen, and the arguments that were written."""

import contextlib
from collections.abc import Iterator
from types import FrameType
from typing import Any

import jax
from flax import nnx

from fourbeat.objects.calls import CallWatch, profiled
from fourbeat.objects.lines import LineWatch
from fourbeat.objects.ownership import Ownership
from fourbeat.objects.reaching import reach_arguments
from fourbeat.objects.snapshot import Snapshot
from fourbeat.purity.inner_jits import Called, InnerJits, Lost, lost_changes
from fourbeat.purity.programs import Program
from fourbeat.purity.target import Target
from fourbeat.trees.arguments import Arguments, abstract, is_result
from fourbeat.trees.jaxprs import traced_anew
from fourbeat.types import Args, Object


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

    def run(self, arguments: Arguments) -> Program:
        """Traces; raises what the function raises."""
        returned: list[Any] = []

        def run(*arrays: Any) -> list[Any]:
            args, keywords = arguments.rebuilt(arrays)
            given = self._reached(args, keywords)
            with self._watching():
                out = self._target.call(*args, **keywords)
            called = Called(self._target.name, tuple(self._target.parameters))
            self.lost = [*(Lost(change, called) for change in lost_changes(given, out)), *self._inner.lost]
            returned.append(out)
            return [leaf for leaf in jax.tree.leaves(out) if is_result(leaf)]

        jaxpr = traced_anew(run, *map(abstract, arguments.traced))
        return Program(jaxpr, returned[-1])

    def _reached(self, args: Args, keywords: dict[str, Any]) -> Snapshot:
        """What the arguments hold, as the function gets them."""
        roots = self._target.arguments(args, keywords)
        if self._target.keeps_nnx_writes:
            roots = [(name, value) for name, value in roots if not isinstance(value, nnx.Pytree)]
        given = reach_arguments(roots, self._own, self._known)
        if self._lines:
            self._lines.watch(each for each in given.holders if each.path in self._argument_paths)
        return given

    @contextlib.contextmanager
    def _watching(self) -> Iterator[None]:
        with profiled(self._on_event) if self._calls or self._lines else contextlib.nullcontext():
            if self._lines:
                self._lines.start()
            try:
                yield
            finally:
                if self._lines:
                    self._lines.stop()

    def _on_event(self, frame: FrameType, event: str, arg: Object) -> None:
        if self._calls:
            self._calls.on_event(frame, event, arg)
        self._inner.on_event(frame, event, arg)
