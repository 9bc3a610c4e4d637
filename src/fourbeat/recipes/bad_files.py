"""Files that cannot be read: each is named, and the others go on."""

import sys
from collections.abc import Mapping
from typing import Any

from fourbeat.runs.printing import printable


def report(problems: Mapping[Any, str]) -> None:
    """Prints a line for each file that could not be read, and exits with 2 where there is one.

    Args:
      problems: what is wrong with each.
    """
    for problem in problems.values():
        print(f"fourbeat: {printable(problem)}", file=sys.stderr)
    if problems:
        sys.exit(2)
