"""The plain Python objects that a model holds: what is in them, and a check that no forward pass writes them.

A split model and the user's model share these objects: they are no arrays, so they are neither copied nor
saved. A write to one would happen once, while a step is traced, and stay in the user's object.
"""

import enum
import hashlib
import types
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import jax
import numpy as np
from jax.core import Tracer

from fourbeat.objects.comparing import described, show, without_addresses
from fourbeat.objects.constants import is_number
from fourbeat.objects.families import OBJECTS, family_of
from fourbeat.objects.lines import Line, lines_of
from fourbeat.objects.memos import MemoTrial
from fourbeat.objects.ownership import Ownership
from fourbeat.objects.probing import untried
from fourbeat.objects.reaching import reach_values
from fourbeat.objects.slots import MOVED_BY_USE, CacheSlots, ClassSlots, IteratorSlots
from fourbeat.objects.snapshot import HIDDEN, Change, Snapshot
from fourbeat.trees.jaxprs import traced_anew
from fourbeat.types import Object

_T = TypeVar("_T")
_MAX_ENTRIES = 200  # places listed one by one; all further ones count as one
_MAX_TEXT = 60  # characters
_MAX_DEPTH = 4
_LEFT_OUT = (*MOVED_BY_USE, ClassSlots)  # these change when they are used, or are code


class HeldObjectError(ValueError):
    """A forward pass wrote to a plain Python object that the model holds.

    Attributes:
      path: the first place that was written: "model.helper.calls".
      before: what was there, as text.
      after: what the forward pass left, as text.
      line: file and number of the line that wrote it, or None where it was not seen.
    """

    def __init__(self, text: str, path: str, before: str, after: str, line: Line | None):
        super().__init__(text)
        self.path, self.before, self.after, self.line = path, before, after, line


class HeldObjectWarning(UserWarning):
    """A plain Python object that the model holds has changed since the model was split."""


class Holding:
    """The plain objects below some values of a model, and what they hold now.

    Containers of over 100,000 items and arrays above 64 MiB count by their length alone. At most 50,000
    objects of one model are read.

    Args:
      values: everything in a model that is not an array, by path.
    """

    __slots__ = ("entries", "values")

    def __init__(self, values: Mapping[str, Any]):
        distinct = {id(value): value for value in values.values()}
        held = {key for key, value in distinct.items() if reach_values([("", value)]).holders}
        self.values = {path: value for path, value in values.items() if id(value) in held}
        self.entries = _entries(reach_values(self.values.items()))

    def undisturbed(self, run: Callable[[], _T], again: Callable[[], Any], *near: Object) -> _T:
        """The result of `run`, a forward pass. Its writes to the objects are undone, memos too.

        Args:
          run: called once.
          again: the same pass on another model; it tells memos from writes and finds the line of a write.
          near: functions and objects whose modules count as the user's.

        Raises:
          HeldObjectError: the pass wrote to an object, and the write is no memo; the text names path, values
            and line.
        """
        if not self.values:
            return run()
        start = reach_values(self.values.items())
        self._warn_of_changes(start)
        try:
            out = run()
            changes = [each for each in start.changes() if not isinstance(each.holder.reader, CacheSlots)]
            shown = {each.place: (each, show(each.before), show(each.after)) for each in changes}
            lost = self._lost(changes, again)
            for each in lost:
                shown.setdefault(each.place, (each, show(each.before), show(each.after)))
        finally:
            start.restore()
        if lost:
            raise _refusal([shown[each.place] for each in lost], _line_of(lost[0], start, again, near))
        return out

    def _lost(self, changes: list[Change], again: Callable[[], Any]) -> list[Change]:
        """The writes that may not be memos: a compiled step would lose them without an error."""
        if not changes:
            return []

        def trace() -> tuple[()]:
            traced_anew(again)
            return ()  # the captured values may be tracers of the step around it

        trial = MemoTrial(changes, reach_values(self.values.items()), trace)
        return trial.lost() or (changes if trial.met_dead_tracer else untried(changes))

    def _warn_of_changes(self, now: Snapshot) -> None:
        entries = _entries(now)
        if entries == self.entries:
            return
        listed = [
            f"{path} was {self.entries.get(path, 'absent')} and is {entries.get(path, 'absent')}"
            for path in {**self.entries, **entries}
            if self.entries.get(path) != entries.get(path)
        ]
        warnings.warn(
            f"since the model was split, {'; '.join(listed[:4])}. Steps that are compiled already "
            "keep the old value, and checkpoints record it. Call beats.init, or split, again after such a "
            "change.",
            HeldObjectWarning,
            stacklevel=2,
        )


