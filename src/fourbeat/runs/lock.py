"""A lock on a run's directory: one process writes a run."""

import fcntl
import os
from pathlib import Path


class Lock:
    """A lock that is held from `acquire` until `release`, or until the process ends in any way.

    Attributes:
      path: the lock's file; it stays when the lock is released, and then means nothing.
    """

    def __init__(self, path: Path):
        self.path = path
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Takes the lock, or says who has it.

        Raises:
          ValueError: another process holds it.
        """
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        if not _is_taken(descriptor):
            holder = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise ValueError(
                f"another process (number {holder}) is writing the run {self.path.parent}. Wait for it, "
                "stop it, or choose another --out."
            )
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor

    def release(self) -> None:
        """Lets go; without effect where the lock is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def is_held(path: Path) -> bool:
    """Whether a process holds the lock of this file now."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        return not _shares(descriptor)
    finally:
        os.close(descriptor)


def _is_taken(descriptor: int) -> bool:
    """Takes the lock for this process alone. A reader that only looks whether it is held is waited for."""
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            if not _shares(descriptor):  # another process writes
                return False


def _shares(descriptor: int) -> bool:
    """Takes the lock as one of several readers, unless a process writes."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
