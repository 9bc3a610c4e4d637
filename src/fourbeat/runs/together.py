"""What the processes of one run have to have alike: their flags, and the end of the run."""

from collections.abc import Iterable
from typing import Any

from fourbeat.distributed import any_of, gather, num_processes
from fourbeat.runs.description import all_flags_of
from fourbeat.runs.flags import as_flag
from fourbeat.types import Config

_TOPIC = "run"


def check_alike(config: Config) -> None:
    """Raises where the processes of a run were started with other flags.

    Raises:
      ValueError: on every process; the text names the first flag that differs, and its values.
    """
    if num_processes() == 1:
        return
    everyone = gather(all_flags_of(config), topic=_TOPIC)
    for process, flags in enumerate(everyone):
        for name, value in everyone[0].items():
            if flags.get(name) != value:
                raise ValueError(
                    f"{as_flag(name)} is {value!r} on process 0 and {flags.get(name)!r} on process {process}."
                    " Start every process with the same command."
                )


class AskedToEnd:
    """Whether the trees of a run ask for its end, as an `EarlyStopping` does; all processes think the same.

    They agree where one of the trees is another than before, as after `EarlyStopping.update`.
    """

    def __init__(self) -> None:
        self._judges: list[Any] = []

    def everywhere(self, trees: Iterable[Any]) -> bool:
        """Whether a tree asks for the end on some process; every process hears it in the same call."""
        judges = [tree for tree in trees if hasattr(tree, "should_stop")]
        asks = asks_to_end(judges)
        if num_processes() == 1:
            return asks
        is_new = len(judges) != len(self._judges) or any(
            now is not before for now, before in zip(judges, self._judges, strict=True)
        )
        self._judges = judges
        return is_new and any_of(asks, topic=_TOPIC)


def asks_to_end(trees: Iterable[Any]) -> bool:
    """Whether one of the trees asks for the end on this process."""
    return any(getattr(tree, "should_stop", False) for tree in trees)
