"""The checkpoints in a directory: their names, their order, and how one goes away."""

import re
import shutil
from pathlib import Path
from typing import NamedTuple

SAVING = ".saving"
_REMOVING = ".removing"
NAME = re.compile(r"step-(\d+)-save-(\d+)")


class Entry(NamedTuple):
    """One whole checkpoint on disk.

    Attributes:
      save: counts the saves into the directory: the newest has the highest.
      step: the step it is of. After going back to an earlier step, the newest is not the highest.
      folder: where it lies.
    """

    save: int
    step: int
    folder: Path


def entries(directory: Path) -> list[Entry]:
    """The whole checkpoints in `directory`, oldest save first; none where there is no directory."""
    return [entry for entry in entries_and_links(directory) if is_plain(entry.folder)]


def entries_and_links(directory: Path) -> list[Entry]:
    """The entries, and all else that has the name of a checkpoint. Links are not followed."""
    if not directory.is_dir():
        return []
    matches = ((path, NAME.fullmatch(path.name)) for path in directory.iterdir())
    return sorted(Entry(int(match[2]), int(match[1]), path) for path, match in matches if match)


def is_plain(folder: Path) -> bool:
    """Whether it is a folder, and no link to one."""
    return folder.is_dir() and not folder.is_symlink()


def next_folder(directory: Path, step: int) -> Path:
    """Where the next checkpoint goes: a name never used, also where `step` was saved before."""
    last = max((entry.save for entry in entries_and_links(directory)), default=0)
    return directory / f"step-{step}-save-{last + 1}"


def remove(entry: Entry) -> None:
    """Removes a checkpoint. It is gone at once: a kill halfway leaves nothing that looks whole."""
    doomed = entry.folder.with_name(entry.folder.name + _REMOVING)
    entry.folder.rename(doomed)
    shutil.rmtree(doomed)


def remove_leftovers(directory: Path) -> None:
    """Removes what a killed or failed save or removal left in `directory`, and nothing else."""
    for folder in directory.iterdir() if directory.is_dir() else ():
        name = folder.name.removesuffix(SAVING).removesuffix(_REMOVING)
        is_ours = name != folder.name and NAME.fullmatch(name)
        if is_ours and is_plain(folder):
            shutil.rmtree(folder, ignore_errors=True)  # Orbax may still write for a save that failed
