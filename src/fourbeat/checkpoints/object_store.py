"""Checkpoints in an object store (`s3://`, `gs://`), which has no folders and cannot rename.

A checkpoint is written to a folder of this machine first, as on a disk, and copied from there. Its digest is
copied last, when all the rest has been read back: an object is there as a whole or not at all, so a
checkpoint is there from the moment that its digest is. It goes away digest first. To restore it, it is copied
back.

A save begins with an object that reserves its name: a process that was stopped, and goes on when another has
taken its run over, writes into a folder of its own. Whoever holds the address is asked before each change of
what others may see: see `stores.holders`.

Every process copies the files that it has written. The index over the parts of several processes is not
copied: whoever reads them makes it.
"""

import contextlib
import dataclasses
import hashlib
import itertools
import re
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fourbeat.checkpoints import shared_storage, storage
from fourbeat.checkpoints.digest import Digest
from fourbeat.checkpoints.errors import CheckpointError
from fourbeat.checkpoints.folders import NAME, Entry
from fourbeat.checkpoints.leaves import Taken, prepare_snapshot
from fourbeat.checkpoints.restoring import RESTORING
from fourbeat.checkpoints.shared_storage import TOPIC
from fourbeat.checkpoints.storage import DIGEST, sha256_of_file
from fourbeat.checkpoints.together import all_do, first_does
from fourbeat.distributed import num_processes, process_index
from fourbeat.stores.holders import check_held
from fourbeat.stores.store import Store, for_each

_BEACON = "begun-by-process-0"
_SMALL_BYTES = 2**24  # read by one request, into memory


