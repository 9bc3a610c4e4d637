"""The values that a compiled program holds as constants, and whether they have changed since."""

from collections.abc import Sequence

from fourbeat.objects.comparing import show
from fourbeat.objects.ownership import Ownership
from fourbeat.objects.snapshot import Change, Snapshot
from fourbeat.purity.attempts import Attempt
from fourbeat.purity.target import Target
from fourbeat.trees.arguments import Arguments
from fourbeat.trees.paths import lies_in


class StaleReadError(RuntimeError):
    """A compiled function holds a constant whose source has changed; the text names path and repair."""


class Capture:
    """The slots that one compiled program of a function reaches.

    Args:
      target: the function.
      arguments: those that the program was compiled for, with shapes in place of arrays.
      allow: paths that may change.
    """

    def __init__(self, target: Target, arguments: Arguments, allow: Sequence[str]):
        self._target = target
        self._arguments = arguments
        self._allow = tuple(allow)
        self._own = Ownership(*target.modules)
        self._then = self._reached()
        self._program = self._fingerprint()

    def serves(self, given: Arguments) -> bool:
        """Whether a call with these arguments runs this program."""
        return self._arguments.accepts(given)

    def raise_if_stale(self) -> None:
        """If something has changed since, traces again and compares the programs.

        Raises:
          StaleReadError: a new trace gives another program.
        """
        changes = [
            change
            for change in self._then.changes()
            if not any(lies_in(change.path, path) for path in self._allow)
        ]
        if not changes:
            return
        if self._fingerprint() == self._program:
            self._then = self._reached()
            return
        raise StaleReadError(self._explain([c for c in changes if self._matters(c)] or changes))

    def _matters(self, change: Change) -> bool:
        """Whether a trace gives another program when only this slot is restored."""
        if change.label is None:
            return True
        program, now = self._fingerprint(), Snapshot([change.holder.now()])
        change.write(change.before)
        try:
            return self._fingerprint() != program
        finally:
            now.restore()

    def _fingerprint(self) -> str:
        now = self._reached()
        try:
            return Attempt(self._target, self._own, now).run(self._arguments).fingerprint()
        finally:
            now.restore()

    def _reached(self) -> Snapshot:
        return self._target.reached(self._arguments, self._own)

    def _explain(self, changes: list[Change]) -> str:
        listed = ", ".join(f"{c.path} ({show(c.before)} -> {show(c.after)})" for c in changes)
        return (
            f"{self._target.name} captured {listed} as a constant when it was compiled, and it has changed "
            f"since.\nCompiled calls still use {show(changes[0].before)}. Repair: pass {changes[0].path} "
            f"as an argument, or compile again after changing it."
        )
