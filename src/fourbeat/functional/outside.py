"""What a method can reach beside its objects: globals, class attributes, closures, defaults, clocks.

A state cannot carry these, so a write to one of them is undone and refused. A memo stays. The method runs a
second time: a write that it does not repeat is a memo.
"""

import contextlib
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from fourbeat.functional import refusals
from fourbeat.functional.specs import Constant, Node, Spec, function_of, walk
from fourbeat.objects.calls import CallWatch, profiled
from fourbeat.objects.comparing import show
from fourbeat.objects.lines import Line, lines_of
from fourbeat.objects.memos import MemoTrial
from fourbeat.objects.ownership import Ownership, is_of_a_library
from fourbeat.objects.reaching import reach
from fourbeat.objects.slots import ArraySlots, CacheSlots, IteratorSlots, RandomSlots
from fourbeat.objects.snapshot import Change, Snapshot
from fourbeat.trees.jaxprs import constants, traced_anew


class Outside:
    """Every slot that the functions of a state can name, as it is now, and a watch over what they call.

    Args:
      spec: the spec of the state.
      tracers: the tracers that the method is given.
    """

    def __init__(self, spec: Spec, tracers: Iterable[Any]):
        nodes = [node for root in spec.roots for node in walk(root)]
        composites = [node for node in nodes if isinstance(node, Node)]
        kinds = dict.fromkeys(node.kind for node in composites)
        functions = [function_of(node) for node in composites if node.kind is types.FunctionType]
        modules = [kind.__module__ for kind in kinds]
        modules += [function.__globals__.get("__name__") for function in functions]
        modules = [module for module in modules if module and not is_of_a_library(module)]
        self._own = Ownership(*modules)
        self._owner = modules[0] if modules else ""
        self._roots: list[tuple[str, Any]] = [(kind.__name__, kind) for kind in kinds]
        self._roots += [(function.__name__, function) for function in functions]
        # constants that may be written to: objects that are not cloned, such as a logger or a sentinel
        kept = [node for node in nodes if isinstance(node, Constant) and node.error is None]
        self._shared = [(c.path, c.value) for c in kept if not isinstance(c.value, np.ndarray)]
        self._start = self._reached()
        self._calls = CallWatch(self._own)
        self._tracers = set(map(id, tracers))

    @contextlib.contextmanager
    def watching(self, *, calls: bool) -> Iterator[None]:
        """Watches while the method runs. If the method raises, its writes are undone."""
        try:
            with profiled(self._calls.on_event) if calls else contextlib.nullcontext():
                yield
        except BaseException:
            self._start.restore()
            raise

    def put_back(self) -> None:
        """Undoes every write, memos too."""
        self._start.restore()

    def check(self, name: str, again: Callable[[], Any]) -> None:
        """Undoes every write that is no memo, and raises for the first one.

        Args:
          name: the method's name, for errors.
          again: runs the method once more on a clone of its own.

        Raises:
          FunctionalizeError: the method did something that a compiled program does only while it is traced;
            the text names the place, the line and the repair.
        """
        for call in self._calls.seen:
            if call.kind != "PRINT":
                self._start.restore()
                refuse = refusals.read_outside if call.kind == "CLOCK" else refusals.drew
                raise refuse(name, call.path, call.line)
        changes = self._start.changes()
        if not changes:
            return
        texts = {change.place: (show(change.before), show(change.after)) for change in changes}
        run = lambda: constants(traced_anew(again))
        trial = MemoTrial(changes, self._reached(), run, self._tracers)
        lost = trial.lost()
        if not lost and not trial.met_dead_tracer:
            return
        for change in lost:
            texts.setdefault(change.place, (show(change.before), show(change.after)))
        lines = lines_of(lost, self._start, self._own, lambda: traced_anew(again))
        if not lost:
            raise refusals.left_a_tracer(name, trial.empty_caches()[0])
        raise _refusal(name, lost[0], texts[lost[0].place], lines.get(lost[0].place))

    def _reached(self) -> Snapshot:
        return reach(self._roots, self._own, owner=self._owner, shared=self._shared)


def _refusal(name: str, change: Change, texts: tuple[str, str], line: Line | None) -> Exception:
    holder = change.holder
    place = f"the {holder.role} {change.path}" if holder.role else change.path
    if isinstance(holder.reader, RandomSlots):
        return refusals.drew(name, change.path, line)
    if isinstance(holder.reader, IteratorSlots):
        return refusals.advanced(name, place, line)
    if isinstance(holder.reader, CacheSlots):
        return refusals.filled_cache(name, f"the cache of {change.path}", line)
    if isinstance(holder.reader, ArraySlots) and isinstance(change.before, str):  # a checksum
        return refusals.wrote_large_array(name, place, holder.value.nbytes, line)
    return refusals.wrote_outside(name, place, *texts, line)
