"""What is being compiled at this moment, and since when: jax says when each part begins and ends."""

import threading
import time
from collections import deque
from typing import Any, NamedTuple, Self

import jax

# jax tells of each part's begin as a scalar and of its end as a duration, both with the function's name.
BACKEND = "/jax/core/compile/backend_compile_duration"
_PARTS = (
    "/jax/core/compile/jaxpr_trace_duration",
    "/jax/core/compile/jaxpr_to_mlir_module_duration",
    BACKEND,
)
_PAUSE_S = 1.0  # at most, between the parts of one compilation


class Compilation(NamedTuple):
    """A compilation under way.

    Attributes:
      name: of the function that is compiled.
      begin_s: when it began to be traced, on the clock `time.monotonic`.
    """

    name: str
    begin_s: float


class CompilationMonitor:
    """Listens, while entered, to what this thread compiles: with `jax.jit` or anything built on it.

    Attributes:
      now: the compilation under way, the outermost where one lies within another; or None.
      ended: the name and the seconds of each that ended, the newest hundred; for a reader to take away.
      total_s: seconds of all that ended.

    >>> def double(x):
    ...     return 2 * x
    >>> with CompilationMonitor() as underway:
    ...     _ = jax.jit(double)(1.0)
    >>> underway.now, [name for name, seconds in underway.ended]
    (None, ['double'])
    """

    def __init__(self) -> None:
        self.now: Compilation | None = None
        self.ended: deque[tuple[str, float]] = deque(maxlen=100)
        self.total_s = 0.0
        self._open: list[tuple[str, str]] = []  # the parts under way, each within the one before
        self._part: tuple[Compilation, float] | None = None  # the last whole part, and when it ended
        self._thread: int | None = None

    def __enter__(self) -> Self:
        self._thread = threading.get_ident()
        jax.monitoring.register_scalar_listener(self._begin)
        jax.monitoring.register_event_duration_secs_listener(self._end)
        return self

    def __exit__(self, *error: object) -> None:
        jax.monitoring.unregister_scalar_listener(self._begin)
        jax.monitoring.unregister_event_duration_listener(self._end)

    def _begin(self, event: str, value: float, **kwargs: Any) -> None:
        if event not in _PARTS or threading.get_ident() != self._thread:
            return
        name = plain_name(str(kwargs.get("fun_name")))
        if not self._open:
            self.now = self._continued(name, time.monotonic())
        self._open.append((event, name))

    def _end(self, event: str, duration_secs: float, **kwargs: Any) -> None:
        if event not in _PARTS or threading.get_ident() != self._thread:
            return
        closed = (event, plain_name(str(kwargs.get("fun_name"))))
        if closed not in self._open:
            return  # it began before this listened
        while self._open.pop() != closed:
            pass
        now, now_s = self.now, time.monotonic()
        if self._open or now is None:
            return
        self.now = None
        if event == _PARTS[-1]:
            self.ended.append((now.name, now_s - now.begin_s))
            self.total_s += now_s - now.begin_s
        else:
            self._part = (now, now_s)

    def _continued(self, name: str, now_s: float) -> Compilation:
        """The compilation whose earlier part has just ended, or a new one."""
        part, self._part = self._part, None
        if part is not None and part[0].name == name and now_s - part[1] < _PAUSE_S:
            return part[0]
        return Compilation(name, now_s)


def plain_name(name: str) -> str:
    """The function's own name: jax writes `jit(train_step)` from its second part on."""
    return name.removeprefix("jit(").removesuffix(")").lstrip("_")
