"""A run of an object store is read from a copy of it on this machine, without its checkpoints.

Whoever has the path of a copy can ask what it is of. No JAX is needed.
"""

import atexit
import dataclasses
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path

from fourbeat.runs.lease import LOCK, is_fresh
from fourbeat.runs.lock import is_held
from fourbeat.stores.addresses import address_of
from fourbeat.stores.store import Store, StoreError, for_each

CHECKPOINTS = "checkpoints"
_RECORDS = ("config.json", "metrics.jsonl", "result.json", "summary.json", LOCK)


@dataclasses.dataclass
class _Copy:
    address: str
    root: Path  # of the temporary folder
    is_written: bool = False  # whether a process wrote the run when it was copied
    is_kept: bool = False


_copies: dict[Path, _Copy] = {}


def begin_copy(store: Store) -> Path:
    """An empty folder for a copy of the run at an address, in `TMPDIR`. It goes away with this process."""
    root = Path(tempfile.mkdtemp(prefix="fourbeat-")).resolve()
    parts = store.address.partition("://")[2].split("/")
    path = root.joinpath(*(part for part in parts if part not in ("", ".", "..")))
    path.mkdir(parents=True, exist_ok=True)
    _copies[path] = _Copy(store.address, root)
    atexit.register(_remove, path)
    return path


def fill(path: Path, store: Store, names: Collection[str] | None = None) -> None:
    """Copies what lies at the address into its copy, in place of what is there.

    Args:
      path: of the copy.
      store: the address.
      names: of the objects to copy; by default all but those of checkpoints.

    Raises:
      StoreError: it cannot be read.
    """

    def fetch(name: str) -> None:
        file = path / name
        if not file.resolve().is_relative_to(path):
            raise StoreError(f"{store.address}/{name} leads out of the run. Remove it.")
        file.parent.mkdir(parents=True, exist_ok=True)
        written_s = store.get(name, file)
        if written_s is not None:
            os.utime(file, (written_s, written_s))

    names = store.names(without=(CHECKPOINTS,)) if names is None else names
    for_each(fetch, [name for name in names if name != LOCK])
    _copies[path].is_written = LOCK in names and is_fresh(store.read(LOCK))


def on_this_machine(name: str | os.PathLike[str]) -> Path:
    """The directory of a run; of one at an address a new copy, empty where nothing is there.

    Raises:
      StoreError: the store cannot be read.
      ImportError: the package for such addresses is not installed.
    """
    address = address_of(name)
    if address is None:
        return Path(name)
    store = Store(address)
    path = begin_copy(store)
    fill(path, store)
    return path


def copies_below(address: str) -> Iterator[Path]:
    """A new copy of each run below an address: its records alone."""
    store = Store(address)
    names = set(store.names(without=(CHECKPOINTS,)))
    for name in sorted(names):
        folder, _, last = f"/{name}".rpartition("/")
        if last == "config.json":
            run = Store(f"{store.address}{folder}")
            path = begin_copy(run)
            fill(path, run, [each for each in _RECORDS if f"{folder}/{each}".lstrip("/") in names])
            yield path


def shown(path: str | os.PathLike[str]) -> str:
    """A path as a person knows it: what lies in a copy by its address.

    >>> shown("runs/a")
    'runs/a'
    """
    if (address := address_of(path)) is not None:
        return address
    path = Path(path)
    for folder in (path, *path.parents) if _copies else ():
        if folder in _copies:
            return f"{_copies[folder].address}/{path.relative_to(folder)}".removesuffix("/.")
    return str(path)


def checkpoints_of(run: Path) -> str:
    """Where the checkpoints of a run lie: a directory, or an address."""
    return f"{shown(run)}/{CHECKPOINTS}"


def is_written(run: Path) -> bool:
    """Whether a process writes the run now; of a copy, whether one did when it was made."""
    return _copies[run].is_written if run in _copies else is_held(run / LOCK)


def keep(path: Path) -> None:
    """The copy stays when this process ends, as what is in it could not be brought to the store."""
    _copies[path].is_kept = True


def _remove(path: Path) -> None:
    if not _copies[path].is_kept:
        shutil.rmtree(_copies[path].root, ignore_errors=True)
