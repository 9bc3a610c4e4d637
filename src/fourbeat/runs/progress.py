"""A progress bar over a loop: steps a second and time left."""

import os
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

_Tick = TypeVar("_Tick")
_PLAIN_LINE_S = 15.0  # between two lines where there is no terminal


def progress(loop: Iterable[_Tick], *, file: Any = None) -> Iterator[_Tick]:
    """The ticks of `loop`, with its progress on the screen.

    A terminal shows a bar with steps a second and time left; elsewhere, and on a dumb terminal, a plain
    line appears every 15 seconds. What the body of the loop prints stands above the bar. Nothing is copied
    from the device: the rate is that at which steps are handed to it.

    Args:
      loop: from `fourbeat.loop`.
      file: where to write; standard error by default, so that a redirected output stays clean.

    >>> import fourbeat as fb
    >>> import numpy as np
    >>> loop = fb.loop([{"x": np.ones(2)}], until=fb.at(steps=3))
    >>> [tick.step for tick in progress(loop)]
    [1, 2, 3]
    """
    file = sys.stderr if file is None else file
    total = getattr(loop, "last_step", None)
    if file.isatty() and os.environ.get("TERM") != "dumb":
        yield from _bar(loop, total, file)
    else:
        yield from _lines(loop, total, file)


def _bar(loop: Iterable[Any], total: int | None, file: Any) -> Iterator[Any]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("steps {task.fields[rate]:>8} steps/s"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    with Progress(*columns, console=Console(file=file), refresh_per_second=4, transient=True) as bar:
        task = bar.add_task("", total=total, rate="")
        clock = _Clock()
        for tick in loop:
            yield tick
            rate = clock.rate(tick)
            if rate is not None:
                bar.update(task, completed=tick.step, rate=f"{rate:,.1f}")


def _lines(loop: Iterable[Any], total: int | None, file: Any) -> Iterator[Any]:
    clock = _Clock(every_s=_PLAIN_LINE_S)
    of_total = "" if total is None else f"/{total}"
    for tick in loop:
        yield tick
        rate = clock.rate(tick)
        if rate is not None:
            left = "" if total is None else f"   {(total - tick.step) / rate:.0f} s left"
            print(f"step {tick.step}{of_total}   {rate:,.1f} steps/s{left}", file=file, flush=True)


class _Clock:
    """Steps a second since the last look, at most one look every `every_s` seconds."""

    def __init__(self, every_s: float = 0.25):
        self.every_s = every_s
        self.last_s = time.monotonic()
        self.last_step: int | None = None

    def rate(self, tick: Any) -> float | None:
        """Steps a second where it is time to show them, else None."""
        if self.last_step is None:
            self.last_step = tick.step - tick.num_steps
        now = time.monotonic()
        if now - self.last_s < self.every_s:
            return None
        rate = (tick.step - self.last_step) / (now - self.last_s)
        self.last_s, self.last_step = now, tick.step
        return rate
