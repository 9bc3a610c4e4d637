"""The check: it traces a function, compares, traces again, and reports what jit would lose."""

from collections.abc import Sequence
from typing import Any

import jax
from flax import errors

from fourbeat.models.holding import HeldObjectError
from fourbeat.objects.calls import CallWatch
from fourbeat.objects.lines import LineWatch
from fourbeat.objects.memos import MemoTrial
from fourbeat.objects.ownership import Ownership
from fourbeat.objects.snapshot import Change, Snapshot
from fourbeat.purity.attempts import Attempt
from fourbeat.purity.programs import Program
from fourbeat.purity.report import Report
from fourbeat.purity.target import Target, resolve
from fourbeat.purity.verdicts import Evidence, held_write, judge, refused_write
from fourbeat.purity.wording import Seen
from fourbeat.trees.arguments import Arguments
from fourbeat.trees.paths import lies_in
from fourbeat.types import Object


def check(fn: Object, *args: Any, allow: Sequence[str] = (), **keywords: Any) -> Report:
    """Says what `jax.jit(fn)` would lose or freeze; nothing is compiled.

    The check traces the function twice, twice more if something has changed, and again if the change may be
    a memo; the function's Python side effects happen each time. The check undoes the function's writes,
    except iterators, files, entries of an `lru_cache` that was not empty, arrays above 64 MiB, and other
    effects outside the process. It cannot see into queues and thread-local storage, the state of extension
    modules, and the globals of packages other than the function's own.

    Args:
      fn: a function, bound method, partial or callable object; compiled ones are looked through.
      *args: example arguments. Arrays, `jax.ShapeDtypeStruct`s and numbers are traced; shapes and
        dtypes matter, values do not. If the function needs the value of a number, the number stays a value.
      allow: paths whose changes are benign, with all below them: `("self.cache",)`.
      **keywords: example keyword arguments.

    Returns:
      The report. Writes that happen in every trace, tracers left behind, writes to arguments that
      are not returned, random generators and clocks are errors if the slot or the line belongs to
      the packages of the function.

    Raises:
      TypeError: `fn` cannot be called.
      Exception: any error that `fn` raises while it is traced.

    >>> class Counter:
    ...     def __init__(self):
    ...         self.n = 0
    ...     def count(self):
    ...         self.n += 1
    ...         return self.n
    >>> counter = Counter()
    >>> [finding] = check(counter.count).findings
    >>> finding.kind, finding.path, finding.before, finding.after, counter.n
    (<Kind.WRITE: 'WRITE'>, 'self.n', 0, 1, 0)
    """
    target = resolve(fn)
    arguments = Arguments(args, keywords)
    try:
        return examine(target, arguments, allow)
    except jax.errors.JAXTypeError:
        if not arguments.has_numbers:
            raise
    return examine(target, Arguments(args, keywords, fixed_numbers=True), allow)


def examine(target: Target, arguments: Arguments, allow: Sequence[str] = ()) -> Report:
    """The check of a target that was taken apart already."""
    examination = _Examination(target, arguments)
    try:
        evidence = examination.evidence()
    except errors.TraceContextError as error:
        refused = refused_write(target, error, examination.start, examination.own)
        if refused is None:
            raise
        found = [refused]
    except HeldObjectError as error:
        found = [held_write(error)]
    else:
        found = judge(target, evidence)
    finally:
        examination.start.restore()
    kept = [each for each in found if not any(lies_in(each.path, path) for path in allow)]
    return Report(target.name, tuple(kept))


class _Examination:
    def __init__(self, target: Target, arguments: Arguments):
        self.own = Ownership(*target.modules)
        self._target = target
        self._arguments = arguments
        self.start = self._reached()
        self.start = self._reached()  # read again, because packages were adopted on the way

    def evidence(self) -> Evidence:
        """Two traces, and two more that look for lines where something was written."""
        calls = CallWatch(self.own)
        first = Attempt(self._target, self.own, self.start, calls=calls)
        program = first.run(self._arguments)
        changes = self.start.changes()
        written = self._seen(changes)
        lost = [Seen.of(each.change, self.own, each.called) for each in first.lost]
        between, programs = self._reached(), []

        def run_again() -> list[Any]:
            programs.append(Attempt(self._target, self.own, between).run(self._arguments))
            return programs[-1].constants()

        own = {seen.change.place for seen in written if seen.is_own}
        known = set(map(id, program.constants()))
        trial = MemoTrial(changes, between, run_again, known, tries=lambda change: change.place in own)
        late = self._seen(trial.late())
        differs = trial.error is not None or programs[0].fingerprint() != program.fingerprint()
        evidence = Evidence(
            self.own, self.start, program, trial, written, late, lost, list(calls.seen), differs
        )
        if written or late or lost or differs:
            self._look_closer(evidence)
        return evidence

    def _look_closer(self, evidence: Evidence) -> None:
        """Traces twice from the start, watching the slots that were seen to change."""
        self.start.restore()
        places = {seen.change.holder.key for seen in (*evidence.written, *evidence.late)}
        paths = frozenset(seen.change.holder.path for seen in evidence.lost)
        for attempt_number in range(2):
            lines = LineWatch(self.own)
            lines.watch(self.start.among(places))
            attempt = Attempt(self._target, self.own, self.start, lines=lines, argument_paths=paths)
            program, _ = self._run(attempt)
            if attempt_number == 0:
                evidence.repeated = program
            evidence.lines = {**lines.found, **evidence.lines}
            for change, called in attempt.lost:
                if change.place in lines.found:
                    evidence.lost_lines.setdefault((called.name, change.path), lines.found[change.place])
            if all(seen.change.place in evidence.lines for seen in evidence.written):
                break

    def _run(self, attempt: Attempt) -> tuple[Program | None, Exception | None]:
        try:
            return attempt.run(self._arguments), None
        except Exception as error:  # the first trace worked: that this one fails is a finding
            return None, error

    def _reached(self) -> Snapshot:
        return self._target.reached(self._arguments, self.own)

    def _seen(self, changes: list[Change]) -> list[Seen]:
        return [Seen.of(change, self.own) for change in changes]
