"""Where a run lies, and who may write it: a directory, or an object store with a copy on this machine."""

import os
import sys
import threading
import time
from pathlib import Path

from fourbeat.runs import copies
from fourbeat.runs.copies import CHECKPOINTS
from fourbeat.runs.lease import Lease
from fourbeat.runs.lock import Lock
from fourbeat.runs.places import holds_run, refuse_links
from fourbeat.stores.addresses import address_of
from fourbeat.stores.store import Store, StoreError, for_each

_KEPT_EVERY_S = 60.0  # at most, between two saves


def home_of(name: str) -> "Directory | InStore":
    """Where the run of this name lies: at an address, or in a directory."""
    address = address_of(name)
    return Directory(Path(name)) if address is None else InStore(address)


class Directory:
    """A directory, of this machine or of a disk that all processes see.

    Attributes:
      path: the directory.
    """

    def __init__(self, path: Path):
        self.path = path
        self._lock = Lock(path / copies.LOCK)

    def take(self, *, is_new: bool) -> None:
        """Makes it, and becomes the one process that writes it.

        Raises:
          ValueError: it holds a run although it is to be new, has a link in the place of a file of ours, or
            another process writes it.
          OSError: it cannot be made or written.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        refuse_links(self.path)
        if is_new and holds_run(self.path):
            raise ValueError(_holds_one(self.path))
        self._lock.acquire()

    def follow(self) -> None:
        """Of the other processes: knows what is in it."""

    def keep(self) -> None:
        """Keeps what was written so far: it is on the disk already."""

    def leave(self, error: BaseException | None) -> None:
        """Another process may write it.

        Args:
          error: what ends the run; None where nothing failed.
        """
        self._lock.release()


class InStore:
    """A run at an address, with its copy on this machine, which is written like any directory of a run.

    What was changed in the copy is brought to the store when the run begins, before each checkpoint, once a
    minute, and at the end. A history is there before the checkpoint that counts on it, and each object as a
    whole or not at all.

    Attributes:
      path: the copy.
    """

    def __init__(self, address: str):
        self._store = Store(address)
        self._lease = Lease(self._store, self._keep_sometimes)
        self._keeping = threading.Lock()
        self._kept: dict[str, tuple[int, ...]] = {}  # what the store has, by name
        self._kept_s = time.monotonic()
        self.path = copies.begin_copy(self._store)

    def take(self, *, is_new: bool) -> None:
        """Becomes the one process that writes it, and copies what is there. See `Directory.take`."""
        self._lease.acquire()
        try:
            if is_new and self._holds_run():
                raise ValueError(_holds_one(self.path))
            self.follow()
            self._kept = _files(self.path)
        except BaseException:
            self._lease.release()
            raise
        copies.keep(self.path)

    def follow(self) -> None:
        """Of the other processes: copies what is there."""
        copies.fill(self.path, self._store)

    def keep(self) -> None:
        """Brings to the store what was changed since the last time.

        Raises:
          StoreError: the store cannot be written, or another process has taken the run over.
        """
        with self._keeping:
            self._lease.check()
            self._kept_s = time.monotonic()
            files = _files(self.path)
            changed = [name for name, stands in files.items() if self._kept.get(name) != stands]
            for_each(self._put, changed)
            for_each(self._remove, self._kept.keys() - files.keys())
            self._kept = files

    def leave(self, error: BaseException | None) -> None:
        """Brings all to the store; another process may write it then.

        Args:
          error: what ends the run; None where nothing failed.

        Raises:
          StoreError: as `keep`, where nothing failed before. The copy then stays, and the text says where;
            where something failed, a line on standard error does.
        """
        if not self._lease.is_held:
            return
        try:
            self.keep()
            copies.let_go(self.path)
            self._lease.release()
        except StoreError as failed:
            copies.keep(self.path, is_told=True)
            where = f"What was not copied yet lies in {self.path}."
            if error is None:
                raise StoreError(f"{failed} {where}") from failed
            print(where if str(failed) in str(error) else f"{failed} {where}", file=sys.stderr)

    def _put(self, name: str) -> None:
        self._lease.check()  # each time: this process may have been stopped since the one before
        self._store.put(self.path / name, name)

    def _remove(self, name: str) -> None:
        self._lease.check()
        self._store.remove(name)

    def _keep_sometimes(self) -> None:
        if time.monotonic() - self._kept_s > _KEPT_EVERY_S:
            self.keep()

    def _holds_run(self) -> bool:
        return any(name.split("/")[0] in ("config.json", CHECKPOINTS) for name in self._store.names())


def _holds_one(path: Path) -> str:
    shown = copies.shown(path)
    return f"{shown} holds a run already. Choose another --out, or go on with --resume latest."


def _files(path: Path) -> dict[str, tuple[int, ...]]:
    """The files of a copy that the store is to have, by name: how each stands."""
    found = {}
    for folder, _, names in os.walk(path):
        for each in (Path(folder) / name for name in names):
            name = str(each.relative_to(path))
            if name == copies.LOCK or each.suffix == ".unfinished" or each.is_symlink():
                continue
            try:
                status = each.stat()
            except FileNotFoundError:  # it was replaced meanwhile
                continue
            found[name] = (status.st_ino, status.st_size, status.st_mtime_ns)
    return found
