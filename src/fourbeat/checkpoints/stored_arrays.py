"""Named arrays on disk, by Orbax: one call at a time in a process, whoever makes it."""

import contextlib
import functools
import logging
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import jax
import numpy as np

from fourbeat.checkpoints.errors import CheckpointError
from fourbeat.checkpoints.messages import in_a_line
from fourbeat.types import Object

# Orbax numbers its calls by one counter of the process, and waits under the newest number for the folders
# that it makes: two calls at once take each other's folders for their own.
_one_call = threading.Lock()
_user: list[int] = []  # the process that has begun to save or to restore


def claim_process() -> None:
    """To be called before anything is saved or restored.

    Raises:
      CheckpointError: this process is a fork of one that had done so: TensorStore would abort it.
    """
    if _user not in ([], [os.getpid()]):
        raise CheckpointError(
            "nothing can be saved or restored here: this process was forked from one that had done so, and "
            "the threads that do it stayed there. Fork before the first save, or start the process with "
            "multiprocessing.get_context('spawn')."
        )
    _user[:] = [os.getpid()]


def save(folder: Path, arrays: Mapping[str, jax.Array | np.ndarray]) -> None:
    """Writes the arrays to `folder`, an absolute path at which nothing lies.

    They are stored as they are. Trained numbers hardly shrink (random float32 by 8 %), and compressing them
    takes three times as long as all the rest.

    Raises:
      Exception: whatever Orbax meets.
    """
    with _orbax() as ocp:
        ocp.save(str(folder), dict(arrays))


def load(folder: Path, like: Mapping[str, np.ndarray | None]) -> dict[str, np.ndarray]:
    """The arrays in `folder` that are wanted.

    Args:
      folder: an absolute path.
      like: by name, all that are there: an array of the shape and dtype, or None for one not to be read.

    Raises:
      CheckpointError: they cannot be read.
    """
    with _orbax() as ocp:
        wanted = {name: ocp.PLACEHOLDER if array is None else array for name, array in like.items()}
        try:
            loaded = ocp.load(str(folder), wanted)
            return {name: np.asarray(loaded[name]) for name, array in like.items() if array is not None}
        except MemoryError:
            raise
        except Exception as error:  # whatever Orbax meets in a damaged file
            raise CheckpointError(f"Orbax cannot read {folder.name}/: {in_a_line(error)}") from error


@contextlib.contextmanager
def _orbax() -> Iterator:
    """Orbax for one call, with options of its own."""
    with _one_call, _log_off():
        _hide_strays()
        from orbax.checkpoint import v1 as ocp

        context = ocp.Context()
        context.array.saving.use_compression = False
        context.asynchronous.create_directories_asynchronously = False  # no wait for folders by number
        with context:
            yield ocp


@contextlib.contextmanager
def _log_off() -> Iterator[None]:
    """Orbax logs a traceback of what it raises: once is enough."""
    logger = logging.getLogger("absl")

    def is_not_of_orbax(record: logging.LogRecord) -> bool:
        return "orbax" not in record.pathname

    logger.addFilter(is_not_of_orbax)
    try:
        yield
    finally:
        logger.removeFilter(is_not_of_orbax)


@functools.cache
def _hide_strays() -> None:
    """Where a call fails for one array, Orbax leaves the others running, in an event loop that is closed.

    Each of them then prints a traceback when it ends, long after the error that was raised. Nothing
    tells when they end, so the hook that hides them stays. It hides nothing else.
    """
    print_unraisable = sys.unraisablehook

    def print_unless_stray(unraisable: Object) -> None:
        is_closed = unraisable.object is None and str(unraisable.exc_value) == "Event loop is closed"
        if not (is_closed and isinstance(unraisable.exc_value, RuntimeError)):
            print_unraisable(unraisable)

    def is_no_stray(record: logging.LogRecord) -> bool:
        is_lost = record.getMessage().startswith("Task exception was never retrieved")
        return not (is_lost and record.exc_info and "tensorstore_spec" in str(record.exc_info[1]))

    sys.unraisablehook = print_unless_stray
    logging.getLogger("asyncio").addFilter(is_no_stray)