class ObjectStore:
    """Where checkpoints lie: an address below which each is a group of objects.

    Attributes:
      name: the address.

    Args:
      url: such as "s3://bucket/run/checkpoints", for `fsspec`.

    Raises:
      ImportError: the package for such addresses is not installed.
      ValueError: there is none.
    """

    def __init__(self, url: str):
        self._store = store = Store(url)
        self.name, self._files, self._root = store.address, store.files, store.root

    def entries(self) -> list[Entry]:
        """The whole checkpoints, oldest save first."""
        whole = lambda name: self._files.exists(f"{self._root}/{name}/{DIGEST}")
        with self._store.reaching("read"):
            found = [name for name in self._names() if whole(name[0])]
        return sorted(self.entry(int(name[2]), int(name[1]), name[0]) for name in found)

    def entries_and_links(self) -> list[Entry]:
        """The entries: a store has no links."""
        return self.entries()

    def entry(self, save: int, step: int, name: str) -> Entry:
        """The entry of this name."""
        return Entry(save, step, Path(name))

    def is_gone(self, entry: Entry) -> bool:
        """Whether it is not there any more."""
        with self._store.reaching("read"):
            self._files.invalidate_cache()
            return not self._files.exists(self._at(entry, DIGEST))

    def read_digest(self, entry: Entry) -> Digest:
        """Raises a CheckpointError where it is damaged."""
        content = self._store.read(f"{entry.folder.name}/{DIGEST}")
        if content is None:
            raise CheckpointError(f"{DIGEST} is missing")
        try:
            return Digest.decode(content)
        except ValueError as error:
            raise CheckpointError(f"{DIGEST} cannot be read: {error}") from error

    def remove(self, entry: Entry) -> None:
        """Removes a checkpoint. A kill halfway leaves nothing that looks whole."""
        check_held(self.name)
        self._files.rm_file(self._at(entry, DIGEST))
        self._store.remove_below(entry.folder.name)

    @contextlib.contextmanager
    def at_hand(self, entry: Entry) -> Iterator[Entry]:
        """The entry in a folder of this machine, copied there by each process."""
        with _own_folder() as staging:
            folder = staging / entry.folder.name
            all_do(RESTORING, lambda: self._fetch(entry, folder))
            yield entry._replace(folder=folder)

    def write(
        self, step: int, scores: dict[str, float], taken: list[Taken], held: dict[str, str], saved_at_s: float
    ) -> None:
        """Writes a checkpoint; see `storage.write`."""
        name = None
        with _own_folder() as staging:
            try:
                if num_processes() > 1:
                    begun = all_do(TOPIC, lambda: self._begun(step), lambda each: each)[1]
                    name = begun[0]["name"]
                    shared_storage.check_same_save(begun)
                    self._write_own(
                        staging / name, begun, Digest(step, scores, saved_at_s, (), {}, held), taken
                    )
                else:
                    name, _ = self._reserved(step)
                    prepare_snapshot(taken)
                    storage.write(staging / name, step, scores, taken, held, saved_at_s)
                    digest = storage.read_digest(staging / name)
                    self._send(staging / name, name, digest.files)
                    self._commit(name, digest)
            except BaseException:
                if name is not None and process_index() == 0:
                    with contextlib.suppress(Exception):  # the store may be what failed
                        self._store.remove_below(name)
                check_held(self.name)  # this may be why
                raise

    def _write_own(
        self, folder: Path, begun: list[dict[str, Any]], digest: Digest, taken: list[Taken]
    ) -> None:
        """Writes and copies what is this process's, and commits when every process has done so."""
        beacon = lambda: self._files.cat_file(f"{self._root}/{begun[0]['name']}/{_BEACON}").decode()
        all_do(TOPIC, lambda: shared_storage.check_seen(beacon, begun))
        (folder / storage.ARRAYS).mkdir(parents=True)
        written, told = all_do(
            TOPIC, lambda: shared_storage.write_own(folder, taken, is_alone=True), lambda each: each.told
        )
        leaves = shared_storage.agreed_leaves(written.own, told)

        def send() -> dict[str, str]:
            files = dict(written.files)
            if process_index() == 0:
                files |= shared_storage.files_of_all(folder)
            shared_storage.check_own(folder, written.own)
            self._send(folder, folder.name, files)
            return files

        files = {
            name: sha256
            for each in all_do(TOPIC, send, lambda each: each)[1]
            for name, sha256 in each.items()
        }
        digest = dataclasses.replace(digest, leaves=leaves, files=files, processes=num_processes())
        first_does(TOPIC, lambda: self._commit(folder.name, digest))

    def _begun(self, step: int) -> dict[str, Any]:
        begun = {"directory": self.name, "step": step, "host": socket.gethostname()}
        if process_index() != 0:
            return begun
        name, token = self._reserved(step)
        return {**begun, "name": name, "token": token}

    def _reserved(self, step: int) -> tuple[str, str]:
        """A name never used, and what its beacon holds. What a killed save or removal has left is removed."""
        check_held(self.name)
        names, whole = self._names(), {entry.folder.name for entry in self.entries()}
        for name in names:
            if name[0] not in whole:
                self._store.remove_below(name[0])
        token = shared_storage.new_token()
        saves = itertools.count(max((int(name[2]) for name in names), default=0) + 1)
        unused = (f"step-{step}-save-{save}" for save in saves)
        is_ours = lambda name: self._store.create(f"{name}/{_BEACON}", token.encode())
        return next(filter(is_ours, unused)), token

    def _names(self) -> list[re.Match[str]]:
        self._files.invalidate_cache()
        try:
            found = self._files.ls(self._root, detail=False)
        except FileNotFoundError:
            return []
        names = (NAME.fullmatch(str(path).rstrip("/").rpartition("/")[2]) for path in found)
        return [name for name in names if name]

    def _send(self, folder: Path, name: str, files: dict[str, str]) -> None:
        """Copies files of `folder` to the store, and reads them back."""

        def send(each: str) -> None:
            there = f"{self._root}/{name}/{each}"
            self._files.put_file(str(folder / each), there)
            if self._sha256_of(there, (folder / each).stat().st_size) != files[each]:
                raise CheckpointError(f"what was written does not read back: {each} is not as it was written")

        for_each(send, files)

    def _commit(self, name: str, digest: Digest) -> None:
        there = f"{self._root}/{name}/{DIGEST}"
        check_held(self.name)
        self._files.pipe_file(there, digest.encode())
        if self._files.cat_file(there) != digest.encode():
            raise CheckpointError(f"what was written does not read back: {DIGEST} is not as it was written")
        self._files.rm_file(f"{self._root}/{name}/{_BEACON}")

    def _fetch(self, entry: Entry, folder: Path) -> None:
        digest = self.read_digest(entry)

        def fetch(name: str) -> None:
            here = folder / name
            if not here.resolve().is_relative_to(folder.resolve()):
                raise CheckpointError(f"{name} leads out of the checkpoint")
            with self._store.reaching("read"):  # what cannot be read is not damaged
                here.parent.mkdir(parents=True, exist_ok=True)
                try:
                    self._files.get_file(self._at(entry, name), str(here))
                except FileNotFoundError:
                    here.unlink(missing_ok=True)
            if not here.exists():
                raise CheckpointError(f"{name} is missing")
            if sha256_of_file(here) != digest.files[name]:
                raise CheckpointError(f"{name} is not as it was written: its sha256 differs")

        folder.mkdir()
        for_each(fetch, digest.files)
        with self._store.reaching("read"):
            (folder / DIGEST).write_bytes(digest.encode())

    def _sha256_of(self, there: str, size_bytes: int) -> str:
        if size_bytes < _SMALL_BYTES:
            return hashlib.sha256(self._files.cat_file(there)).hexdigest()
        with self._files.open(there, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()  # pyright: ignore[reportArgumentType]

    def _at(self, entry: Entry, name: str) -> str:
        return f"{self._root}/{entry.folder.name}/{name}"


@contextlib.contextmanager
def _own_folder() -> Iterator[Path]:
    """An empty folder of this machine, in `TMPDIR`, for as long as a checkpoint is on its way."""
    with tempfile.TemporaryDirectory(prefix="fourbeat-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)
