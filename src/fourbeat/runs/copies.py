"""A run of an object store is read from a copy of it on this machine, without its checkpoints.

Whoever has the path of a copy can ask what it is of. No JAX is needed.
"""

import atexit
import dataclasses
import os
import shutil
import sys
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path

from fourbeat.runs.lease import LOCK, is_fresh
from fourbeat.runs.lock import is_held
from fourbeat.stores.addresses import address_copied_at, address_of, note_copy
from fourbeat.stores.store import Store, StoreError, for_each

CHECKPOINTS = "checkpoints"
_RECORDS = ("config.json", "metrics.jsonl", "result.json", "summary.json", LOCK)


@dataclasses.dataclass
class _Copy:
    root: Path  # of the temporary folder
    is_written: bool = False  # whether a process wrote the run when it was copied
    is_kept: bool = False
    is_told: bool = False


_copies: dict[Path, _Copy] = {}


def begin_copy(store: Store) -> Path:
    """An empty folder for a copy of the run at an address, in `TMPDIR`. It goes away with this process."""
    root = Path(tempfile.mkdtemp(prefix="fourbeat-")).resolve()
    parts = store.address.partition("://")[2].split("/")
    path = root.joinpath(*(part for part in parts if part not in ("", ".", "..")))
    path.mkdir(parents=True, exist_ok=True)
    _copies[path] = _Copy(root)
    note_copy(path, store.address)
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
    return address_of(path) or address_copied_at(path) or str(path)


def is_written(run: Path) -> bool:
    """Whether a process writes the run now; of a copy, whether one did when it was made."""
    return _copies[run].is_written if run in _copies else is_held(run / LOCK)


def keep(path: Path, *, is_told: bool = False) -> None:
    """The copy stays when this process ends, as the store does not have all that is in it.

    Args:
      path: of the copy.
      is_told: whether a person was told. Else this process says so at its end.
    """
    _copies[path].is_kept, _copies[path].is_told = True, is_told


def let_go(path: Path) -> None:
    """The copy goes away when this process ends: the store has all that is in it."""
    _copies[path].is_kept = False


def _remove(path: Path) -> None:
    copy = _copies[path]
    if not copy.is_kept:
        shutil.rmtree(copy.root, ignore_errors=True)
    elif not copy.is_told:
        print(
            f"fourbeat: the run {shown(path)} was not closed. Use it in a `with` statement, or call close() "
            f"at its end. What was not copied yet lies in {path}.",
            file=sys.stderr,
        )
