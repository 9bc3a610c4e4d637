"""What `fourbeat evaluate` and `fourbeat predict` print of a run: which it is, and JSON."""

from typing import Any

from fourbeat.loggers import strict_json
from fourbeat.recipes.trained import Trained
from fourbeat.runs.printing import printable, say


def say_run(trained: Trained, *words: str) -> None:
    """Prints which run and which step it is, and what is said of it.

    Args:
      trained: the run.
      words: what stands behind, in the same line where the terminal is wide enough.
    """
    say(printable(trained.name), f"step {int(trained.state.step)}", *words)


def print_json(trained: Trained, **values: Any) -> None:
    """Prints one JSON object: which run and which step it is, and the values.

    Args:
      trained: the run.
      values: what JSON can write, arrays and numbers that are not finite included.
    """
    print(strict_json.dumps({"run": trained.name, "step": int(trained.state.step), **values}))
