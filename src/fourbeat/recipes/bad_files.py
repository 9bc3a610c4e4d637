"""Files that cannot be used: each is named, and the others go on."""

import sys
from collections.abc import Mapping
from typing import Any

from fourbeat.runs.printing import printable, say

_MOST_SHOWN = 5  # of the files that are left out


def report(problems: Mapping[Any, str]) -> None:
    """Prints a line for each file that could not be read, and exits with 2 where there is one.

    Args:
      problems: what is wrong with each.
    """
    for problem in problems.values():
        print(f"fourbeat: {printable(problem)}", file=sys.stderr)
    if problems:
        sys.exit(2)


def say_left_out(left_out: Mapping[str, str], *, listed_in: Any = None) -> None:
    """Prints which files a run leaves out: the first ones, and how many they are.

    Args:
      left_out: why, by the name of each.
      listed_in: a file that says why of each.
    """
    for name, why in list(left_out.items())[:_MOST_SHOWN]:
        say(f"left out: {printable(name)}: {printable(why)}")
    if len(left_out) > 1:
        listed = "" if listed_in is None else f"; {printable(listed_in)} says why of each"
        say(f"left out: {len(left_out):,} files in all{listed}")
