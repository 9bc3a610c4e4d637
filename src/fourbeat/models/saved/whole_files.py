"""Files and folders that appear when they are whole and on the disk, or not at all."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

WRITING = ".saving"  # the end of the name until all is there


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Where to write a file; it gets its name at the end, and is gone after an error.

    Raises:
      ValueError: something lies at `path`.
    """
    if os.path.lexists(path):
        raise ValueError(f"{path} is there already. Choose another path.")
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + WRITING)
    try:
        yield unfinished
        flush(unfinished)
        unfinished.rename(path)
        flush(path.parent)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def flush(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
