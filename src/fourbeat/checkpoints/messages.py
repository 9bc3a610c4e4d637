"""What a person reads when a checkpoint is not what it should be."""

import errno
import os
import re
from collections.abc import Sequence
from pathlib import Path

from fourbeat.checkpoints.errors import CheckpointError, NotTogetherError
from fourbeat.checkpoints.folders import Entry
from fourbeat.distributed import PeerError
from fourbeat.stores.store import StoreError

_OS_ERROR = re.compile(r"os_error_code='(\d+)'")
_PLACE = re.compile(r'"(/[^"]+)"')  # TensorStore quotes the paths that it met, the file last
_WIDTH = 240


def in_a_line(error: BaseException) -> str:
    """An error as a person quotes it: its type, and its first line.

    >>> in_a_line(OSError(28, "No space left on device"))
    'OSError: [Errno 28] No space left on device'
    """
    number = _OS_ERROR.search(str(error))
    if number:  # TensorStore has it far behind paths and options
        places = _PLACE.findall(str(error))
        where = f": {places[-1]!r}" if places else ""
        return f"OSError: [Errno {number[1]}] {os.strerror(int(number[1]))}{where}"
    if isinstance(error, (CheckpointError, StoreError)):  # a sentence of ours
        return str(error)
    lines = str(error).strip().splitlines() or [""]
    text = lines[0] if len(lines[0]) <= _WIDTH else lines[0][:_WIDTH] + " ..."
    return f"{type(error).__name__}: {text}"


def is_of_the_system(error: BaseException) -> bool:
    """Whether it is an error of the operating system, as TensorStore raises it."""
    return _OS_ERROR.search(str(error)) is not None


def not_saved(directory: Path | str, step: int, error: Exception, latest: int | str | None) -> str:
    """Says that a save failed, and which checkpoint there is instead."""
    instead = "No checkpoint is there" if latest is None else f"The newest whole one is of step {latest}"
    if isinstance(latest, str):
        instead = "What is there cannot be read"
    why = in_a_line(error)
    if isinstance(error, (NotTogetherError, PeerError, StoreError)):  # the disk is not to blame
        return f"step {step} was not saved: {why}"
    repair = "See to its space and permissions"
    if f"[Errno {errno.EFBIG}]" in why:
        repair = "Raise the limit on the size of a file (`ulimit -f`)"
    return f"step {step} was not saved in {directory}: {why}\n{instead}. {repair}, then save again."


def not_removed(directory: Path | str, step: int, error: Exception) -> str:
    """Says that older checkpoints are in the way."""
    told = f"step {step} is saved in {directory}, but an older one cannot be removed: {in_a_line(error)}"
    if isinstance(error, StoreError):  # it says what to do
        return told
    return f"{told}\nMake the directory writable, then save again."


def damaged(directory: Path | str, found: Sequence[tuple[Entry, CheckpointError]]) -> str:
    """Which checkpoints are damaged, and how, a line each."""
    lines = (
        f"step {entry.step} in {directory}/{entry.folder.name} is damaged: {str(why).removesuffix('.')}."
        for entry, why in found
    )
    return "\n".join(lines)


def what_is_left(found: Sequence[tuple[Entry, CheckpointError]], steps: Sequence[int]) -> str:
    """What to do when nothing could be restored."""
    bad = {entry.step for entry, _ in found}
    others = [step for step in steps if step not in bad]
    if others:
        return f"Restore another: {', '.join(map(str, others))}."
    return "There is no other checkpoint."
