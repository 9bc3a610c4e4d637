"""The text of every finding: what happened, where it happened, what jit does with it, and the repair."""

import dataclasses

from flax import nnx
from jax.core import Tracer

from fourbeat.objects.comparing import holds_tracer, plain
from fourbeat.objects.lines import Line
from fourbeat.objects.ownership import Ownership
from fourbeat.objects.slots import CacheSlots, IteratorSlots
from fourbeat.objects.snapshot import Change
from fourbeat.purity.inner_jits import Called
from fourbeat.purity.report import ERRORS, Finding, Kind, Level, shown_change
from fourbeat.purity.target import Target
from fourbeat.types import Object

_NOT_SEEN = "at a line that was not seen"


@dataclasses.dataclass(frozen=True)
class Seen:
    """A change, with its values as text: the values themselves may change later.

    `before` and `after` are plain values or texts, `values` reads `(0 -> 1)`; `called` is the function
    whose argument it is.
    """

    change: Change
    before: Object
    after: Object
    values: str
    holds_tracer: bool
    is_own: bool
    called: Called

    @classmethod
    def of(cls, change: Change, own: Ownership, called: Called | None = None) -> "Seen":
        """The change as it is now; slots of arguments of `called` always count as own."""
        before, after = change.before, change.after
        is_own = called is not None or not change.holder.owner or own.owns(change.holder.owner)
        values, called = shown_change(before, after), called or Called("", ())
        return cls(change, plain(before), plain(after), values, holds_tracer(after), is_own, called)


