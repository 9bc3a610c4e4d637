"""The objects below one address."""

import contextlib
import errno
import glob
import tempfile
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_AT_ONCE = 8  # objects on their way
_OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}


class StoreError(OSError):
    """A store cannot be read or written: it does not answer or refuses, or another process writes there."""


class Store:
    """What lies below an address: objects by their names, such as "checkpoints/step-1/digest.json".

    An object is there as a whole or not at all.

    Args:
      address: such as "s3://bucket/run", for `fsspec`.

    Attributes:
      address: without a slash at its end.
      files: the file system of `fsspec`.
      root: the address, as `files` has it.

    Raises:
      ImportError: the package for such addresses is not installed.
      ValueError: there is no such kind of store, or the address names nothing in it.
    """

    def __init__(self, address: str):
        self.address = address.rstrip("/")
        if "://" not in self.address:
            raise ValueError(f"{address} names no bucket. Give one, as in {address}bucket/run.")
        try:
            import fsspec

            self.files, root = fsspec.core.url_to_fs(self.address)
        except ImportError as error:
            has = " Install 'fourbeat[storage]'." if self.address.startswith(("s3:", "gs:", "gcs:")) else ""
            raise ImportError(f"{address} needs a package that is not installed: {error}.{has}") from None
        except ValueError as error:
            raise ValueError(f"{address} is no address of a store: {error}.") from None
        self.root: str = root.rstrip("/")

    def names(self, *, without: Collection[str] = ()) -> list[str]:
        """The names of the objects, in order.

        Args:
          without: what lies in these folders is not looked at.
        """
        with self.reaching("read"):
            self.files.invalidate_cache()
            return sorted(self._names(without))

    def _names(self, without: Collection[str]) -> Iterator[str]:
        with contextlib.suppress(FileNotFoundError):  # nothing is there
            for folder, inner, names in self.files.walk(self.root, topdown=True, on_error="raise"):
                inner[:] = [each for each in inner if each not in without]
                below = str(folder).rstrip("/").removeprefix(self.root).lstrip("/")
                yield from (f"{below}/{name}" if below else name for name in names if name)

    def read(self, name: str) -> bytes | None:
        """The bytes of a small object; None where there is none."""
        with self.reaching("read"):
            try:
                return self.files.cat_file(self._at(name))
            except FileNotFoundError:
                return None

    def write(self, name: str, content: bytes) -> None:
        """Writes a small object, in place of one that is there."""
        with self.reaching("written"):
            self.files.pipe_file(self._at(name), content)

    def create(self, name: str, content: bytes) -> bool:
        """Writes a small object where none is. Whether this has written it: of several, one does.

        A store that refuses conditional writes gets a plain one; there the last of several has written it.
        """
        with self.reaching("written"):
            try:
                self.files.pipe_file(self._at(name), content, mode="create")
                return True
            except Exception:
                if self.read(name) is None:
                    self.files.pipe_file(self._at(name), content)
                return self.read(name) == content

    def remove(self, name: str) -> None:
        """Removes an object, if it is there."""
        with self.reaching("written"), contextlib.suppress(FileNotFoundError):
            self.files.rm_file(self._at(name))

    def remove_below(self, folder: str) -> None:
        """Removes the objects in a folder, if there are any."""
        with self.reaching("written"):
            self.files.invalidate_cache()
            if self.files.exists(self._at(folder)):
                self.files.rm(glob.escape(self._at(folder)), recursive=True)  # it takes patterns

    def put(self, file: Path, name: str) -> None:
        """Copies a file to the store. One that is gone meanwhile is passed over."""
        with self.reaching("written"):
            try:
                self.files.put_file(str(file), self._at(name))
            except FileNotFoundError:
                if file.exists():
                    raise

    def get(self, name: str, file: Path) -> float | None:
        """Copies an object to a file. Returns when it was written, in s since 1970; None where it is gone."""
        with self.reaching("read"):
            try:
                self.files.get_file(self._at(name), str(file))
                return self.files.modified(self._at(name)).timestamp()
            except FileNotFoundError:
                file.unlink(missing_ok=True)
                return None

    def _at(self, name: str) -> str:
        return f"{self.root}/{name}"

    @contextlib.contextmanager
    def reaching(self, what: str) -> Iterator[None]:
        """A context in which whatever fails is a StoreError.

        Args:
          what: "read" or "written".
        """
        try:
            yield
        except StoreError:
            raise
        except OSError as error:
            if error.errno not in _OF_THE_DISK:
                raise self._failed(what, error) from error
            raise StoreError(
                f"{self.address} cannot be {what}, as its copy on this machine cannot be: "
                f"{_in_a_line(error)}. Make room in {tempfile.gettempdir()}, or name another folder by "
                "TMPDIR."
            ) from error
        except Exception as error:  # whatever the package of the store raises
            raise self._failed(what, error) from error

    def _failed(self, what: str, error: Exception) -> StoreError:
        return StoreError(
            f"{self.address} cannot be {what}: {_in_a_line(error)}. Look at the address, at the permissions, "
            "and whether the store answers."
        )


def _in_a_line(error: Exception) -> str:
    """Its type and its first line."""
    text = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {text.rstrip('.')}"


def for_each(work: Callable[[str], object], names: Collection[str]) -> None:
    """Does the work for several objects at once, and raises what failed."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for done in [pool.submit(work, name) for name in names]:
            done.result()
