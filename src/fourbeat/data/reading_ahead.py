"""Reading ahead: threads read the batches to come while the device computes."""

from __future__ import annotations

import operator
import queue
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, wait
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import jax
import numpy as np

from fourbeat.data.stored import HostColumns

if TYPE_CHECKING:
    from fourbeat.data.batch import Batch
    from fourbeat.data.batches import Batches

_STALLED_S = 30.0
_LOOK_S = 0.2
_LAST_READ_S = 5.0


class StalledSourceWarning(UserWarning):
    """A step has waited for its data for half a minute."""


class Workers(NamedTuple):
    """Who reads ahead, and how far.

    Attributes:
      number: of threads; 0 where a batch is read when it is asked for.
      ahead: batches that are read before they are asked for.
    """

    number: int
    ahead: int

    @classmethod
    def checked(cls, workers: int, ahead: int | None) -> Self:
        """What `batches(workers=, ahead=)` asked for; two batches a worker by default."""
        count = operator.index(workers)
        if count < 0:
            raise ValueError(f"workers is {count}; expected a number of threads, 0 for none.")
        if ahead is None:
            return cls(count, 2 * count)
        ahead = operator.index(ahead)
        if (ahead < 1) if count else ahead:
            raise ValueError(
                f"ahead is {ahead} with workers={count}; expected at least 1 with workers, and none without."
            )
        return cls(count, ahead)


class AtOnce:
    """Batches that are read when they are asked for.

    Attributes:
      batch: `batch(step)` is `batches[step]`.
      stacked: as `batches.stacked`.
      wait_s: seconds spent reading them; 0 where they are gathered on the device.
      should_stop: unused here.
    """

    def __init__(self, batches: Batches):
        self.wait_s = 0.0
        self.should_stop: Callable[[], bool] = lambda: False
        self.batch, self.stacked = batches.__getitem__, batches.stacked
        if not batches.resident:
            self.batch, self.stacked = self._timed(self.batch), self._timed(self.stacked)

    def _timed(self, read: Callable[..., Batch]) -> Callable[..., Batch]:
        def timed(*args: Any, **kwargs: Any) -> Batch:
            begin_s = time.perf_counter()
            try:
                return read(*args, **kwargs)
            finally:
                self.wait_s += time.perf_counter() - begin_s

        return timed

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass


class ReadingAhead:
    """Batches that threads read before they are asked for.

    The threads read and decode; the thread that asks puts the columns on the device. They end on leaving the
    context: a read that hangs does not keep the process alive.

    Attributes:
      wait_s: seconds that were spent waiting for a batch.
      should_stop: whether to stop waiting: then a `CancelledError` is raised.
    """

    def __init__(self, batches: Batches, start: int, end: int | None, workers: Workers):
        self.wait_s = 0.0
        self.should_stop: Callable[[], bool] = lambda: False
        self._batches, self._workers = batches, workers
        self._start, self._end = start, end
        self._underway: dict[int, Future[HostColumns]] = {}
        self._tasks: queue.SimpleQueue[tuple[Future[HostColumns], int] | None] = queue.SimpleQueue()

    def __enter__(self) -> Self:
        # JAX keeps this setting for each thread on its own, and the types of columns depend on it
        is_wide = jax.dtypes.canonicalize_dtype(np.float64) == np.float64
        for number in range(self._workers.number):
            threading.Thread(
                target=_work,
                args=(self._tasks, self._batches.read, is_wide),
                name=f"fourbeat-reads-ahead-{number}",
                daemon=True,
            ).start()
        self._read_ahead_of(self._start)
        return self

    def __exit__(self, *error: object) -> None:
        running = [future for future in self._underway.values() if not future.cancel()]
        for _ in range(self._workers.number):
            self._tasks.put(None)
        self._underway.clear()
        wait(running, timeout=0 if self.should_stop() else _LAST_READ_S)

    def batch(self, step: int) -> Batch:
        """The batch of a step; those after it are begun."""
        return self._batches.of_columns(step, self._read(step))

    def stacked(self, step: int, num_steps: int, size: int) -> Batch:
        """The stacked batch of some steps, see `Batches.stacked`; those after them are begun."""
        read = [self._read(step + i) for i in range(num_steps)]
        return self._batches.stacked_columns(step, num_steps, size, stacked_on_host(read, size))

    def _read(self, step: int) -> HostColumns:
        if step not in self._underway:
            self._underway.clear()
        self._read_ahead_of(step)
        future = self._underway.pop(step)
        if not future.done():
            self._wait_for(future, step)
        self._read_ahead_of(step + 1)
        return future.result()

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


def stacked_on_host(read: list[HostColumns], size: int) -> HostColumns:
    """Columns along a new leading axis of `size`; what lies beyond those given is zeros."""

    def stacked(arrays: list[np.ndarray]) -> np.ndarray:
        whole = np.zeros((size, *arrays[0].shape), arrays[0].dtype)
        np.stack(arrays, out=whole[: len(arrays)])
        return whole

    columns = {name: stacked([each.columns[name] for each in read]) for name in read[0].columns}
    texts = read[0].texts
    if texts is not None:
        texts = {name: np.stack([(each.texts or {})[name] for each in read]) for name in texts}
    return HostColumns(columns, texts)


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
