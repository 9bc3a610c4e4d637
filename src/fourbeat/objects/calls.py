"""Calls that a compiled program will not make again: clocks, the environment, entropy, printing."""

import ast
import contextlib
import dataclasses
import datetime
import io
import linecache
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import numpy as np

from fourbeat.objects.lines import Line
from fourbeat.objects.ownership import Ownership
from fourbeat.types import Object

_CLOCKS = {
    getattr(time, name): f"time.{name}"
    for name in (
        *("time", "time_ns", "perf_counter", "perf_counter_ns", "monotonic", "monotonic_ns"),
        *("process_time", "process_time_ns", "thread_time", "localtime", "gmtime", "ctime"),
    )
}
_TODAY = ("now", "utcnow", "today")
_NAMES = frozenset(
    {"print", "urandom", "write", "writelines", *_TODAY, *(function.__name__ for function in _CLOCKS)}
)
_READS_ENVIRONMENT = type(os.environ).__getitem__.__code__
# Standard modules that may stand between the function and the call: logging reads clocks of its own.
_THROUGH = {"CLOCK": ("os", "collections"), "RNG": tuple(sys.stdlib_module_names), "PRINT": ()}
_LOGS = logging.Logger._log.__code__


@dataclasses.dataclass(frozen=True)
class Call:
    """A call that was seen: its kind ("CLOCK", "RNG", "PRINT"), what was called, and from where."""

    kind: str
    path: str
    line: Line


@contextlib.contextmanager
def profiled(on_event: Callable[[Any, str, Any], None]) -> Iterator[None]:
    """Tells `on_event` of the calls of this thread; a profiler that watched before goes on afterwards."""
    before = sys.getprofile()
    sys.setprofile(on_event)
    try:
        yield
    finally:
        sys.setprofile(before)


class CallWatch:
    """Records such calls while a function runs, if code of the function's own packages makes them."""

    def __init__(self, own: Ownership):
        self.seen: dict[Call, None] = {}
        self._own = own

    def on_event(self, frame: FrameType, event: str, arg: Object) -> None:
        """Takes an event of a profiler."""
        if event == "c_call":
            if arg.__name__ not in _NAMES:  # checked first, because a trace makes thousands of calls
                return
            described = _described_builtin(arg)
            if described:
                self._record(frame, *described, _THROUGH[described[0]])
        elif event == "call":
            if frame.f_code is _READS_ENVIRONMENT:
                self._record(
                    frame.f_back, "CLOCK", f"os.environ[{frame.f_locals.get('key')!r}]", _THROUGH["CLOCK"]
                )
            elif frame.f_code is _LOGS:
                self._record(frame.f_back, "PRINT", "logging", ("logging",))

    def _record(self, frame: FrameType | None, kind: str, path: str, through: tuple[str, ...]) -> None:
        while frame is not None and _runs(frame, through):
            frame = frame.f_back
        if frame is None or not self._own.is_own_frame(frame):
            return
        if kind != "RNG" or not _makes_seeded(frame):
            self.seen[Call(kind, path, Line(frame.f_code.co_filename, frame.f_lineno))] = None


def _described_builtin(function: Object) -> tuple[str, str] | None:
    name, holder = function.__name__, getattr(function, "__self__", None)
    if function is print:
        return "PRINT", "print"
    if function is os.urandom:
        return "RNG", "os.urandom"
    if name in _TODAY and isinstance(holder, type) and issubclass(holder, datetime.date):
        return "CLOCK", f"{holder.__name__}.{name}"
    if name in ("write", "writelines") and isinstance(holder, io.IOBase):
        return "PRINT", f"{getattr(holder, 'name', type(holder).__name__)}.{name}"
    if holder is time or getattr(holder, "__name__", None) == "time":
        path = _CLOCKS.get(function)
        return ("CLOCK", path) if path else None
    return None


def _runs(frame: FrameType, modules: tuple[str, ...]) -> bool:
    top = (frame.f_globals.get("__name__") or "").partition(".")[0]
    return top != "__main__" and top in modules


def _makes_seeded(frame: FrameType) -> bool:
    """Whether a frame makes an `np.random.RandomState` from a seed: it draws entropy before it uses the seed.

    The call is read from the source. If there is no source, or the seed is more than a number or a
    name, the answer is no.
    """
    call = _call_of(frame)
    if call is None or _named(call.func, frame) is not np.random.RandomState:
        return False
    seeds = [*call.args, *(keyword.value for keyword in call.keywords)]
    return len(seeds) == 1 and _named(seeds[0], frame) is not None


def _call_of(frame: FrameType) -> ast.Call | None:
    """The call that a frame is making, as its source has it."""
    line, end_line, start, end = list(frame.f_code.co_positions())[frame.f_lasti // 2]
    if line is None or end_line is None or start is None or end is None:
        return None
    lines = linecache.getlines(frame.f_code.co_filename, frame.f_globals)[line - 1 : end_line]
    text = [each.encode() for each in lines]
    if not text:
        return None
    text[-1] = text[-1][:end]  # cut the end first, because the last line may be the first line too
    text[0] = text[0][start:]
    try:
        found = ast.parse(b"(" + b"".join(text) + b")", mode="eval").body
    except SyntaxError:
        return None
    return found if isinstance(found, ast.Call) else None


def _named(node: ast.expr, frame: FrameType) -> Any:
    """The value of a literal, or of a name with attributes; None for anything else."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        return frame.f_locals.get(node.id, frame.f_globals.get(node.id))
    return getattr(_named(node.value, frame), node.attr, None) if isinstance(node, ast.Attribute) else None
