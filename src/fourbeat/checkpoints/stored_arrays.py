"""Named arrays on disk, by Orbax: one call at a time in a process, whoever makes it."""

import asyncio
import contextlib
import functools
import logging
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fourbeat.checkpoints.errors import CheckpointError
from fourbeat.checkpoints.messages import in_a_line
from fourbeat.checkpoints.parts import Box
from fourbeat.types import Object

# Orbax numbers its calls by one counter of the process, and waits under the newest number for the folders
# that it makes: two calls at once take each other's folders for their own.
_one_call = threading.Lock()
_CACHE_BYTES = 2**26  # of the index of a store, which is read for every array
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


def save_together(
    folder: Path, arrays: Mapping[str, jax.Array | np.ndarray], *, is_alone: bool = False
) -> None:
    """Writes this process's parts of the arrays to `folder`, which is there. Every process calls it.

    Nothing in it waits for another process or starts a program on a device. Orbax's own way to save from
    several processes does both: its collectives would meet those of the training in another order on each
    process, and it cuts arrays of which there are several copies on the devices.

    Args:
      folder: an absolute path.
      arrays: those of NumPy are the same on every process, and process 0 writes them.
      is_alone: whether no other process writes into this folder: then each writes what describes its own.

    Raises:
      Exception: whatever Orbax meets.
    """
    with _handler_of_several(None if is_alone else 0) as (handler, ocp, path_of):

        async def write() -> None:
            for future in await handler.async_save(path_of(folder), args=ocp.args.PyTreeSave(dict(arrays))):
                future.result()

        asyncio.run(write())


def merge(folder: Path) -> None:
    """Makes one store of what the processes wrote. Process 0 calls it, once all of them have written.

    Raises:
      Exception: whatever Orbax meets.
    """
    with _handler_of_several() as (handler, _, path_of):
        handler.finalize(path_of(folder))


def load_parts(
    folder: Path, wanted: Mapping[str, tuple[np.dtype, tuple[int, ...], Sequence[Box]]]
) -> dict[str, dict[Box, np.ndarray]]:
    """Parts of the arrays in `folder`, whoever wrote it.

    Args:
      folder: an absolute path.
      wanted: by name: the dtype and shape that the whole array must have, and the boxes to read of it.

    Raises:
      CheckpointError: they cannot be read.
    """
    import tensorstore as ts

    try:
        store = _store_in(folder)
        context = ts.Context({"cache_pool": {"total_bytes_limit": _CACHE_BYTES}})
        opened = {
            name: ts.open({"driver": "zarr3", "kvstore": {**store, "path": f"{name}/"}}, context=context)
            for name in wanted
        }
        found = {}
        for name, (dtype, shape, boxes) in wanted.items():
            array = opened[name].result()
            if array.shape != shape or array.dtype.numpy_dtype != dtype:
                raise CheckpointError(f"{folder.name}/ holds another {name} than was saved")
            found[name] = {box: array[tuple(slice(*ends) for ends in box)].read() for box in boxes}
        return {
            name: {box: np.asarray(read.result()) for box, read in reads.items()}
            for name, reads in found.items()
        }
    except (CheckpointError, MemoryError):
        raise
    except Exception as error:  # whatever TensorStore meets in a damaged file
        raise CheckpointError(f"TensorStore cannot read {folder.name}/: {in_a_line(error)}") from error


def _store_in(folder: Path) -> dict[str, Any]:
    """The key-value store of the arrays in a folder of Orbax: one process writes it a level deeper."""
    inner = folder if (folder / "_METADATA").is_file() else folder / "state"
    if not (inner / "manifest.ocdbt").exists():  # an object store has the parts without the index over them
        merge(inner)
    return {"driver": "ocdbt", "base": {"driver": "file", "path": f"{inner}/"}}


@contextlib.contextmanager
def _handler_of_several(primary: int | None = 0) -> Iterator[Any]:
    """Orbax for arrays over several processes. One of them writes what is common to all; None: each does."""
    with _one_call, _log_off():
        _hide_strays()
        import orbax.checkpoint as ocp
        from etils import epath  # the paths of Orbax

        handlers = ocp.type_handlers
        registry = handlers.create_type_handler_registry(
            (np.ndarray, handlers.NumpyHandler()),
            (
                jax.Array,
                handlers.ArrayHandler(
                    primary_host=primary, use_replica_parallel=False, enable_write_sharding_file=False
                ),
            ),
        )
        handler = ocp.PyTreeCheckpointHandler(
            use_ocdbt=True,
            use_zarr3=True,
            use_compression=False,
            multiprocessing_options=ocp.options.MultiprocessingOptions(primary_host=primary),
            type_handler_registry=registry,
        )
        yield handler, ocp, epath.Path


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
        text = record.getMessage()  # it says where the task's coroutine is defined
        is_lost = text.startswith("Task exception was never retrieved")
        return not (is_lost and ("/orbax/" in text or "tensorstore_spec" in text))

    sys.unraisablehook = print_unless_stray
    logging.getLogger("asyncio").addFilter(is_no_stray)
