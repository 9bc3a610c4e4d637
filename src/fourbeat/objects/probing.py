"""Finds writes that look like memos and are not: the function is traced with a stand-in in the slot.

A memo reads its slot, so it keeps the stand-in or fails because of it. A line that does not read the slot
replaces the stand-in. A compiled call loses such a write as soon as the old value is put back, so it counts
as a write.
"""

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from fourbeat.objects.comparing import ABSENT, same
from fourbeat.objects.slots import ArraySlots, EnvironmentSlots
from fourbeat.objects.snapshot import Change, Key
from fourbeat.types import Object

_COPIED = (list, dict, np.ndarray)
_MAX_ALONE = 8  # how many slots are tried one by one; each try costs a trace


def overwritten(changes: Sequence[Change], trace: Callable[[], Any]) -> set[Key]:
    """The places that a trace writes again although it finds the value of an earlier trace.

    Args:
      changes: writes that look like memos.
      trace: traces the function; may raise.
    """
    if not changes:
        return set()
    found, failed = _overwritten(changes, trace)
    if not failed:
        return found
    for change in changes[:_MAX_ALONE]:  # reading a stand-in can end the trace, so each is tried alone
        if change.place not in found:
            found |= _overwritten([change], trace)[0]
    return found


def untried(changes: Iterable[Change]) -> list[Change]:
    """The changes for which there is no stand-in, such as a set's new element: they only look like memos."""
    return [change for change in changes if _other(change, change.now()) is ABSENT]


def stand_in(value: Object) -> Object:
    """An equal value that is another object, or, where there is none, an object that equals nothing.

    >>> word, rows = "table", [1, 2]
    >>> stand_in(word) == word, stand_in(rows) == rows, stand_in(rows) is rows
    (True, True, False)
    >>> stand_in(None) == None
    False
    """
    made = value
    if type(value) in _COPIED:
        made = copy.copy(value)
    elif type(value) in (int, float):
        made = type(value)(repr(value))
    elif type(value) in (str, tuple):
        made = value[:1] + value[1:]
    return object() if made is value else made


def _overwritten(changes: Sequence[Change], trace: Callable[[], Any]) -> tuple[set[Key], bool]:
    found = [(change, change.now()) for change in changes]
    held = [(change, value, _other(change, value)) for change, value in found]
    held = [each for each in held if each[2] is not ABSENT]
    for change, _, stands_in in held:
        change.write(stands_in)
    try:
        trace()
        failed = False
    except Exception:  # code that reads a stand-in may raise anything
        failed = True
    found = {change.place for change, _, stands_in in held if not _is_kept(change, stands_in)}
    for change, value, _ in held:
        change.write(value)
    return found, failed


def _other(change: Change, value: Object) -> Any:
    """The value to put in place of another; ABSENT if there is none."""
    if isinstance(change.holder.reader, EnvironmentSlots):
        return f"{value}'" if isinstance(value, str) else ABSENT
    if isinstance(change.holder.reader, ArraySlots):
        is_number = isinstance(value, np.ndarray) and value.dtype.kind in "iufc"
        return value + np.ones((), value.dtype) if is_number else ABSENT
    if change.label is None:  # a list or deque with one item more; what a set holds twice it holds once
        return [*value, object()] if type(change.holder.value) is list else ABSENT
    return ABSENT if value is ABSENT else stand_in(value)


def _is_kept(change: Change, stands_in: Object) -> bool:
    now = change.now()
    if isinstance(change.holder.reader, (ArraySlots, EnvironmentSlots)):
        return same(now, stands_in)
    if change.label is None:
        return any(each is stands_in[-1] for each in now)
    return now is stands_in
