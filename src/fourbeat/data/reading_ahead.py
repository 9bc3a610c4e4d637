"""Reading ahead: threads or processes read the batches to come while the device computes."""

from __future__ import annotations

import queue
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, wait
from typing import Any, NamedTuple, Protocol, Self

import jax
import numpy as np

from fourbeat.data.batch import Batch
from fourbeat.data.stored import HostColumns, StepReader, first_change, stack_steps
from fourbeat.data.whole_numbers import whole_number
from fourbeat.data.worker_processes import WorkerProcesses, check_processes

_STALLED_S = 30.0
_LOOK_S = 0.2
_LAST_READ_S = 5.0


class StalledSourceWarning(UserWarning):
    """A step has waited for its data for half a minute."""


class ReadInParts(Protocol):
    """Batches whose columns are read apart from what the device does with them: `fourbeat.data.Batches`."""

    @property
    def name(self) -> str: ...
    @property
    def resident(self) -> bool: ...
    @property
    def is_of_one_shape(self) -> bool: ...
    @property
    def step_reader(self) -> StepReader: ...
    def read(self, step: int) -> HostColumns: ...
    def agreed(self, read: HostColumns) -> HostColumns: ...
    def numbers_of(self, step: int) -> list[int]: ...
    def of_columns(self, step: int, read: HostColumns | None) -> Batch: ...
    def stacked_columns(self, step: int, num_steps: int, size: int, read: HostColumns | None) -> Batch: ...
    def stacked(self, step: int, num_steps: int, size: int) -> Batch: ...
    def __getitem__(self, step: int) -> Batch: ...


class Workers(NamedTuple):
    """How many threads or processes read ahead, and how far.

    Attributes:
      number: of threads or processes; 0 where a batch is read when it is asked for.
      ahead: batches that are read before they are asked for.
      are_processes: whether they are processes.
    """

    number: int
    ahead: int
    are_processes: bool = False

    @classmethod
    def checked(cls, workers: int, ahead: int | None, processes: int = 0) -> Self:
        """What `batches(workers=, ahead=, processes=)` asked for; two batches a worker by default."""
        num_threads, num_processes = whole_number("workers", workers), whole_number("processes", processes)
        if num_threads < 0:
            raise ValueError(f"workers is {num_threads}; expected a number of threads, 0 for none.")
        if num_processes < 0:
            raise ValueError(f"processes is {num_processes}; expected a number of them, 0 for none.")
        if num_threads and num_processes:
            raise ValueError(
                f"workers={num_threads} are threads, and processes={num_processes} are named beside them: "
                "choose one of the two."
            )
        if num_processes:
            check_processes(num_processes)
        count, named = (num_processes, "processes") if num_processes else (num_threads, "workers")
        if ahead is None:
            return cls(count, 2 * count, num_processes > 0)
        ahead = whole_number("ahead", ahead)
        if (ahead < 1) if count else ahead:
            raise ValueError(
                f"ahead is {ahead} with {named}={count}; expected at least 1 with workers, and none without."
            )
        return cls(count, ahead, num_processes > 0)


class AtOnce:
    """Batches that are read when they are asked for.

    Attributes:
      batch: `batch(step)` is `batches[step]`.
      wait_s: seconds spent reading them; 0 where they are gathered on the device.
      should_stop: unused here.
    """

    def __init__(self, batches: ReadInParts):
        self.wait_s = 0.0
        self.should_stop: Callable[[], bool] = lambda: False
        self.batch, self._stacked = batches.__getitem__, batches.stacked
        self._batches = batches
        self._held: tuple[int, HostColumns | None] = (-1, None)
        if not batches.resident:
            self.batch, self._stacked = self._timed(self.batch), self._timed(self._stacked)
            self._read_now = self._timed(self._read_now)

    def block(self, step: int, num_steps: int, size: int) -> tuple[Batch, int]:
        """Stacked batches as `Batches.stacked` gives them, and their number of steps; all have one shape."""
        if self._batches.is_of_one_shape:
            return self._stacked(step, num_steps, size), num_steps
        read = _alike(self._read_now, step, num_steps)
        return self._batches.stacked_columns(step, len(read), size, stack_steps(read, size)), len(read)

    def _read_now(self, step: int) -> HostColumns:
        """The columns of a step; the last step read is not read again."""
        held_step, columns = self._held
        if columns is None or held_step != step:
            columns = self._batches.agreed(self._batches.read(step))
            self._held = step, columns
        return columns

    def _timed(self, read: Callable[..., Any]) -> Callable[..., Any]:
        clock = time.perf_counter

        def timed(*args: Any) -> Any:
            begin_s = clock()
            try:
                return read(*args)
            finally:
                self.wait_s += clock() - begin_s

        return timed

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass


