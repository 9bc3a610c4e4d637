"""What a run shows in the terminal."""

import shutil
import sys
from typing import Any

import numpy as np


class Interrupted(Exception):
    """A run that a signal stopped.

    Attributes:
      signal: its number, or None where the stop was asked for in the program.
    """

    def __init__(self, signal: int | None, message: str):
        super().__init__(message)
        self.signal = signal


def show_stopped(loop: Any, command: str) -> None:
    """Says at which step a run was stopped, and how to go on with it.

    Args:
      loop: what `fourbeat.loop` gave, left and its last step saved.
      command: what goes on with the run.

    Raises:
      Interrupted: a signal stopped it; its text says the same.
    """
    told = f"stopped at step {loop.step}, saved; to go on:\n{command}"
    if loop.interrupted:
        raise Interrupted(loop.signal, told)
    print(told)


def in_words(group: str, values: dict) -> str:
    """Scalars of a group of metrics in one line.

    >>> in_words("train", {"loss": 0.25, "accuracy": 0.9})
    'train loss 0.2500 accuracy 0.9000'
    """
    scalars = [f"{name} {value:.4f}" for name, value in values.items() if np.ndim(value) == 0]
    return " ".join([group, *scalars])


def say(first: str, *more: str) -> None:
    """Prints a line of several parts; on a terminal too narrow for it, each part on a line of its own.

    >>> say("step 100", in_words("train", {"loss": 0.25}), in_words("eval", {"loss": 0.5}))
    step 100   train loss 0.2500   eval loss 0.5000
    """
    line = "   ".join([first, *more])
    if sys.stdout.isatty() and len(line) > shutil.get_terminal_size().columns:
        line = "\n".join([first, *(f"    {part}" for part in more)])
    print(line)


def show_model(state: Any) -> None:
    """A table of the parameters: path, shape, size, and their sum."""
    from rich.console import Console
    from rich.table import Table

    from fourbeat.explicit.paths import leaves_with_paths

    rows = [(path, leaf) for path, leaf in leaves_with_paths(state.params)]
    table = Table("parameter", "shape", "dtype", "size", box=None, pad_edge=False)
    table.columns[3].justify = "right"
    for path, leaf in rows:
        name = path.strip("[]'").replace("']['", ".").replace("'][", ".").replace("]['", ".")
        table.add_row(name, str(tuple(leaf.shape)), str(leaf.dtype), f"{leaf.size:,}")
    table.add_section()
    table.add_row("all", "", "", f"{sum(leaf.size for _, leaf in rows):,}")
    Console().print(table)


def show_by_class(**columns: Any) -> None:
    """A table with a row for each class and a column for each metric.

    Args:
      columns: arrays of shape (classes,) by name; whole numbers are counts.
    """
    from rich.console import Console
    from rich.table import Table

    table = Table("class", *columns, box=None, pad_edge=False)
    for index, row in enumerate(zip(*columns.values(), strict=True)):
        cells = (f"{v:,}" if isinstance(v, int | np.integer) else f"{v:.4f}" for v in row)
        table.add_row(str(index), *cells)
    Console().print(table)
