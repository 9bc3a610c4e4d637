"""Loggers: where a loop's numbers and plots go. One small protocol, and three that have it."""

import functools
import json
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from fourbeat import strict_json

__all__ = ["JsonLines", "Logger", "LoggerWarning", "Several", "TensorBoard"]


class Logger(Protocol):
    """What a logger does. Any object with these three methods is one; it need not know of fourbeat.

    One that can take back what it wrote has `cut_after(step)` too, as `JsonLines` and `TensorBoard` do: a
    loop that goes on from an older checkpoint calls it first, or the steps in between are there twice.

    >>> class Printing:
    ...     def log(self, step, values):
    ...         print(step, values)
    ...     def figure(self, step, name, figure):
    ...         print(step, name)
    ...     def close(self):
    ...         print("closed")
    >>> logger = Several(Printing())
    >>> logger.log(10, {"loss": 0.5})
    10 {'loss': 0.5}
    """

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Takes values of a step: scalars, arrays, or dicts of them, by name."""

    def figure(self, step: int, name: str, figure: Any) -> None:
        """Takes a matplotlib figure of a step."""

    def close(self) -> None:
        """Writes what is not written yet, and lets go."""


@runtime_checkable
class _Cutting(Protocol):
    def cut_after(self, step: int) -> None: ...


class LoggerWarning(UserWarning):
    """A logger failed, or cannot do what was asked of it. Training goes on."""


class Several:
    """Every logger of several gets everything. One that fails warns once, and the others go on.

    Args:
      loggers: of ours or of yours.

    >>> Several()
    Several()
    """

    def __init__(self, *loggers: Logger):
        self._loggers = loggers
        self._failed: set[int] = set()

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Gives the values of a step to each."""
        self._each(lambda logger: logger.log(step, values))

    def figure(self, step: int, name: str, figure: Any) -> None:
        """Gives a figure to each."""
        self._each(lambda logger: logger.figure(step, name, figure))

    def close(self) -> None:
        """Closes each."""
        self._each(lambda logger: logger.close())

    def cut_after(self, step: int) -> None:
        """Each takes back what it was given of later steps. Warns of those that cannot."""
        if unable := [repr(logger) for logger in self._loggers if not isinstance(logger, _Cutting)]:
            warnings.warn(
                f"{', '.join(unable)} has no cut_after: it keeps what it was given of steps after "
                f"{int(step)}, which come again.",
                LoggerWarning,
                stacklevel=2,
            )
        self._each(lambda logger: logger.cut_after(step) if isinstance(logger, _Cutting) else None)

    def __repr__(self) -> str:
        return f"Several({', '.join(map(repr, self._loggers))})"

    def _each(self, give: Callable[[Logger], None]) -> None:
        for place, logger in enumerate(self._loggers):
            try:
                give(logger)
            except Exception as error:  # a logger of the user's may raise anything
                if place not in self._failed:
                    self._failed.add(place)
                    _warn(logger, error, stacklevel=4)


