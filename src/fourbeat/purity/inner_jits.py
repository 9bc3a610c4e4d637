"""The arguments of functions that `jax.jit` traces inside of the checked function."""

from types import FrameType
from typing import NamedTuple

import jax
from jax.core import Tracer

from fourbeat.objects.families import family_of
from fourbeat.objects.lines import LineWatch
from fourbeat.objects.ownership import Ownership
from fourbeat.objects.reaching import reach_arguments
from fourbeat.objects.snapshot import Change, Snapshot
from fourbeat.trees.jaxprs import traced_for
from fourbeat.types import Object

# The modules of JAX that call the function which is traced; they differ between its versions.
_CALLERS = tuple(f"jax._src.{name}" for name in ("interpreters.partial_eval", "linear_util", "api_util"))


class Called(NamedTuple):
    """The function whose argument was written, and its parameters."""

    name: str
    parameters: tuple[str, ...]


class Lost(NamedTuple):
    """A write to an argument that jit throws away."""

    change: Change
    called: Called


class InnerJits:
    """Watches them: plain `jax.jit` hands its function a copy of every pytree.

    Args:
      own: whose functions count.
      known: what is watched anyway.
      lines: watch which lines write to the arguments at these paths.
      paths: of arguments.
    """

    def __init__(self, own: Ownership, known: Snapshot, lines: LineWatch | None, paths: frozenset[str]):
        self.lost: list[Lost] = []
        self._own = own
        self._known = known
        self._lines = lines
        self._paths = paths
        self._open: dict[int, tuple[Snapshot, Called]] = {}

    def on_event(self, frame: FrameType, event: str, arg: Object) -> None:
        """Takes an event of a profiler."""
        if event == "call" and _is_jit(frame.f_back) and self._own.is_own_frame(frame):
            self._enter(frame)
        elif event == "return" and id(frame) in self._open:
            arguments, called = self._open.pop(id(frame))
            self.lost += [Lost(change, called) for change in lost_changes(arguments, arg)]

    def _enter(self, frame: FrameType) -> None:
        code = frame.f_code
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        copies = [(name, frame.f_locals[name]) for name in names if _is_copy(frame.f_locals.get(name))]
        if copies:
            arguments = reach_arguments(copies, self._own, self._known)
            self._open[id(frame)] = (arguments, Called(code.co_name, names))
            if self._lines:
                self._lines.watch(each for each in arguments.holders if each.path in self._paths)


def lost_changes(arguments: Snapshot, out: Object) -> list[Change]:
    """The writes to arguments that a result does not carry out."""
    changes = arguments.changes()
    returned = _returned(out) if changes else set()
    return [change for change in changes if not _is_returned(change, returned)]


def _is_jit(frame: FrameType | None) -> bool:
    return frame is not None and frame.f_globals.get("__name__") in _CALLERS


def _is_copy(value: Object) -> bool:
    """Whether jit has put this value together around its tracers."""
    if family_of(value) is None:
        return False
    return any(traced_for(leaf) == "jit" for leaf in jax.tree.leaves(value))


def _returned(out: Object) -> set[int]:
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