def _refusal(shown: list[tuple[Change, str, str]], line: Line | None) -> HeldObjectError:
    listed = ", ".join(f"{change.path} ({before} -> {after})" for change, before, after in shown[:4])
    first, before, after = shown[0]
    where = f" at {line}" if line else ""
    is_back = not isinstance(first.holder.reader, IteratorSlots)
    text = (
        f"the forward pass wrote {listed}{where}, in a plain Python object, which is no part of the "
        "explicit state. A compiled step runs that line once, while it is traced"
        f"{'; it was put back' if is_back else ''}. Hold what changes in an nnx.Variable "
        "(self.n = nnx.Variable(jnp.array(0)), self.n[...] += 1) or return it as aux. A cache holds what "
        "NumPy made, or is filled before the model is split."
    )
    return HeldObjectError(text, first.path, before, after, line)


def _line_of(change: Change, start: Snapshot, run: Callable[[], Any], near: tuple[Any, ...]) -> Line | None:
    modules = [getattr(each, "__module__", None) or type(each).__module__ for each in near]
    own = Ownership(*modules, type(change.holder.value).__module__, change.holder.owner)
    return lines_of([change], start, own, run).get(change.place)


def _entries(snapshot: Snapshot) -> dict[str, str]:
    """The value at each place, as a text that is the same in every process."""
    entries: dict[str, str] = {}
    rest, num_more = hashlib.sha256(), 0
    for path, text in _places(snapshot):
        if len(entries) < _MAX_ENTRIES:
            entries[path] = text
        else:
            num_more += 1
            rest.update(f"{path}\0{text}\0".encode())
    if num_more:
        entries[f"{snapshot.holders[0].path} and others"] = f"{num_more:,} more, {rest.hexdigest()[:12]}"
    return entries


def _places(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    for holder in snapshot.holders:
        if isinstance(holder.reader, _LEFT_OUT):
            continue
        if not holder.slots:
            yield without_addresses(holder.path), text_of(holder.value)
        for label, value in holder.slots.items():
            if label[1] not in HIDDEN:
                yield without_addresses(holder.slot_path(label)), text_of(value)


def text_of(value: Object, depth: int = 0) -> str:
    """A value as a short text that is equal for equal values, in every process.

    >>> text_of(3), text_of(np.ones(2, np.float32)), text_of([1])
    ('3', 'float32[2] 80b8fd6d60fa', 'list')
    """
    text = _text_of(value, depth)
    return text if len(text) <= _MAX_TEXT else f"{text[: _MAX_TEXT - 16]}... {_hash(text.encode())}"


def _text_of(value: Object, depth: int) -> str:
    if isinstance(value, Tracer):
        return show(value)
    if isinstance(value, (np.ndarray, jax.Array)):
        return _text_of_array(value)
    if value is None or is_number(value) or isinstance(value, (bool, str, bytes, enum.Enum)):
        return repr(value)
    if isinstance(value, (type, types.FunctionType, types.BuiltinFunctionType)):
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, types.ModuleType):
        return value.__name__
    family = family_of(value)
    if family is OBJECTS:
        return type(value).__qualname__
    if isinstance(value, frozenset):
        return f"frozenset({', '.join(sorted(text_of(each, depth + 1) for each in value))})"
    if family is not None and depth < _MAX_DEPTH:
        parts = ", ".join(text_of(each, depth + 1) for each in family.parts(value).values)
        return f"{type(value).__qualname__}({parts})"
    text = type(value).__qualname__ if type(value).__repr__ is object.__repr__ else repr(value)
    return text if "0x" not in text else type(value).__qualname__


def _text_of_array(value: Object) -> str:
    kind = described(value)
    if isinstance(value, jax.Array):
        if value.is_deleted():
            return f"{kind} deleted"
        if jax.numpy.issubdtype(value.dtype, jax.dtypes.prng_key):
            value = jax.random.key_data(value)
    array = np.asarray(value)
    return kind if array.dtype.hasobject else f"{kind} {_hash(array.tobytes())}"


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:12]
