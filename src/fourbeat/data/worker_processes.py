"""Worker processes that read batches: those of Grain, over step numbers."""

import importlib.util
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fourbeat.data.grain_threads import GrainThreads
from fourbeat.data.stored import HostColumns

_ENDLESS = 2**40


class WorkerProcesses:
    """Reads the columns of one step after the other, each in one of several processes.

    The processes start with the first read. Each takes every n-th step, so what comes is in the order of the
    steps; the code that they run is a copy of `read`.

    Args:
      read: the columns of a step.
      name: how errors name the source.
      end: the step before which they stop, None where that is not known.
      number: of processes.
      ahead: batches that they read in all before these are asked for.
    """

    def __init__(
        self, read: Callable[[int], HostColumns], name: str, end: int | None, *, number: int, ahead: int
    ):
        self._name, self._end = name, end
        self._number, self._each = number, -(-ahead // number)
        self._written = _written(read, name, number)
        self._steps: Any = None
        self._next = 0
        self._others: set[Any] = set()
        self._grain_threads: GrainThreads | None = None
        self._error: Exception | None = None

    def read(self, step: int) -> HostColumns:
        """The columns of a step. A step that is not the one after the last starts the processes anew.

        After an error there is nothing more to be read: it is raised again.
        """
        if self._error is not None:
            raise self._error
        if self._steps is None or step != self._next:
            self.close()
            self._steps = self._started(step)
        try:
            columns, texts = self._read()
        except Exception as error:
            self._error = error
            raise
        self._next = step + 1
        return HostColumns(columns, texts)

    def _read(self) -> tuple[Any, Any]:
        try:
            return next(self._steps)
        except RuntimeError as error:
            if "terminated unexpectedly" not in str(error):
                raise
            raise RuntimeError(
                f"a process that reads {self._name} has ended: {error} Often the system kills one that "
                "takes too much memory: use fewer processes, or threads, "
                f"batches(..., workers={self._number})."
            ) from error

    def close(self, *, at_once: bool = False) -> None:
        """Ends the processes, after the batches that they are at; to be called where nothing is being read.

        Args:
          at_once: do not wait for those; a read that is under way fails.
        """
        steps, self._steps = self._steps, None
        if steps is None:
            return
        if at_once:
            for child in set(multiprocessing.active_children()) - self._others:
                child.terminate()
        steps.close()
        if self._grain_threads is not None:
            self._grain_threads.end()

    def _started(self, step: int) -> Any:
        import grain
        from absl import flags

        if not flags.FLAGS.is_parsed():  # Grain reads its own, which are there only then
            flags.FLAGS.mark_as_parsed()
        self._others, self._grain_threads = set(multiprocessing.active_children()), GrainThreads()
        options = grain.MultiprocessingOptions(num_workers=self._number, per_worker_buffer_size=self._each)
        return iter(self.pipeline(step).mp_prefetch(options))

    def pipeline(self, step: int) -> Any:
        """What the processes share: a Grain `IterDataset` of the columns and texts from a step on."""
        import grain
        import grain.experimental

        steps = grain.MapDataset.range(
            step, step + _ENDLESS if self._end is None else max(self._end, step + 1)
        )
        # a worker would else read hundreds of batches ahead, in threads of its own
        in_turn = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
        return grain.experimental.WithOptionsIterDataset(
            steps.map(self._written).to_iter_dataset(in_turn),
            # Arrays come through a pipe. Shared memory is twice as fast, but a container often has 64 MiB of
            # it, and what was read ahead when a loop ends would stay there.
            grain.experimental.DatasetOptions(min_shm_size=_ENDLESS),
        )


class _Written:
    """A function as bytes that another process calls."""

    def __init__(self, written: bytes, is_wide: bool):
        self._written, self._is_wide = written, is_wide
        self._read: Callable[[int], HostColumns] | None = None

    def __call__(self, step: int) -> tuple[Any, Any]:
        if self._read is None:
            import cloudpickle

            _end_with_the_parent()
            jax.config.update("jax_platforms", "cpu")  # the accelerator is that of the process with the loop
            self._read = cloudpickle.loads(self._written)
        assert self._read is not None
        with jax.enable_x64(self._is_wide):
            read = self._read(int(step))
        return read.columns, read.texts

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_read": None}


def _end_with_the_parent() -> None:
    """Ends this process where the one with the loop is killed: it would wait for ever to hand a batch on."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, name="fourbeat-watches-the-parent", daemon=True).start()


def check_processes(number: int) -> None:
    """Whether processes can be started.

    Raises:
      ImportError: Grain is not installed.
    """
    if importlib.util.find_spec("grain") is None:
        raise ImportError(f"batches(processes={number}) needs Grain: pip install 'fourbeat[grain]'")


def _written(read: Callable[[int], HostColumns], name: str, number: int) -> _Written:
    import cloudpickle

    _check_main(number)
    try:
        written = cloudpickle.dumps(read)
    except Exception as error:
        raise TypeError(
            f"cannot send {name} to other processes: {type(error).__name__}: {error}. What the source and "
            f"decode "
            "hold must be picklable: open files and connections where they are read, or use threads: "
            f"batches(..., workers={number})."
        ) from error
    return _Written(written, jax.dtypes.canonicalize_dtype(np.float64) == np.float64)


def _check_main(number: int) -> None:
    """A new process imports the script again, which must not begin the run again."""
    main = sys.modules["__main__"]
    script = getattr(main, "__file__", None)
    is_package = main.__spec__ is not None and main.__spec__.name.endswith(".__main__")
    if script is None or is_package or not Path(script).is_file():  # these are not imported again
        return
    if "__name__" not in Path(script).read_text(errors="ignore"):
        raise RuntimeError(
            f"batches(processes={number}) starts processes that import {script}, and it would begin its "
            f"run again "
            "in each of them. Put what runs into a function and call it under\nif __name__ == "
            '"__main__":\n    '
            "main()"
        )
