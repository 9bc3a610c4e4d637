"""Joins the processes of one training, as a launcher or flags of the call say."""

import sys
from collections.abc import Sequence
from typing import NamedTuple

from fourbeat.distributed import launchers
from fourbeat.runs.lost_output import drop

_FLAGS = ("--coordinator", "--num-processes", "--process-id")


class Asked(NamedTuple):
    """What flags say of the processes; None where they say nothing."""

    coordinator: str | None = None
    num_processes: int | None = None
    process_id: int | None = None

    @property
    def speaks(self) -> bool:
        """Whether this process is the one that prints, as far as flags and launcher tell before it joins."""
        number = launchers.place().process_id if self.process_id is None else self.process_id
        return number in (None, 0)

    def join(self) -> None:
        """Joins the others; does nothing where neither flags nor a launcher name any.

        Of several processes, all but process 0 drop their standard output from then on: that of C++ too,
        where Gloo says who is connected.
        """
        from fourbeat.distributed import initialize, speaks

        initialize(self.coordinator, self.num_processes, self.process_id)
        if not speaks():
            drop(sys.stdout)


def taken_out(args: Sequence[str]) -> tuple[Asked, list[str]]:
    """The flags that say which processes train together, and the other arguments.

    They are flags of every recipe, and of a file that `fourbeat new` wrote, and no part of what a run is.

    Raises:
      ValueError: a number is none, or a flag has no value.

    >>> taken_out(["train", "mnist-cnn", "--process-id=1", "--steps", "9"])
    (Asked(coordinator=None, num_processes=None, process_id=1), ['train', 'mnist-cnn', '--steps', '9'])
    """
    values: dict[str, str] = {}
    others, left = [], list(args)
    while left:
        arg = left.pop(0)
        name, equals, value = arg.partition("=")
        flag = name.replace("_", "-")
        if flag not in _FLAGS:
            others.append(arg)
        elif equals:
            values[flag] = value
        elif left:
            values[flag] = left.pop(0)
        else:
            raise ValueError(f"{flag} needs a value.")
    coordinator = values.pop("--coordinator", None)
    numbers = {flag: _number(flag, value) for flag, value in values.items()}
    return Asked(coordinator, numbers.get("--num-processes"), numbers.get("--process-id")), others


def _number(flag: str, value: str) -> int:
    if not value.isdecimal():
        raise ValueError(f"{flag} is {value!r}; give a whole number.")
    return int(value)
