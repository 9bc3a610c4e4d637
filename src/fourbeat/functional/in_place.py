"""Watches what `+=` does to a NumPy array in an ordinary run: it writes the array, or makes a new one."""

import sys
from typing import Any

import numpy as np

from fourbeat.objects.lines import Line
from fourbeat.types import Object

OPERATORS = tuple(
    f"__i{name}__"
    for name in (
        *("add", "sub", "mul", "matmul", "truediv", "floordiv", "mod", "pow"),
        *("lshift", "rshift", "and", "xor", "or"),
    )
)


class Watch:
    """Arrays that tell which of them, or of their views, were written in place.

    Attributes:
      written: the paths of the arrays that NumPy wrote in place.
      replaced: the lines where an operator made a new array.
    """

    def __init__(self):
        self.written: set[str] = set()
        self.replaced: set[Line] = set()
        self._arrays: dict[str, np.ndarray] = {}
        self._kind = _watched_by(self)

    def array(self, path: str, value: Object) -> np.ndarray:
        """A copy of `value`. The copy and all its views are watched."""
        made: Any = np.array(value).view(self._kind)
        made.path = path
        self._arrays[path] = made
        return made

    def saw(self, array: Object, is_new: bool, line: Line) -> None:
        """Records one operator."""
        if array.path is None or not np.may_share_memory(array, self._arrays[array.path]):
            return  # the method's own array, computed from an array of the object
        if is_new:
            self.replaced.add(line)
        else:
            self.written.add(array.path)


def line_of_caller(depth: int) -> Line:
    """The file and line that called, `depth` frames up."""
    frame = sys._getframe(depth + 1)
    return Line(frame.f_code.co_filename, frame.f_lineno)


def _watched_by(watch: Watch) -> type[np.ndarray]:
    class Watched(np.ndarray):
        path: str | None = None

        def __array_finalize__(self, other: Object) -> None:
            self.path = getattr(other, "path", None)

    for name in OPERATORS:
        setattr(Watched, name, _seen_by(watch, getattr(np.ndarray, name)))
    return Watched


def _seen_by(watch: Watch, operator: Any) -> Any:
    def in_place(array: Object, other: Object) -> Any:
        made = operator(array, other)
        watch.saw(array, made is NotImplemented, line_of_caller(1))
        return made

    return in_place