class ReadingAhead:
    """Batches that threads or processes read before they are asked for.

    They read and decode; the compiled call puts the columns on the device. They end on leaving the context:
    a read that hangs does not keep the process alive. One thread takes what processes have read.

    Attributes:
      wait_s: seconds that were spent waiting for a batch.
      should_stop: whether to stop waiting: then a `CancelledError` is raised.
    """

    def __init__(self, batches: ReadInParts, start: int, end: int | None, workers: Workers):
        self.wait_s = 0.0
        self.should_stop: Callable[[], bool] = lambda: False
        self._batches, self._workers = batches, workers
        self._start, self._end = start, end
        self._processes: WorkerProcesses | None = None
        self._threads: list[threading.Thread] = []
        self._underway: dict[int, Future[HostColumns]] = {}
        self._agreed: dict[int, HostColumns] = {}  # what was looked at, and not yet taken
        self._tasks: queue.SimpleQueue[tuple[Future[HostColumns], int] | None] = queue.SimpleQueue()

    def __enter__(self) -> Self:
        # JAX keeps this setting for each thread on its own, and the types of columns depend on it
        is_wide = jax.dtypes.canonicalize_dtype(np.float64) == np.float64
        read: Callable[[int], HostColumns] = self._batches.step_reader
        if self._workers.are_processes:
            self._processes = WorkerProcesses(
                read, self._batches.name, self._end, number=self._workers.number, ahead=self._workers.ahead
            )
            read = self._processes.read
        for number in range(1 if self._processes else self._workers.number):
            thread = threading.Thread(
                target=_work,
                args=(self._tasks, read, is_wide),
                name=f"fourbeat-reads-ahead-{number}",
                daemon=True,
            )
            self._threads.append(thread)
            thread.start()
        self._read_ahead_of(self._start)
        return self

    def __exit__(self, *error: object) -> None:
        running = [future for future in self._underway.values() if not future.cancel()]
        for _ in self._threads:
            self._tasks.put(None)
        self._underway.clear()
        last_read_s = 0 if self.should_stop() else _LAST_READ_S
        wait(running, timeout=last_read_s)
        if self._processes is not None:
            (thread,) = self._threads
            thread.join(timeout=last_read_s)
            self._processes.close(at_once=thread.is_alive())

    def batch(self, step: int) -> Batch:
        """The batch of a step; those after it are begun."""
        return self._batches.of_columns(step, self._read(step))

    def block(self, step: int, num_steps: int, size: int) -> tuple[Batch, int]:
        """Stacked batches, see `AtOnce.block`; those after them are begun."""
        read = _alike(self._look, step, num_steps)
        for done in range(step, step + len(read)):
            self._read(done)
        return self._batches.stacked_columns(step, len(read), size, stack_steps(read, size)), len(read)

    def _read(self, step: int) -> HostColumns:
        columns = self._look(step)
        del self._underway[step], self._agreed[step]
        self._read_ahead_of(step + 1)
        return columns

    def _look(self, step: int) -> HostColumns:
        """The columns of a step, which are kept for the next call."""
        if step not in self._underway:
            self._underway.clear()
            self._agreed.clear()
        self._read_ahead_of(step)
        if step in self._agreed:
            return self._agreed[step]
        future = self._underway[step]
        if not future.done():
            self._wait_for(future, step)
        # all processes look at the steps in this order, where their threads read in another
        return self._agreed.setdefault(step, self._batches.agreed(future.result()))

    def _read_ahead_of(self, step: int) -> None:
        """Begin what is still to be read of `step` and the steps after it."""
        begun = max(self._underway, default=step - 1)
        end = step + self._workers.ahead
        for number in range(begun + 1, end if self._end is None else min(end, max(self._end, step + 1))):
            future: Future[HostColumns] = Future()
            self._underway[number] = future
            self._tasks.put((future, number))

    def _wait_for(self, future: Future[HostColumns], step: int) -> None:
        begin_s, is_said = time.perf_counter(), False
        while not wait([future], timeout=_LOOK_S).done:
            if self.should_stop():
                raise CancelledError
            if not is_said and time.perf_counter() - begin_s > _STALLED_S:
                is_said = True
                warnings.warn(
                    f"step {step + 1} has waited {_STALLED_S:g} s for its batch: {self._batches.name} "
                    f"stalls. Its examples are {self._batches.numbers_of(step)}.",
                    StalledSourceWarning,
                    stacklevel=2,
                )
        self.wait_s += time.perf_counter() - begin_s


def _alike(read: Callable[[int], HostColumns], step: int, num_steps: int) -> list[HostColumns]:
    """The columns of at most `num_steps` steps from `step` on, up to the first that has another shape."""
    columns = [read(step)]
    while len(columns) < num_steps:
        following = read(step + len(columns))
        if first_change(columns[0], following):
            break
        columns.append(following)
    return columns


def _work(
    tasks: queue.SimpleQueue[tuple[Future[HostColumns], int] | None],
    read: Callable[[int], HostColumns],
    is_wide: bool,
) -> None:
    with jax.enable_x64(is_wide):
        while (task := tasks.get()) is not None:
            future, step = task
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(read(step))
            except BaseException as error:
                future.set_exception(error)
            del future, task
