"""What a run prints: lines and tables. Of several processes, process 0 alone prints."""

import numbers
import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fourbeat.distributed import speaks
from fourbeat.types import Object, State

if TYPE_CHECKING:
    from rich.table import Table


def in_words(group: str, values: dict) -> str:
    """Scalars of a group of metrics in one line.

    >>> in_words("train", {"loss": 0.25, "accuracy": 0.9})
    'train loss 0.2500 accuracy 0.9000'

    What is None, as JSON has it for a number that is not finite, is a nan.
    """
    known = {name: float("nan") if value is None else value for name, value in values.items()}
    scalars = [f"{name} {value:.4f}" for name, value in known.items() if _is_scalar(value)]
    return " ".join([group, *scalars])


def _is_scalar(value: Object) -> bool:
    return value.ndim == 0 if hasattr(value, "ndim") else isinstance(value, numbers.Real)


def say(first: str, *more: str) -> None:
    """Prints a line of several parts; on a terminal too narrow for it, each part on lines of its own.

    >>> say("step 100", in_words("train", {"loss": 0.25}), in_words("eval", {"loss": 0.5}))
    step 100   train loss 0.2500   eval loss 0.5000
    """
    if not speaks():
        return
    line = "   ".join([first, *more])
    width = shutil.get_terminal_size().columns
    if sys.stdout.isatty() and len(line) > width:
        indents = ["", *("    " for _ in more)]
        line = "\n".join(
            textwrap.fill(
                part, width, initial_indent=indent, subsequent_indent=indent + "    ",
                break_long_words=False, break_on_hyphens=False,
            )
            for part, indent in zip([first, *more], indents, strict=True)
        )  # fmt: skip
    print(line)


def say_scores(step: int, **groups: dict) -> None:
    """Prints a line with a step and the scalars of groups of metrics, as `say` does.

    >>> say_scores(100, train={"loss": 0.25}, eval={"loss": 0.5})
    step   100   train loss 0.2500   eval loss 0.5000
    """
    say(f"step {step:5d}", *(in_words(group, values) for group, values in groups.items()))


def show_model(state: State) -> None:
    """A table of the parameters: path, shape, size, and their sum."""
    from rich.table import Table
    from rich.text import Text

    from fourbeat.trees.paths import leaves_with_paths

    leaves = [(path, leaf) for path, leaf in leaves_with_paths(state.params)]
    table = Table("parameter", "shape", "dtype", "size", box=None, pad_edge=False)
    table.columns[3].justify = "right"
    for path, leaf in leaves:
        name = path.strip("[]'").replace("']['", ".").replace("'][", ".").replace("]['", ".")
        table.add_row(Text(name), str(tuple(leaf.shape)), str(leaf.dtype), f"{leaf.size:,}")
    table.add_section()
    table.add_row("all", "", "", f"{sum(leaf.size for _, leaf in leaves):,}")
    show_table(table)


def show_by_class(classes: Sequence[str] | None = None, /, **columns: Any) -> None:
    """A table with a row for each class and a column for each metric.

    Args:
      classes: their names; by default their numbers.
      columns: arrays of shape (classes,) by name; whole numbers are counts.
    """
    from rich.table import Table
    from rich.text import Text

    table = Table("class", *columns, box=None, pad_edge=False)
    for index, row in enumerate(zip(*columns.values(), strict=True)):
        cells = (f"{v:,}" if isinstance(v, numbers.Integral) else f"{v:.4f}" for v in row)
        table.add_row(str(index) if classes is None else Text(printable(classes[index])), *cells)
    show_table(table)


def show_table(table: "Table") -> None:
    """Prints a table in full: on a terminal too narrow for it the cells are broken, and else no line is."""
    if not speaks():
        return
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        needed = console.measure(table, options=console.options.update(max_width=10_000)).maximum
        console.width = max(console.width, needed)
    for column in table.columns:
        column.overflow = "fold"  # else a cell that is too wide would be cut off
    with console.capture() as drawn:
        console.print(table)
    for line in drawn.get().splitlines():
        print(line.rstrip())  # rich itself would end the program where a reader has left


def printable(text: object, *, keep: str = "") -> str:
    r"""A text in one line, and without what would steer a terminal: such characters are written as escapes.

    Args:
      text: what is to be printed.
      keep: characters that stay as they are, such as line feeds.

    >>> printable("a\tb\x1b[31m"), printable("a\tb", keep="\t")
    ('a\\tb\\x1b[31m', 'a\tb')
    """
    shown = (c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in str(text))
    return "".join(shown)
