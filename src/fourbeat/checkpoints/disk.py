"""Checkpoints in a directory of a file system."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from fourbeat.checkpoints import folders, shared_storage, storage
from fourbeat.checkpoints.digest import Digest
from fourbeat.checkpoints.folders import Entry
from fourbeat.checkpoints.leaves import Taken, prepare_snapshot
from fourbeat.distributed import num_processes


class Disk:
    """Where checkpoints lie: a directory.

    Attributes:
      name: the directory, for a person.
    """

    def __init__(self, directory: Path):
        self.name = directory
        _check_can_hold(directory)

    def entries(self) -> list[Entry]:
        """The whole checkpoints, oldest save first."""
        return folders.entries(self.name)

    def entries_and_links(self) -> list[Entry]:
        """The entries, and all else that has the name of a checkpoint."""
        return folders.entries_and_links(self.name)

    def entry(self, save: int, step: int, name: str) -> Entry:
        """The entry of this name."""
        return Entry(save, step, self.name / name)

    def is_gone(self, entry: Entry) -> bool:
        """Whether it is not there any more."""
        return not os.path.lexists(entry.folder)

    def read_digest(self, entry: Entry) -> Digest:
        """Raises a CheckpointError where it is damaged."""
        return storage.read_digest(entry.folder)

    def remove(self, entry: Entry) -> None:
        """Removes a checkpoint, at once."""
        folders.remove(entry)

    @contextlib.contextmanager
    def at_hand(self, entry: Entry) -> Iterator[Entry]:
        """The entry in a folder from which it can be read."""
        yield entry

    def write(
        self, step: int, scores: dict[str, float], taken: list[Taken], held: dict[str, str], saved_at_s: float
    ) -> None:
        """Writes a checkpoint; see `storage.write`."""
        if num_processes() > 1:
            shared_storage.write(self.name, step, scores, taken, held, saved_at_s)
            return
        prepare_snapshot(taken)
        folders.remove_leftovers(self.name)
        storage.write(folders.next_folder(self.name, step), step, scores, taken, held, saved_at_s)


def _check_can_hold(directory: Path) -> None:
    """Says at once what the first save would meet; a directory that is there may be for reading only."""
    nearest = next(path for path in (directory, *directory.parents) if path.exists())
    if not nearest.is_dir():
        raise ValueError(f"there can be no checkpoints in {directory}: {nearest} is a file.")
    effective = os.access in os.supports_effective_ids
    if nearest != directory and not os.access(nearest, os.W_OK, effective_ids=effective):
        raise ValueError(f"there can be no checkpoints in {directory}: {nearest} cannot be written.")
