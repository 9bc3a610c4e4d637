"""Checkpoints: any pytree on disk, whole or not at all, and back with the same bits."""

import operator
import os
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, TypeVar, overload

from fourbeat.beats.saved_state import as_states, laid_out
from fourbeat.checkpoints import messages, retention, retention_table, shared_storage, stored_arrays
from fourbeat.checkpoints.background import Background
from fourbeat.checkpoints.disk import Disk
from fourbeat.checkpoints.errors import CheckpointError, CheckpointWarning, NotTogetherError
from fourbeat.checkpoints.folders import Entry
from fourbeat.checkpoints.leaves import Taken, snapshot
from fourbeat.checkpoints.mismatch import Mismatch
from fourbeat.checkpoints.object_store import ObjectStore
from fourbeat.checkpoints.restoring import RESTORING, restore_from
from fourbeat.checkpoints.retention import Saved
from fourbeat.checkpoints.together import first_does
from fourbeat.checkpoints.turns import Turn
from fourbeat.distributed import speaks
from fourbeat.models.splitting import held_in
from fourbeat.stores.addresses import address_copied_at, address_of
from fourbeat.types import Object, Tree

_Tree = TypeVar("_Tree")
_Step = int | str  # "latest", "best", "best NAME"


class Checkpoints:
    """Saves pytrees to a directory and restores them bit by bit. A context manager.

    A checkpoint is there once it is complete, every byte is on the disk, and it was read back with the
    values that were to be saved (half of a save's time, in the thread that writes); only then are older
    ones removed. A program that ends writes its last save first. Orbax stores the arrays; beside them lies a
    digest, checked when restoring, because a flipped bit would load in silence otherwise. Nothing in a
    checkpoint is run or unpickled.

    One program writes a directory at a time, and others may read it. Where it runs as several processes, all
    of them call `save` and `restore` at the same steps: each writes and reads the parts on its own devices,
    process 0 makes a checkpoint of them when all are written, and what fails on one process fails on all. Any
    number of processes may restore it. Leaves that do not lie over several processes must be equal on all.

    A process may have any number of
    `Checkpoints`, used from any thread: their saves and restores take turns. A process forked after the
    first save can do neither.

    Args:
      directory: made by the first save. Or an address such as "s3://bucket/run", for `fsspec`: there a
        checkpoint is whole when its last object is there, and passes through a temporary folder of this
        machine. A folder in `run.path` of a run at an address is that folder at the address.
      keep_last: so many of the last saves stay, at least 1; None keeps all.
      keep_every: the first save at or after each multiple of so many steps stays too; None for none.
      keep_seconds: the first save stays too, and then each that comes so many seconds of the wall clock
        after the one before that stays for this reason, the time between two processes included; None for
        none.
      best: by the name of a score, "min" or "max" and how many of the best stay too, however old:
        `best={"accuracy": ("max", 3), "loss": ("min", 1)}`. A save then gives a number for each name:
        `score={"accuracy": 0.98, "loss": 0.06}`.
      keep_best: the same for one score without a name: so many of the best stay; None for none.
      mode: "min" where a lower score is better, "max" where a higher one is, as in `EarlyStopping`.
        Needed with `keep_best`, and to restore the best.
      asynchronous: write in a thread, while training goes on. `save` then waits for the save before,
        not for its own.

    Raises:
      ValueError: an argument is out of range, or nothing can be written at `directory`.
      ImportError: the package for such an address is not installed: `pip install 'fourbeat[storage]'`.

    >>> import tempfile, jax.numpy as jnp
    >>> tree = {"w": jnp.arange(3.0), "epoch": 2}
    >>> with Checkpoints(tempfile.mkdtemp(), keep_last=2, keep_best=1, mode="max") as checkpoints:
    ...     for step, accuracy in [(100, 0.5), (200, 0.9), (300, 0.7), (400, float("nan"))]:
    ...         checkpoints.save(step, tree, score=accuracy)
    >>> checkpoints.steps, checkpoints.latest, checkpoints.best
    ((200, 300, 400), 400, 200)
    >>> print(checkpoints)  # doctest: +ELLIPSIS
    Checkpoints in ...: keep_last=2, best score max 1
    step  saved             score  kept as
     200  ...      0.9  best score
     300  ...      0.7  one of the last
     400  ...        -  last
    >>> checkpoints.restore(tree)
    {'epoch': 2, 'w': Array([0., 1., 2.], dtype=float32)}
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        keep_last: int | None = 1,
        keep_every: int | None = None,
        keep_seconds: float | None = None,
        best: Mapping[str, tuple[Literal["min", "max"], int]] | None = None,
        keep_best: int | None = None,
        mode: Literal["min", "max"] | None = None,
        asynchronous: bool = True,
    ):
        self._rules = retention.checked_rules(keep_last, keep_every, keep_seconds, best, keep_best, mode)
        address = address_of(directory) or address_copied_at(directory)
        self._place = Disk(Path(directory).absolute()) if address is None else ObjectStore(address)
        self.directory = self._place.name
        self._asynchronous = asynchronous
        self._background = Background()
        self._known: dict[Path, Saved] = {}
        self._is_closed = False

    def save(self, step: Object, tree: Tree, score: Object = None) -> None:
        """Saves the values that `tree` has now; a step that donates it may follow at once.

        The arrays are copied on their devices, and written from there. Where a former save is still
        being written, this waits for it first. A step that was saved before is replaced.

        Args:
          step: the step that the values are of, from 0: a Python int, or an array that is waited for.
          tree: any pytree of jax and NumPy arrays, typed keys, and Python numbers and strings.
          score: a number of this step, or with `best=` the numbers that it names, of which None says that
            this step has none. What else a dict holds is left out then. NaN counts as none.

        Raises:
          CheckpointError: this save failed (asynchronous=False), or the one before, on this process or
            another, or this is a fork of a process that has saved; then nothing was saved by this call.
          NotTogetherError: the same, where processes do not save the same tree, at the same step, into a
            directory that all of them see.
          TypeError: a leaf cannot be saved, or the score is no number, or lacks a name that `best` has.
          ValueError: a leaf was donated, the step is negative, or this is closed.
        """
        if self._is_closed:
            raise ValueError(f"cannot save step {step}: these Checkpoints of {self.directory} are closed.")
        step, scores, saved_at_s = _as_step(step), retention.scores_of(score, self._rules), time.time()
        stored_arrays.claim_process()
        self.wait()
        taken = snapshot(laid_out(tree))
        held = held_in(tree)
        turn = Turn()
        try:
            self._background.start(lambda: self._write(turn, step, scores, saved_at_s, taken, held))
        except BaseException:
            turn.leave()
            raise
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
          step: "latest" is the last save, "best" the one of the best score, a number that step. Where `best=`
            names several scores, "best accuracy" says which.
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
          StoreError: the object store cannot be read: an earlier checkpoint is not taken for that.
        """
        stored_arrays.claim_process()
        self.wait()
        damaged, saved_like = [], laid_out(like)
        for entry in self._agreed_candidates(step):
            try:
                with self._place.at_hand(entry) as here:
                    restored = as_states(restore_from(self.directory, here, saved_like, partial=partial))
            except CheckpointError as error:
                if self._is_gone(entry):  # the process that saves has replaced it meanwhile
                    return self.restore(like, step, partial=partial)
                damaged.append((entry, error))
                continue
            except ValueError as error:
                if damaged:
                    error.add_note(messages.damaged(self.directory, damaged))
                raise
            if damaged and speaks():
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
        found = first_does(RESTORING, lambda: len(self._place.entries_and_links()))
        return self.restore(tree) if found else tree

    @property
    def steps(self) -> tuple[int, ...]:
        """The steps on disk, ascending. A save that is still being written is not among them."""
        return tuple(sorted({entry.step for entry in self._place.entries()}))

    @property
    def latest(self) -> int | None:
        """The step of the last save on disk, or None."""
        found = self._place.entries()
        return found[-1].step if found else None

    @property
    def best(self) -> int | None:
        """The step of the best score on disk, or None where no checkpoint has a score.

        Raises:
          ValueError: there is no `mode` to say which is best, or several scores are ranked.
        """
        return self.best_steps[self._ranked_name("best")]

    @property
    def best_steps(self) -> dict[str, int | None]:
        """By the name of each score that is ranked, the step of the best on disk, or None."""
        ranked = {name: self._ranked(name)[0] for name in self._rules.best}
        return {name: entries[0].step if entries else None for name, entries in ranked.items()}

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
            if str(error) not in str(failure):
                error.add_note(str(failure))

    def __repr__(self) -> str:
        return f"Checkpoints({str(self.directory)!r}, steps={self.steps})"

    def __str__(self) -> str:
        """What is on disk, and why each one stays: the text of a table.

        Everything in it is read from the disk but the arguments of this object.
        """
        found = [self._saved(entry) for entry in self._place.entries_and_links()]
        return retention_table.table(self.directory, found, self._rules)

    def _write(
        self,
        turn: Turn,
        step: int,
        scores: dict[str, float],
        saved_at_s: float,
        taken: list[Taken],
        held: dict[str, str],
    ) -> None:
        """Writes one checkpoint, then removes those that need not stay."""
        with turn:  # in a process: what one is writing must not look left behind to another
            try:
                self._place.write(step, scores, taken, held, saved_at_s)
            except Exception as error:
                kind = NotTogetherError if isinstance(error, NotTogetherError) else CheckpointError
                raise kind(
                    messages.not_saved(self.directory, step, error, self._latest_or_unknown())
                ) from error
            try:
                first_does(shared_storage.TOPIC, self._remove_outdated)
            except Exception as error:
                raise CheckpointError(messages.not_removed(self.directory, step, error)) from error

    def _latest_or_unknown(self) -> int | str | None:
        try:
            return self.latest
        except Exception:  # a store that does not answer is why the save failed
            return "unknown"

    def _remove_outdated(self) -> None:
        found = self._place.entries()
        known = map(self._saved if self._rules.needs_digests else Saved, found)
        for entry, why in retention.reasons(list(known), self._rules).items():
            if not why:
                self._place.remove(entry)
                self._known.pop(entry.folder, None)

    def _saved(self, entry: Entry) -> Saved:
        """What the digest of a checkpoint says of it, read once."""
        if entry.folder not in self._known:
            try:
                digest = self._place.read_digest(entry)
            except CheckpointError as error:  # not for good: a folder may come back
                return Saved(entry, damage=str(error))
            self._known[entry.folder] = Saved(entry, digest.scores, digest.saved_at_s)
        return self._known[entry.folder]

    def _agreed_candidates(self, step: Object) -> list[Entry]:
        """The checkpoints to try, in the order of process 0."""
        found = first_does(
            RESTORING, lambda: [(save, step, folder.name) for save, step, folder in self._candidates(step)]
        )
        return [self._place.entry(save, step, name) for save, step, name in found]

    def _is_gone(self, entry: Entry) -> bool:
        return first_does(RESTORING, lambda: self._place.is_gone(entry))

    def _candidates(self, step: Object) -> list[Entry]:
        """The checkpoints to try, in this order; at least one."""
        found = self._place.entries_and_links()
        if not found:
            raise FileNotFoundError(
                f"there is no checkpoint in {self.directory}. "
                "restore_or(tree) gives the tree itself in that case."
            )
        newest_first = found[::-1]
        if step == "latest":
            return newest_first
        if isinstance(step, str) and (step == "best" or step.startswith("best ")):
            name = self._ranked_name(step)
            ranked, unreadable = self._ranked(name)
            if not ranked and not unreadable:
                what = "a score" if name == retention.UNNAMED else f"the score {name!r}"
                raise FileNotFoundError(
                    f"no checkpoint in {self.directory} has {what}. Save with score=, or restore 'latest'."
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

    def _ranked_name(self, step: str) -> str:
        """The name of the score that "best", or "best NAME", means."""
        names = list(self._rules.best)
        if not names:
            raise ValueError(
                "which score is best? Give Checkpoints(..., mode='min') where a lower one is better, "
                "or mode='max'."
            )
        name = step.removeprefix("best").removeprefix(" ")
        if name in names or (not name and len(names) == 1):
            return name or names[0]
        choices = " or ".join(repr(f"best {each}") for each in names)
        if not name:
            raise ValueError(f"which score is the best of? Several are ranked: restore {choices}.")
        raise ValueError(f"the score {name!r} is not ranked here: restore {choices}.")

    def _ranked(self, name: str) -> tuple[list[Entry], list[Entry]]:
        """Those with a score of this name, best first, and those whose digest cannot be read."""
        found = [self._saved(entry) for entry in self._place.entries_and_links()]
        unreadable = [saved.entry for saved in found if saved.damage]
        return retention.best_first(found, name, self._rules.best[name][0]), unreadable


def _as_step(step: Object) -> int:
    try:
        number = operator.index(step)
    except TypeError:
        raise ValueError(f"the step is {step!r}. Give a whole number from 0.") from None
    if number < 0:
        raise ValueError(f"the step is {number}. Give a whole number from 0.")
    return number
