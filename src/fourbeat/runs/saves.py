"""Saves the checkpoints of one run: what its loop holds now, once, when that is due."""

from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple

from fourbeat.checkpoints import Checkpoints
from fourbeat.data import Stream
from fourbeat.data.streams.place import Place
from fourbeat.data.streams.stream import cursor_of, state_at
from fourbeat.runs import resuming
from fourbeat.types import BatchSource


class _Held(NamedTuple):
    step: int
    trees: tuple[Any, ...]
    score: float | None
    stands: tuple[Stream, Place] | None  # where the stream is, which is written down when it is saved


class Saves:
    """Holds the newest trees of a run until they are saved, with the place of its `Stream`.

    Args:
      path: the run's directory.
      mode: whether the best score is the lowest or the highest; None where no step has a score.
    """

    def __init__(self, path: Path, mode: Literal["min", "max"] | None):
        self._path = path
        self._keep = {} if mode is None else {"keep_best": 1, "mode": mode}
        self._checkpoints: Checkpoints | None = None
        self._held: _Held | None = None
        self._stream: Stream | None = None  # the stream that the loop reads, if it reads one
        self._stream_state = ""  # the state of the stream in the checkpoint

    @property
    def checkpoints(self) -> Checkpoints:
        """The folder of checkpoints, made when it is first asked for."""
        if self._checkpoints is None:
            self._checkpoints = Checkpoints(self._path / "checkpoints", **self._keep)
        return self._checkpoints

    def restored(self, trees: tuple[Any, ...], changes: resuming.Changes) -> dict[str, Any]:
        """The newest checkpoint, in the layout of `resuming.saved_tree`; `trees` if there is none."""
        saved = resuming.restored(self._path, self.checkpoints, resuming.saved_tree(trees), changes)
        self._stream_state = saved["stream"]
        return saved

    def best(self, trees: tuple[Any, ...]) -> tuple[Any, ...]:
        """The trees of the best checkpoint, on disk or being written; `trees` where none has a score."""
        self.checkpoints.wait()
        if not self._keep or self.checkpoints.best is None:
            return trees
        saved, _ = self.checkpoints.restore(resuming.saved_tree(trees), "best", partial=True)
        return (saved["state"], *saved["more"])

    def read_from(self, batches: BatchSource) -> None:
        """Takes the loop's batches: a `Stream` goes on from the checkpoint, and is saved from now on."""
        self._stream = batches if isinstance(batches, Stream) else None
        if self._stream is not None and self._stream_state:
            self._stream.restore(self._stream_state)
            self._stream_state = ""  # a loop after this one goes on where the stream stands

    def hold(self, step: int, trees: tuple[Any, ...], score: float | None = None) -> None:
        """Holds the trees after a step, in place of those that were held before."""
        stands = None if self._stream is None else (self._stream, cursor_of(self._stream).place)
        self._held = _Held(step, trees, score, stands)

    def save(self, step: int, history_size_bytes: int, unfinished: int) -> None:
        """Saves the held trees, unless they are saved already or a later step has used them up.

        Args:
          step: the loop's step.
          history_size_bytes: the size of the history.
          unfinished: the marks that are not finished at the step, one bit each.
        """
        held, self._held = self._held, None
        if held is None or held.step != step:
            return
        stream = "" if held.stands is None else state_at(*held.stands)
        tree = resuming.saved_tree(held.trees, history_size_bytes, unfinished, stream)
        self.checkpoints.save(held.step, tree, score=held.score)

    def close(self) -> None:
        """Waits for the last save."""
        if self._checkpoints is not None:
            self._checkpoints.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._checkpoints is not None:
            self._checkpoints.__exit__(kind, error, traceback)