def _goes_on(method: Callable[..., None]) -> Callable[..., None]:
    """The method, whose first failure warns and whose later ones are silent: training goes on."""

    @functools.wraps(method)
    def attempt(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            method(self, *args, **kwargs)
        except Exception as error:
            if not self._has_failed:
                self._has_failed = True
                _warn(self, error, stacklevel=3)

    return attempt


def _warn(logger: Any, error: Exception, stacklevel: int) -> None:
    warnings.warn(
        f"{logger!r} failed: {type(error).__name__}: {error}. Training goes on; it is tried again at each "
        "call, and warns no more.",
        LoggerWarning,
        stacklevel=stacklevel,
    )


class JsonLines:
    r"""Appends a line of JSON for each `log`: `{"step": 100, "loss": 0.1}`. Arrays become lists, and
    what is not finite becomes null.

    A figure is written beside the file, as `<name>-<step>.png`. Every line is with the system when `log`
    returns: a killed process loses none.

    Args:
      path: of the file; its folder is made. What it holds already stays.

    Raises:
      OSError: the folder cannot be made.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "metrics.jsonl"
    >>> logger = JsonLines(path)
    >>> logger.log(100, {"loss": np.float32(0.5), "recall": np.array([1.0, 0.25])})
    >>> path.read_text()
    '{"step": 100, "loss": 0.5, "recall": [1.0, 0.25]}\n'
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._has_failed = False

    @_goes_on
    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Appends one line."""
        append_line(self.path, step, values)

    @_goes_on
    def figure(self, step: int, name: str, figure: Any) -> None:
        """Writes the figure as `<name>-<step>.png`."""
        figure.savefig(self.path.parent / f"{name}-{int(step)}.png", dpi=120, bbox_inches="tight")

    @_goes_on
    def cut_after(self, step: int) -> None:
        """Takes back the lines of later steps, and half a line that a killed process left.

        The file is replaced as a whole. Figures stay until their step comes again. A line without a step
        stays too: it is none of ours.
        """
        path = Path(os.path.realpath(self.path))
        if not path.exists():
            return
        unfinished = path.with_name(f"{path.name}.unfinished")
        with path.open("rb") as lines, unfinished.open("wb") as kept:
            kept.writelines(line for line in lines if line.endswith(b"\n") and not _is_after(line, step))
            kept.flush()
            os.fsync(kept.fileno())
        shutil.copymode(path, unfinished)
        unfinished.replace(path)

    def close(self) -> None:
        """Does nothing: every line is written already."""

    def __repr__(self) -> str:
        return f"JsonLines({str(self.path)!r})"


def append_line(path: Path, step: int, values: Mapping[str, Any]) -> None:
    """Appends `{"step": step, **values}` to a file as one line, whole or not at all.

    Raises:
      OSError: it cannot be written.
      TypeError: a value is none that JSON has.
    """
    line = strict_json.dumps({"step": int(step), **values}) + "\n"
    with path.open("ab", buffering=0) as file:
        size_bytes = file.tell()
        try:
            written = file.write(line.encode())
            if written < len(line.encode()):  # a disk fills in the middle of a line
                raise OSError(f"{path} took {written} bytes of a line of {len(line.encode())}")
        except OSError:
            file.truncate(size_bytes)
            raise


def _is_after(line: bytes, step: int) -> bool:
    try:
        return json.loads(line)["step"] > int(step)
    except (ValueError, KeyError, TypeError):
        return False


class TensorBoard:
    """Writes for TensorBoard: `tensorboard --logdir <directory>` shows it. Needs `fourbeat[tensorboard]`.

    A vector becomes a scalar for each entry, `recall/0`, `recall/1`, ..., and a dict one for each value;
    arrays of more dimensions are left out: show them as a figure. Each call is flushed, so that a killed
    process loses nothing.

    Args:
      directory: of the event files; made where it is not there.

    Raises:
      ImportError: tensorboardX is not installed.
    """

    def __init__(self, directory: str | os.PathLike[str]):
        try:
            from tensorboardX.event_file_writer import EventsWriter
        except ImportError as error:
            raise ImportError(
                "TensorBoard needs tensorboardX: pip install 'fourbeat[tensorboard]'", name=error.name
            ) from None
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        # Not its SummaryWriter: that writes in a thread, which `flush` does not wait for; once the thread
        # has met a full disk, the tenth call waits for it for ever.
        self._events = EventsWriter(str(self.directory / "events"), f".{time.time_ns()}")
        self._has_failed = False

    @_goes_on
    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Adds scalars of a step."""
        from tensorboardX import summary

        for name, value in _scalars(values):
            self._add(step, summary.scalar(name, value))
        self._events.flush()

    @_goes_on
    def figure(self, step: int, name: str, figure: Any) -> None:
        """Adds a figure as an image."""
        from tensorboardX import summary

        self._add(step, summary.image(name, _pixels(figure), dataformats="HWC"))
        self._events.flush()

    @_goes_on
    def cut_after(self, step: int) -> None:
        """Marks what lies here of later steps as superseded: TensorBoard shows it no more.

        Nothing is rewritten: an event file only ever grows, and other readers still find its bytes.
        """
        from tensorboardX.proto import event_pb2

        messages: Any = event_pb2
        start = messages.SessionLog(status=messages.SessionLog.START)
        self._write(step=int(step) + 1, session_log=start)
        self._events.flush()

    @_goes_on
    def close(self) -> None:
        """Closes the event file."""
        self._events.close()

    def _add(self, step: int, content: Any) -> None:
        self._write(step=int(step), summary=content)

    def _write(self, **fields: Any) -> None:
        from tensorboardX.proto import event_pb2

        messages: Any = event_pb2  # made at run time: no type checker knows them
        self._events.write_event(messages.Event(wall_time=time.time(), **fields))

    def __repr__(self) -> str:
        return f"TensorBoard({str(self.directory)!r})"


def _scalars(values: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, float]]:
    """The names and values of what TensorBoard draws as curves."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _scalars(value, f"{within}{name}/")
        elif np.ndim(value) == 1:
            yield from ((f"{within}{name}/{place}", float(entry)) for place, entry in enumerate(value))
        elif np.ndim(value) == 0:
            yield f"{within}{name}", float(value)


def _pixels(figure: Any) -> np.ndarray:
    """A matplotlib figure as uint8 of shape (height, width, 4)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # no pyplot, no window

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())
