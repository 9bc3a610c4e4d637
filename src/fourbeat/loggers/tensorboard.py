"""Event files for TensorBoard."""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fourbeat.distributed import speaks
from fourbeat.loggers.failures import warns_once
from fourbeat.loggers.scalars import scalars
from fourbeat.types import Figure, Object

if TYPE_CHECKING:
    import numpy as np


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
        self._has_failed = False
        if not speaks():
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        # Not its SummaryWriter: that writes in a thread, which `flush` does not wait for; once the thread
        # has met a full disk, the tenth call waits for it for ever.
        self._events = EventsWriter(str(self.directory / "events"), f".{time.time_ns()}")

    @warns_once
    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Adds scalars of a step."""
        from tensorboardX import summary

        for name, value in scalars(values):
            self._add(step, summary.scalar(name, value))
        self._events.flush()

    @warns_once
    def figure(self, step: int, name: str, figure: Figure) -> None:
        """Adds a figure as an image."""
        from tensorboardX import summary

        self._add(step, summary.image(name, _pixels(figure), dataformats="HWC"))
        self._events.flush()

    @warns_once
    def cut_after(self, step: int) -> None:
        """Marks the events of later steps as superseded: TensorBoard no longer shows them.

        Nothing is rewritten: an event file only ever grows, and other readers still find its bytes.
        """
        from tensorboardX.proto import event_pb2

        messages: Any = event_pb2
        start = messages.SessionLog(status=messages.SessionLog.START)
        self._write(step=int(step) + 1, session_log=start)
        self._events.flush()

    @warns_once
    def close(self) -> None:
        """Closes the event file."""
        self._events.close()

    def _add(self, step: int, content: Object) -> None:
        self._write(step=int(step), summary=content)

    def _write(self, **fields: Any) -> None:
        from tensorboardX.proto import event_pb2

        messages: Any = event_pb2  # made at run time: no type checker knows them
        self._events.write_event(messages.Event(wall_time=time.time(), **fields))

    def __repr__(self) -> str:
        return f"TensorBoard({str(self.directory)!r})"


def _pixels(figure: Figure) -> "np.ndarray":
    """A matplotlib figure as uint8 of shape (height, width, 4)."""
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # no pyplot, no window

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())
