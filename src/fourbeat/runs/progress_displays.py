"""Displays of where a loop stands: a bar in a terminal, plain lines in a log, a widget in a notebook."""

import contextlib
import html
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, TextIO

from fourbeat.runs.progress_state import ProgressState, clock

_LINE_S = 15.0  # time between two plain lines
_LONG_S = 1.0  # a shorter compilation gets no line


def display_for(file: TextIO | None) -> Callable[[ProgressState], AbstractContextManager[Callable[[], None]]]:
    """The display that suits a file. If `file` is None, it suits the place where the program runs.

    Enter the display with a state to begin it. It gives a function that redraws it; a pulse calls that.
    """
    if file is None and _kernel() is not None:
        return notebook
    shown_in = sys.stderr if file is None else file
    is_terminal = shown_in.isatty() and os.environ.get("TERM") != "dumb"
    return lambda state: (terminal if is_terminal else lines)(state, shown_in)


def _kernel() -> Any:
    """The notebook's kernel that this program runs in, or None."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None)


@contextlib.contextmanager
def terminal(state: ProgressState, file: TextIO) -> Iterator[Callable[[], None]]:
    """A bar that disappears when the loop ends. Printed output appears above it."""
    from rich.console import Console
    from rich.live import Live

    console = Console(file=file)
    live = Live(
        get_renderable=lambda: _bar(state),
        console=console,
        auto_refresh=False,
        transient=True,
        redirect_stdout=sys.stdout.isatty(),  # a file gets only the text
        redirect_stderr=sys.stderr.isatty(),
    )
    with live:
        live.refresh()
        yield live.refresh


def _bar(state: ProgressState) -> Any:
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    top = Table.grid(padding=(0, 1, 0, 0), expand=True)
    cells = [ProgressBar(state.last_step, state.step, pulse=state.last_step is None)]
    words = [state.steps_in_words()]
    if (left_s := state.left_s()) is not None:
        words.append(f"{clock(left_s)} left")
    top.add_column(ratio=1)
    for _ in words:
        top.add_column(no_wrap=True)
    top.add_row(*cells, *words)
    below = state.rates_in_words()
    if (compiling := state.compiling()) is not None:
        below = [f"compiling {compiling[0]}   {compiling[1]:.1f} s"]
    rows = [row for row in (below, state.values_in_words()) if row]
    return Group(top, *(Text("   ".join(row)) for row in rows))


@contextlib.contextmanager
def lines(state: ProgressState, file: TextIO) -> Iterator[Callable[[], None]]:
    """Lines at the beginning, every 15 seconds, at the end, and for a compilation of over a second."""
    line_s, told, underway = time.monotonic(), None, state.underway

    def say(*words: str) -> None:
        print("   ".join(words), file=file, flush=True)

    def draw() -> None:
        nonlocal line_s, told
        now_s, now = time.monotonic(), underway.now
        while underway.ended:
            name, took_s = underway.ended.popleft()
            if took_s >= _LONG_S:
                say(f"compiled {name} in {took_s:.1f} s")
        if now is not None and now != told and now_s - now.begin_s >= _LONG_S:
            told = now
            say(f"compiling {now.name}")
        if now_s - line_s >= _LINE_S and state.rates() is not None:
            line_s = now_s
            left_s = state.left_s()
            left = [] if left_s is None else [f"{clock(left_s)} left"]
            say(state.steps_in_words(), *state.rates_in_words(), *left, *state.values_in_words())

    say(state.steps_in_words())
    try:
        yield draw
    finally:
        draw()
        say(state.steps_in_words(), f"{clock(state.elapsed_s())} in all", *state.values_in_words())


@contextlib.contextmanager
def notebook(state: ProgressState) -> Iterator[Callable[[], None]]:
    """One output of the cell, redrawn in place. It stays and shows where the loop ended."""
    from IPython.display import DisplayHandle

    drawn, handle = [_widget(state)], DisplayHandle()
    handle.display(drawn[0], raw=True)

    def draw(ended: bool = False) -> None:
        widget = _widget(state, ended)
        if widget != drawn[0]:
            drawn[0] = widget
            handle.update(widget, raw=True)

    try:
        yield draw
    finally:
        draw(ended=True)


def _widget(state: ProgressState, ended: bool = False) -> dict[str, str]:
    """The display's MIME bundle."""
    first, below = [state.steps_in_words()], state.rates_in_words()
    if ended:
        first.append(f"{clock(state.elapsed_s())} in all")
    elif (left_s := state.left_s()) is not None:
        first.append(f"{clock(left_s)} left")
    if (compiling := state.compiling()) is not None:
        below = [f"compiling {compiling[0]}   {compiling[1]:.0f} s"]
    rows = [row for row in (first, below, state.values_in_words()) if row]
    last_step = state.last_step or (state.step if ended else None)
    share = "" if last_step is None else f'value="{state.step}" max="{last_step}"'
    bar = f'<progress {share} style="width: 24em"></progress>'
    text = "<br>".join(html.escape("   ".join(row)).replace("   ", " &ensp; ") for row in rows)
    return {
        "text/html": f'<div style="font-variant-numeric: tabular-nums">{bar} &ensp; {text}</div>',
        "text/plain": "   ".join(word for row in rows for word in row),
    }