class Wording:
    """Makes the findings about one function.

    Args:
      target: the function.
      constant_out: the value that every compiled call would return, if it is one plain value.
    """

    def __init__(self, target: Target, constant_out: Object = None):
        self._target = target
        self._constant_out = constant_out

    def write(self, seen: Seen, line: Line | None) -> Finding:
        """A write that happens in every trace."""
        if isinstance(seen.change.holder.reader, IteratorSlots):
            text = (
                f"{self._name} advanced the iterator {seen.change.path} {_at(line)} while it was being "
                f"traced. jit runs that line once;\nevery compiled call will use the same item."
            )
            repair = f"pass the next item as an argument: {self._name}(next({seen.change.path}))"
            return self._finding(Kind.WRITE, seen, line, text, repair)
        consequence = "no compiled call will write it again"
        if self._constant_out is not None:
            consequence = f"every compiled call will return {self._constant_out!r}"
        text = (
            f"{self._name} wrote {_slot(seen)} {seen.values} {_at(line)} while it was being traced. "
            f"jit runs that line once;\n{consequence}."
        )
        return self._finding(Kind.WRITE, seen, line, text, self._state_repair(seen))

    def leak(self, seen: Seen, line: Line | None) -> Finding:
        """A tracer left behind."""
        text = (
            f"{self._name} left a tracer in {_slot(seen)} {seen.values} {_at(line)}. A tracer has no use "
            f"after its trace;\nthe next use of {seen.change.path} raises UnexpectedTracerError."
        )
        return self._finding(Kind.LEAK, seen, line, text, self._state_repair(seen))

    def cached_leak(self, path: str, seen: Seen | None) -> Finding:
        """A tracer that a cache keeps, found because the next trace met it."""
        text = (
            f"{self._name} left a tracer in {path} {_at(None)}. A tracer has no use after its trace;\n"
            f"the next trace that met it raised UnexpectedTracerError."
        )
        repair = "cache NumPy arrays instead of JAX arrays, or compute the value before and pass it"
        return self._finding(Kind.LEAK, seen, None, text, repair, path=path)

    def refused_write(self, path: str, line: Line | None) -> Finding:
        """A write that NNX itself refuses while tracing."""
        text = (
            f"{self._name} wrote {path} {_at(line)} while it was being traced. The NNX object was captured, "
            f"not passed;\nNNX raises TraceContextError."
        )
        repair = self._state_repair(None)
        return self._finding(Kind.WRITE, None, line, text, repair, path=path)

    def lost_write(self, seen: Seen, line: Line | None) -> Finding:
        """A write to an argument; jit passes a copy of that argument."""
        values = "" if isinstance(seen.change.before, Tracer) else f" {seen.values}"
        root, (name, parameters) = _root(seen.change.path), seen.called
        text = (
            f"{name} wrote {seen.change.path}{values} {_at(line)}, which belongs to an argument. "
            f"jit passes a copy and drops it;\nthe caller's {root} stays as it was."
        )
        repair = f"return it: value, {root} = {name}({', '.join(parameters)})"
        if isinstance(seen.change.holder.value, (nnx.Pytree, nnx.Variable)):
            others = [each for each in parameters if each != root]
            repair = (
                f"F = fb.functionalize({name}, {root}); value, state = "
                f"F({', '.join(['state', *others])}); or compile it with nnx.jit"
            )
        return self._finding(Kind.LOST_WRITE, seen, line, text, repair)

    def random(self, path: str, line: Line | None, seen: Seen | None = None) -> Finding:
        """The function drew from a random generator outside the program."""
        text = (
            f"{self._name} drew from {path} {_at(line)} while it was being traced. jit runs that line once;\n"
            f"every compiled call will use the same numbers."
        )
        repair = f"take a key: {self._call(self._target.name, 'key')}, and draw with jax.random"
        return self._finding(Kind.RNG, seen, line, text, repair, path=path)

    def clock(self, path: str, line: Line) -> Finding:
        """The time or the environment was read."""
        text = (
            f"{self._name} read {path} {_at(line)} while it was being traced. jit runs that line once;\n"
            f"every compiled call will use what was read then."
        )
        repair = "read it before the call and pass the value as an argument"
        return self._finding(Kind.CLOCK, None, line, text, repair, path=path)

    def nondeterministic(self) -> Finding:
        """Two traces from the same state differ."""
        text = f"{self._name} gave two programs in two traces from the same state.\njit keeps the first one."
        repair = "pass what differs (an id, an order of a set, an outside value) as an argument"
        return self._finding(Kind.NONDETERMINISTIC, None, None, text, repair, path=self._name)

    def baked(self, path: str, described: str, num_bytes: int) -> Finding:
        """A large array is a constant of the program."""
        text = (
            f"{self._name} captured {path} ({described}, {num_bytes / 1e6:.1f} MB) as a constant. Every "
            f"compiled program holds a copy;\nwhat is written to {path} later is not seen."
        )
        repair = "pass it as an argument"
        return self._finding(Kind.BAKED, None, None, text, repair, path=path)

    def printed(self, path: str, line: Line) -> Finding:
        """Something was printed, logged or written to a file."""
        text = f"{self._name} called {path} {_at(line)}. jit runs that line once, while tracing."
        repair = "jax.debug.print, or jax.debug.callback for other output"
        return self._finding(Kind.PRINT, None, line, text, repair, path=path)

    def cached(self, seen: Seen, line: Line | None, *, misleads: bool) -> Finding:
        """A write that the second trace no longer made."""
        if isinstance(seen.change.holder.reader, CacheSlots):
            filled = f"filled the cache of {seen.change.path} {seen.values}"
            text = f"{self._name} {filled}; a second trace added nothing."
            return self._finding(Kind.CACHE, seen, None, text, "none is needed")
        text = (
            f"{self._name} wrote {_slot(seen)} {seen.values} {_at(line)}; a second trace left it as it was."
        )
        repair = "none is needed while the value depends on nothing that changes"
        if misleads:
            text += " jit runs that line once;\nonce it is set back, no compiled call writes it again."
            repair = "set it before the call, or return it"
        level = Level.WARNING if misleads and seen.is_own else Level.INFORMATION
        return self._finding(Kind.CACHE, seen, line, text, repair, level=level)

    def _finding(
        self,
        kind: Kind,
        seen: Seen | None,
        line: Line | None,
        text: str,
        repair: str,
        *,
        path: str | None = None,
        level: Level | None = None,
    ) -> Finding:
        if level is None:
            level = _level(kind, seen is None or seen.is_own)
        file, number = line or (None, None)
        before, after = (seen.before, seen.after) if seen else (None, None)
        path = seen.change.path if path is None and seen else path or ""
        text = f"{text} Repair: {repair}."
        return Finding(kind, path, before, after, file, number, level, text, repair)

    @property
    def _name(self) -> str:
        return self._target.name

    def _call(self, name: str, *more: str) -> str:
        return f"{name}({', '.join([*self._target.parameters, *more])})"

    def _state_repair(self, seen: Seen | None) -> str:
        """How to make the object or the variable explicit."""
        target, path = self._target, seen.change.path if seen else "self"
        arguments = ", ".join(["state", *target.parameters])
        if target.owner is not None and not isinstance(target.owner, type) and _root(path) == "self":
            method = target.name.rpartition(".")[2]
            pure = "F" if method == "__call__" else f"F.{method}"
            return f"F = fb.functionalize({target.variable}); value, state = {pure}({arguments})"
        root = _root(path)
        is_variable = seen is not None and (path == root or seen.change.holder.role == "global")
        if is_variable or isinstance(seen and seen.change.holder.value, type):
            name = path.rpartition(".")[2]
            given = ", ".join([name, *target.parameters])
            return f"take {name} as an argument and return it: value, {name} = {target.name}({given})"
        others = ", ".join(["state", *(name for name in target.parameters if name != root)])
        return (
            f"take {root} as an argument: F = fb.functionalize({target.name}, {root}); "
            f"value, state = F({others})"
        )


def _level(kind: Kind, is_own: bool) -> Level:
    if kind in ERRORS:
        return Level.ERROR if is_own else Level.WARNING
    return Level.INFORMATION if kind in (Kind.PRINT, Kind.CACHE) else Level.WARNING


def _slot(seen: Seen) -> str:
    role = seen.change.holder.role
    return f"the {role} {seen.change.path}" if role else seen.change.path


def _at(line: Line | None) -> str:
    return _NOT_SEEN if line is None else f"at {line}"


def _root(path: str) -> str:
    return path.partition(".")[0].partition("[")[0]
