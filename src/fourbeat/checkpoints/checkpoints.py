"""Checkpoints: any pytree on disk, whole or not at all, and back with the same bits."""

import operator
import os
import threading
import warnings
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, TypeVar, overload

import jax
import numpy as np

from fourbeat.beats.saved_state import as_states, laid_out
from fourbeat.checkpoints import folders, messages, retention, storage, stored_arrays
from fourbeat.checkpoints.background import Background
from fourbeat.checkpoints.errors import CheckpointError, CheckpointWarning
from fourbeat.checkpoints.folders import Entry
from fourbeat.checkpoints.leaves import Taken, prepare_snapshot, snapshot
from fourbeat.checkpoints.mismatch import Mismatch
from fourbeat.checkpoints.restoring import restore_from
from fourbeat.models.splitting import held_in
from fourbeat.types import Object, Tree

_Tree = TypeVar("_Tree")
_Step = int | Literal["latest", "best"]
_one_save = threading.Lock()  # in a process: what one is writing must not look left behind to another


class Checkpoints:
    """Saves pytrees to a directory and restores them bit by bit. A context manager.

    A checkpoint is there once it is complete, every byte is on the disk, and it was read back with the
    values that were to be saved (half of a save's time, in the thread that writes); only then are older
    ones removed. A program that ends writes its last save first. Orbax stores the arrays; beside them lies a
    digest, checked when restoring, because a flipped bit would load in silence otherwise. Nothing in a
    checkpoint is run or unpickled.

    One process writes a directory at a time, and others may read it. A process may have any number of
    `Checkpoints`, used from any thread: their saves and restores take turns. A process forked after the
    first save can do neither.

    Args:
      directory: made by the first save.
      keep_last: so many of the last saves stay, at least 1; None keeps all.
      keep_best: so many of those with the best scores stay too, however old; None for none.
      mode: "min" where a lower score is better, "max" where a higher one is, as in `EarlyStopping`.
        Needed with `keep_best`, and to restore the best.
      asynchronous: write in a thread, while training goes on. `save` then waits for the save before,
        not for its own.

    Raises:
      ValueError: an argument is out of range, or nothing can be written at `directory`.

    >>> import tempfile, jax.numpy as jnp
    >>> tree = {"w": jnp.arange(3.0), "epoch": 2}
    >>> with Checkpoints(tempfile.mkdtemp(), keep_last=2, keep_best=1, mode="max") as checkpoints:
    ...     for step, accuracy in [(100, 0.5), (200, 0.9), (300, 0.7), (400, float("nan"))]:
    ...         checkpoints.save(step, tree, score=accuracy)
    >>> checkpoints.steps, checkpoints.latest, checkpoints.best
    ((200, 300, 400), 400, 200)
    >>> checkpoints.restore(tree)
    {'epoch': 2, 'w': Array([0., 1., 2.], dtype=float32)}
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        keep_last: int | None = 1,
        keep_best: int | None = None,
        mode: Literal["min", "max"] | None = None,
        asynchronous: bool = True,
    ):
        _check_count("keep_last", keep_last)
        _check_count("keep_best", keep_best)
        if mode not in (None, "min", "max"):
            raise ValueError(f"Checkpoints: mode is {mode!r}. Give 'min' or 'max'.")
        if keep_best is not None and mode is None:
            raise ValueError(
                f"Checkpoints: keep_best={keep_best} needs mode='min', where a lower score is better, "
                "or mode='max'."
            )
        self.directory = Path(directory).absolute()
        self._keep_last, self._keep_best, self._mode = keep_last, keep_best, mode
        self._asynchronous = asynchronous
        self._background = Background()
        self._scores: dict[Path, float | None] = {}
        self._is_closed = False
        _check_can_hold(self.directory)

    def save(self, step: Object, tree: Tree, score: Object = None) -> None:
        """Saves the values that `tree` has now; a step that donates it may follow at once.

        The arrays are copied on their devices, and written from there. Where a former save is still
        being written, this waits for it first. A step that was saved before is replaced.

        Args:
          step: the step that the values are of, from 0: a Python int, or an array that is waited for.
          tree: any pytree of jax and NumPy arrays, typed keys, and Python numbers and strings.
          score: a number, of this step: `keep_best` compares it. NaN counts as none.

        Raises:
          CheckpointError: this save failed (asynchronous=False), or the one before, or this is a fork of
            a process that has saved; then nothing was saved by this call.
          TypeError: a leaf cannot be saved, or the score is no number.
          ValueError: a leaf was donated, the step is negative, or this is closed.
        """
        if self._is_closed:
            raise ValueError(f"cannot save step {step}: these Checkpoints of {self.directory} are closed.")
        if jax.process_count() > 1:
            raise ValueError("Checkpoints save from a run of one process, and this one has several.")
        step, score = _as_step(step), _as_score(score)
        stored_arrays.claim_process()
        self.wait()
        taken = snapshot(laid_out(tree))
        held = held_in(tree)
        self._background.start(lambda: self._write(step, score, taken, held))
        if not self._asynchronous:
            self.wait()

    @overload
    def restore(self, like: _Tree, step: _Step = "latest", *, partial: Literal[False] = False) -> _Tree: ...

    @overload
    def restore(
        self, like: _Tree, step: _Step = "latest", *, partial: Literal[True]
    ) -> tuple[_Tree, Mismatch]: ...

    def restore(self, like: Tree, step: _Step = "latest", *, partial: bool = False) -> Tree:
        """The saved tree, with the types, dtypes, shardings and typed keys of `like`.

        A damaged checkpoint is passed over for the newest whole one, with a warning that says so,
        unless its step was asked for by number. So is a link in the place of one: it is not followed.

        Args:
          like: the tree to restore into. Of its arrays only shape, dtype and sharding matter: donated
            ones or `jax.ShapeDtypeStruct`s will do. None is no place for an array.
          step: "latest" is the last save, "best" the one of the best score, a number that step.
          partial: take what fits, and leave the rest of `like` as it is: for fine-tuning, or a new head.
            In a training state a variable of the model is found by its path in the model, in `params`
            or `rest`, whatever `wrt` was; averages that were not kept start from the restored
            parameters. An optimizer's numbers are its own: those of a parameter that was not trained
            start anew, a rate in them (`optax.inject_hyperparams`) is the saved one.

        Returns:
          The tree; with `partial` `(tree, mismatch)`, where `print(mismatch)` lists what did not fit.
          Every array is a new buffer, of a single owner.

        Raises:
          ValueError: the trees differ; the text lists every place, with what each of the two has there.
          FileNotFoundError: there is no such checkpoint.
          CheckpointError: it is damaged, or a save in the background failed.
        """
        stored_arrays.claim_process()
        self.wait()
        damaged, saved_like = [], laid_out(like)
        for entry in self._candidates(step):
            try:
                restored = as_states(restore_from(self.directory, entry, saved_like, partial=partial))
            except CheckpointError as error:
                if not os.path.lexists(entry.folder):  # the process that saves has replaced it meanwhile
                    return self.restore(like, step, partial=partial)
                damaged.append((entry, error))
                continue
            except ValueError as error:
                if damaged:
                    error.add_note(messages.damaged(self.directory, damaged))
                raise
            if damaged:
                text = f"{messages.damaged(self.directory, damaged)}\nStep {entry.step} was restored instead."
                warnings.warn(text, CheckpointWarning, stacklevel=2)
            return restored
        raise CheckpointError(
            f"{messages.damaged(self.directory, damaged)}\n{messages.what_is_left(damaged, self.steps)}"
        ) from damaged[0][1]

    def restore_or(self, tree: _Tree) -> _Tree:
        """The last save, with the types of `tree`; `tree` itself where nothing was saved yet.

        Raises:
          ValueError, CheckpointError: as `restore`.
        """
        self.wait()
        return self.restore(tree) if folders.entries_and_links(self.directory) else tree

    @property
    def steps(self) -> tuple[int, ...]:
        """The steps on disk, ascending. A save that is still being written is not among them."""
        return tuple(sorted({entry.step for entry in folders.entries(self.directory)}))

    @property
    def latest(self) -> int | None:
        """The step of the last save on disk, or None."""
        found = folders.entries(self.directory)
        return found[-1].step if found else None

    @property
    def best(self) -> int | None:
        """The step of the best score on disk, or None where no checkpoint has a score.

        Raises:
          ValueError: there is no `mode` to say which is best.
        """
        ranked, _ = self._ranked()
        return ranked[0].step if ranked else None

    def wait(self) -> None:
        """Waits until the last save is on disk.

        Raises:
          CheckpointError: it failed. Raised once.
        """
        self._background.wait()

    def close(self) -> None:
        """Waits for the last save; nothing can be saved afterwards.

        Raises:
          CheckpointError: it failed.
        """
        self._is_closed = True
        self._background.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.close()
        except CheckpointError as failure:
            if error is None:
                raise
            error.add_note(str(failure))

    def __repr__(self) -> str:
        return f"Checkpoints({str(self.directory)!r}, steps={self.steps})"

    def _write(self, step: int, score: float | None, taken: list[Taken], held: dict[str, str]) -> None:
        """Writes one checkpoint, then removes those that need not stay."""
        with _one_save:
            try:
                prepare_snapshot(taken)
                folders.remove_leftovers(self.directory)
                folder = folders.next_folder(self.directory, step)
                storage.write(folder, step, score, taken, held)
            except Exception as error:
                raise CheckpointError(messages.not_saved(self.directory, step, error, self.latest)) from error
            self._scores[folder] = score
            try:
                self._remove_outdated()
            except OSError as error:
                raise CheckpointError(messages.not_removed(self.directory, step, error)) from error

    def _remove_outdated(self) -> None:
        found = folders.entries(self.directory)
        ranked = self._ranked()[0] if self._keep_best is not None else []
        for entry in retention.outdated(found, self._keep_last, ranked, self._keep_best):
            folders.remove(entry)

    def _candidates(self, step: Object) -> list[Entry]:
        """The checkpoints to try, in this order; at least one."""
        found = folders.entries_and_links(self.directory)
        if not found:
            raise FileNotFoundError(
                f"there is no checkpoint in {self.directory}. "
                "restore_or(tree) gives the tree itself in that case."
            )
        newest_first = found[::-1]
        if step == "latest":
            return newest_first
        if step == "best":
            ranked, unreadable = self._ranked()
            if not ranked and not unreadable:
                raise FileNotFoundError(
                    f"no checkpoint in {self.directory} has a score. Save with score=, or restore 'latest'."
                )
            first = [*unreadable, *ranked[:1]]  # an unreadable one could be the best: it is not passed over
            return first + [entry for entry in newest_first if entry not in first]
        wanted = _as_step(step)
        chosen = [entry for entry in newest_first if entry.step == wanted][:1]
        if not chosen:
            raise FileNotFoundError(
                f"there is no checkpoint of step {wanted} in {self.directory}: "
                f"it has {', '.join(map(str, self.steps))}."
            )
        return chosen

    def _ranked(self) -> tuple[list[Entry], list[Entry]]:
        """Those with a score, best first, and those whose digest cannot be read."""
        if self._mode is None:
            raise ValueError(
                "which score is best? Give Checkpoints(..., mode='min') where a lower one is better, "
                "or mode='max'."
            )
        scores, unreadable = {}, []
        for entry in folders.entries_and_links(self.directory):
            try:
                if entry.folder not in self._scores:
                    self._scores[entry.folder] = storage.read_digest(entry.folder).score
                scores[entry] = self._scores[entry.folder]
            except CheckpointError:
                unreadable.append(entry)
        return retention.best_first(scores, self._mode), unreadable


def _check_count(name: str, count: int | None) -> None:
    if count is not None and (not isinstance(count, int) or count < 1):
        raise ValueError(f"Checkpoints: {name} is {count!r}. Give a whole number from 1, or None.")


def _check_can_hold(directory: Path) -> None:
    """Says at once what the first save would meet; a directory that is there may be for reading only."""
    nearest = next(path for path in (directory, *directory.parents) if path.exists())
    if not nearest.is_dir():
        raise ValueError(f"there can be no checkpoints in {directory}: {nearest} is a file.")
    effective = os.access in os.supports_effective_ids
    if nearest != directory and not os.access(nearest, os.W_OK, effective_ids=effective):
        raise ValueError(f"there can be no checkpoints in {directory}: {nearest} cannot be written.")


def _as_step(step: Object) -> int:
    try:
        number = operator.index(step)
    except TypeError:
        raise ValueError(f"the step is {step!r}. Give a whole number from 0.") from None
    if number < 0:
        raise ValueError(f"the step is {number}. Give a whole number from 0.")
    return number


def _as_score(score: Object) -> float | None:
    if score is None:
        return None
    if np.ndim(score) != 0 or isinstance(score, str):
        raise TypeError(f"the score is {score!r}. Give one number.")
    return float(score)
