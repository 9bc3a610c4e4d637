"""Makes findings from what the traces showed."""

import dataclasses
import traceback
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.core import Tracer

from fourbeat.models.holding import HeldObjectError
from fourbeat.objects.calls import Call
from fourbeat.objects.comparing import ABSENT, same, show
from fourbeat.objects.lines import Line
from fourbeat.objects.memos import MemoTrial
from fourbeat.objects.ownership import Ownership
from fourbeat.objects.slots import CacheSlots, RandomSlots
from fourbeat.objects.snapshot import Key, Snapshot
from fourbeat.purity.programs import LARGE_BYTES, Program
from fourbeat.purity.report import Finding, Kind, Level
from fourbeat.purity.target import Target
from fourbeat.purity.wording import Seen, Wording
from fourbeat.types import Object


@dataclasses.dataclass
class Evidence:
    """What the traces showed.

    `written` holds changes of the first trace, `late` those of the second alone, `lost` writes to arguments.
    `differs` says that the second trace, which started where the first one ended, gave another program.
    `repeated` is a third trace, from the same start as the first.
    """

    own: Ownership
    start: Snapshot
    program: Program
    trial: MemoTrial
    written: list[Seen]
    late: list[Seen]
    lost: list[Seen]
    calls: list[Call]
    differs: bool
    repeated: Program | None = None
    lines: dict[Key, Line] = dataclasses.field(default_factory=dict)
    lost_lines: dict[tuple[str, str], Line] = dataclasses.field(default_factory=dict)


def judge(target: Target, evidence: Evidence) -> list[Finding]:
    """The findings, each slot once."""
    wording = Wording(target, evidence.program.constant_out)
    found = [*_writes(wording, evidence), *_outside(wording, evidence)]
    if evidence.trial.met_dead_tracer and not any(finding.kind == "LEAK" for finding in found):
        found.append(_cached_leak(wording, evidence))
    if evidence.differs and not any(finding.is_error for finding in found) and _is_unsteady(evidence):
        found.append(wording.nondeterministic())
    return [*found, *_baked(wording, evidence)]


def refused_write(target: Target, error: Exception, start: Snapshot, own: Ownership) -> Finding | None:
    """The finding for a write to a captured NNX object, which NNX refuses by itself; None for others."""
    path, line = None, None
    holders = {id(holder.value): holder for holder in start.holders}
    for frame, number in traceback.walk_tb(error.__traceback__):
        if own.is_own_frame(frame):
            line = Line(frame.f_code.co_filename, number)
        written = frame.f_locals.get("self")
        if isinstance(written, (nnx.Variable, nnx.Pytree)) and id(written) in holders:
            name = frame.f_locals.get("name")
            if isinstance(written, nnx.Variable):
                path = holders[id(written)].path
            elif isinstance(name, str) and not own.is_own_frame(frame):
                path = f"{holders[id(written)].path}.{name}"
    return Wording(target).refused_write(path, line) if path else None


def held_write(error: HeldObjectError) -> Finding:
    """The finding for a write to a plain object in a model, which a step of fourbeat refuses by itself."""
    file, number = error.line or (None, None)
    repair = str(error).rpartition(" Hold what")[2]
    values = (error.path, error.before, error.after, file, number)
    return Finding(Kind.WRITE, *values, Level.ERROR, str(error), f"hold what{repair}".removesuffix("."))


def _writes(wording: Wording, evidence: Evidence) -> list[Finding]:
    found = []
    for seen in (*evidence.written, *evidence.late):
        line = evidence.lines.get(seen.change.place)
        reader = seen.change.holder.reader
        if isinstance(reader, RandomSlots):
            found.append(wording.random(seen.change.path, line, seen))
        elif seen.holds_tracer:
            found.append(wording.leak(seen, line))
        elif isinstance(reader, CacheSlots) or evidence.trial.is_memo(seen.change):
            is_filled = any(seen.change.before is empty for empty in (ABSENT, None, False))
            changes_program = evidence.differs and all(
                evidence.trial.is_settled(each.change) for each in evidence.written
            )
            misleads = changes_program or not (is_filled or _only_grew(seen))
            found.append(wording.cached(seen, line, misleads=misleads))
        else:
            found.append(wording.write(seen, line))
    for name, path in dict.fromkeys((seen.called.name, seen.change.path) for seen in evidence.lost):
        seen = next(s for s in evidence.lost if (s.called.name, s.change.path) == (name, path))
        found.append(wording.lost_write(seen, evidence.lost_lines.get((name, path))))
    return found


def _only_grew(seen: Seen) -> bool:
    before, after = seen.change.before, seen.change.after
    if isinstance(before, list) and isinstance(after, list):
        return same(before, after[: len(before)])
    return False


def _outside(wording: Wording, evidence: Evidence) -> list[Finding]:
    found = []
    for call in evidence.calls:
        text = {"CLOCK": wording.clock, "RNG": wording.random, "PRINT": wording.printed}[call.kind]
        found.append(text(call.path, call.line))
    return found


def _cached_leak(wording: Wording, evidence: Evidence) -> Finding:
    """The finding for a tracer that leaked into a place that cannot be read. It empties the caches."""
    place, cache = evidence.trial.empty_caches()
    return wording.cached_leak(place, next((seen for seen in evidence.written if seen.change is cache), None))


def _is_unsteady(evidence: Evidence) -> bool:
    """Whether two traces from the same state differ, so that no cache explains it."""
    return evidence.repeated is not None and evidence.repeated.fingerprint() != evidence.program.fingerprint()


def _baked(wording: Wording, evidence: Evidence) -> list[Finding]:
    found = []
    for constant in evidence.program.constants():
        num_bytes = constant.size * constant.dtype.itemsize
        if num_bytes >= LARGE_BYTES and not isinstance(constant, Tracer):
            path = _path_of(constant, evidence.start) or "an array made while tracing"
            found.append(wording.baked(path, show(_shaped(constant)), num_bytes))
    return found


def _shaped(constant: Object) -> Any:
    return constant if isinstance(constant, jax.Array) else np.asarray(constant)


def _path_of(constant: Object, start: Snapshot) -> str | None:
    alike = None
    for holder in start.holders:
        for label, value in holder.slots.items():
            if value is constant:
                return holder.slot_path(label)
            if alike is None and _is_alike(value, constant):
                alike = holder.slot_path(label)
    return alike


def _is_alike(value: Object, constant: Object) -> bool:
    """Whether the array in a slot became this constant. The constant may be a copy in JAX's dtype."""
    if not isinstance(value, (np.ndarray, jax.Array)) or isinstance(value, Tracer):
        return False
    if value.shape != constant.shape or (isinstance(value, jax.Array) and value.is_deleted()):
        return False
    if jax.numpy.issubdtype(constant.dtype, jax.dtypes.extended) or value.dtype.kind != constant.dtype.kind:
        return False
    return np.array_equal(np.asarray(value).astype(constant.dtype), np.asarray(constant))
