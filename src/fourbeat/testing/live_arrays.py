"""An assertion that no memory is lost from step to step: the law of constant memory."""

import gc
import itertools
import operator
import sys
import time
from collections import Counter
from collections.abc import Sequence
from types import CodeType, FrameType, TracebackType
from typing import Any, NamedTuple, Self

import jax

from fourbeat.testing.callers import is_of_the_user

_MOST_SAMPLES = 64  # of a line, spread evenly over all its runs
_FEWEST_RUNS = 16
_NUM_WINDOWS = 8
_COLLECTING = 0.2  # of the time, at most

Kind = tuple[str, tuple[int, ...], int]  # dtype, shape, bytes


class constant_memory:
    """Passes where the arrays on the device grow neither in number nor in bytes while the block trains.

    It looks at `jax.live_arrays()` while lines of your own code run, and compares each line with itself: what
    is alive there must not be more and more. The first eighth of the runs of a line is left out, since the
    first step makes what stays. Lines of a preparation that takes less than half of the block are left out
    too. While the block runs, Python calls a trace function for each line of your code: a debugger or a
    coverage tool in this thread sees nothing of it.

    Use it as `with constant_memory():`, around a training of at least 20 steps.

    Raises:
      AssertionError: they grow; the text has the line, and what there is more of.
      ValueError: no line of your own code ran often enough to tell.

    >>> from fourbeat.testing import constant_memory
    >>> constant_memory()
    constant_memory()
    """

    def __init__(self) -> None:
        self._lines: dict[tuple[CodeType, int], _Line] = {}
        self._frames: list[tuple[FrameType, Any]] = []
        self._before: Any = None
        self._collecting_s = 0.0

    def __enter__(self) -> Self:
        gc.collect()
        gc.freeze()  # collecting is quick from now on
        self._began_s = time.perf_counter()
        self._before = sys.gettrace()
        frame = sys._getframe(1)
        while frame is not None and not self._frames:
            if is_of_the_user(frame.f_code.co_filename):  # its lines are run already
                self._frames.append((frame, frame.f_trace))
                frame.f_trace = self._line
            frame = frame.f_back
        sys.settrace(self._call)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        sys.settrace(self._before)
        for frame, trace in self._frames:
            frame.f_trace = trace
        gc.unfreeze()
        if error is None:
            self._judge()

    def __repr__(self) -> str:
        return "constant_memory()"

    def _call(self, frame: FrameType, event: str, argument: Any) -> Any:
        return self._line if is_of_the_user(frame.f_code.co_filename) else None

    def _line(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line":
            key = (frame.f_code, frame.f_lineno)
            line = self._lines.get(key)
            if line is None:
                line = self._lines[key] = _Line(_depth(frame))
            if line.is_due():
                self._collect()
                line.add(Counter((str(a.dtype), a.shape, a.nbytes) for a in jax.live_arrays()))
        return self._line

    def _collect(self) -> None:
        """Frees cycles, which would look like growth, as often as a part of the time allows."""
        now_s = time.perf_counter()
        if self._collecting_s <= _COLLECTING * (now_s - self._began_s):
            gc.collect()
            self._collecting_s += time.perf_counter() - now_s

    def _judge(self) -> None:
        often = {key: line for key, line in self._lines.items() if line.num_runs >= _FEWEST_RUNS}
        if not often:
            raise ValueError(
                f"constant_memory() cannot tell: no line of your own code ran {_FEWEST_RUNS} times in the "
                "block. Train for more steps, in a loop that is not within an installed package."
            )
        longest_s = max(line.span_s for line in often.values())
        growths = [
            (-line.depth, growth.last - growth.first, line.num_runs, growth, f"{code.co_filename}:{number}")
            for (code, number), line in often.items()
            if line.span_s >= longest_s / 2 and (growth := line.growth()) is not None
        ]
        if growths:
            *_, num_runs, growth, where = max(growths, key=operator.itemgetter(0, 1, 2))  # the outermost loop
            raise AssertionError(
                f"the arrays on the device grow: {growth.what} went from {growth.first:,} to {growth.last:,} "
                f"while {where} ran {num_runs} times.{growth.more}\n"
                "Something keeps the arrays of past steps, as a list of losses does. "
                "Keep floats, read at a mark, or the last array only."
            )


def _depth(frame: FrameType | None) -> int:
    depth = 0
    while frame is not None:
        frame, depth = frame.f_back, depth + 1
    return depth


class _Growth(NamedTuple):
    what: str
    first: int
    last: int
    more: str


class _Line:
    """What was alive while a line of code began, at runs spread evenly over all of them."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.num_runs = 0
        self._period = 1
        self._samples: list[Counter[Kind]] = []
        self._first_s = self._last_s = time.perf_counter()

    @property
    def span_s(self) -> float:
        return self._last_s - self._first_s

    def is_due(self) -> bool:
        self.num_runs += 1
        return self.num_runs % self._period == 0

    def add(self, alive: Counter[Kind]) -> None:
        self._last_s = time.perf_counter()
        self._samples.append(alive)
        if len(self._samples) == _MOST_SAMPLES:
            self._samples = self._samples[1::2]
            self._period *= 2

    def growth(self) -> _Growth | None:
        """How the number or the bytes of what is alive grow from stretch to stretch, if they do."""
        samples = self._samples[len(self._samples) // _NUM_WINDOWS :]
        numbers = [sum(alive.values()) for alive in samples]
        sizes = [sum(kind[2] * count for kind, count in alive.items()) for alive in samples]
        if _grows(numbers):
            more = samples[-1] - samples[0]
            (dtype, shape, _), count = more.most_common(1)[0] if more else (("", (), 0), 0)
            what = f" There are {count} more of {dtype}[{','.join(map(str, shape))}]." if more else ""
            return _Growth("their number", numbers[0], numbers[-1], what)
        return _Growth("their bytes", sizes[0], sizes[-1], "") if _grows(sizes) else None


def _grows(values: Sequence[int]) -> bool:
    """Whether the least value of each window is no less than that of the one before, and often more.

    >>> _grows([5, 9, 5, 6, 5, 5, 9, 5, 5]), _grows(range(20)), _grows([5] * 10 + [8] * 10)
    (False, True, False)
    """
    num_windows = _NUM_WINDOWS - 1
    edges = [len(values) * i // num_windows for i in range(num_windows + 1)]
    least = [min(values[begin:end]) for begin, end in itertools.pairwise(edges)]
    steps = [after - before for before, after in itertools.pairwise(least)]
    return min(steps) >= 0 and sum(step > 0 for step in steps) >= num_windows // 2
