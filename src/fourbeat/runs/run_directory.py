"""A run's own directory: its config, its history, its checkpoints, its plots."""

import contextlib
import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np

from fourbeat.distributed import check_joined, speaks
from fourbeat.distributed.failures import is_to_be_printed
from fourbeat.distributed.first import first_does
from fourbeat.loggers import Several
from fourbeat.looping import Loop, Tick, at, stop_signal
from fourbeat.looping.durations import Joinable
from fourbeat.runs import lost_output, printing, resuming
from fourbeat.runs.copies import shown
from fourbeat.runs.description import description, flags_of
from fourbeat.runs.errors import Diverged, Interrupted
from fourbeat.runs.homes import Directory, InStore, home_of
from fourbeat.runs.named_loggers import NamedLoggers
from fourbeat.runs.places import default_path, find
from fourbeat.runs.records import read_result, write_json
from fourbeat.runs.run_log import RunLog
from fourbeat.runs.run_on_disk import Run
from fourbeat.runs.saves import Saves
from fourbeat.runs.summary import Summary
from fourbeat.runs.together import AskedToEnd, asks_to_end, check_alike
from fourbeat.stores.store import StoreError
from fourbeat.types import BatchSource, Config, Figure, Object, Scalar, State, Tree


class RunDirectory:
    """One run: `config.json`, `metrics.jsonl`, `checkpoints/` and the plots. Made by `open`.

    Three lines let your own loop go on after it was stopped or killed: `restore` before the loop,
    `start=state.step` where it begins, `save` at the end of its body. A run is a logger too, like the loggers
    of `fourbeat.loggers`.

    Use it in a `with` statement. When its body ends, the last step is saved. If the run was stopped
    before its end, a line tells how to go on; after a signal, `Interrupted` is raised. If output loses its
    reader inside the body (`| head`, a closed terminal), the run is asked to stop, and nothing is raised.

    Of several processes that train together, process 0 alone makes the directory, holds its lock, writes,
    logs and prints. The others run the same code, know `path` and `history()`, and write nothing; what they
    print to standard output inside of the `with` statement is dropped.

    A run may lie in an object store, at an address such as "s3://bucket/run". Then `path` is a copy on this
    machine, in `TMPDIR`, which is written in its place. What was changed in it is brought to the store when
    the run and its loop begin, before each checkpoint, once a minute, and at the end; checkpoints go there
    at once.

    Attributes:
      path: the run's directory.
      is_new: whether the directory is new; False if a run goes on.
      is_finished: whether `restore` found that the run is finished already.
      stop: a stop signal: Ctrl-C, SIGTERM, a closed terminal, lost output. In a thread, such as that of a
        worker of Ray, Python catches no signals; then it is lost output and `stop.request()` alone.

    >>> import dataclasses, tempfile
    >>> from pathlib import Path
    >>> import jax.numpy as jnp, optax, fourbeat as fb
    >>> @dataclasses.dataclass(frozen=True)
    ... class Config:
    ...     out: Path
    ...     steps: int = 4
    ...     resume: str = "latest"
    >>> beats = fb.four_beats(lambda model, batch: (model["w"] - batch["x"]) ** 2, optax.sgd(0.1))
    >>> step, batches = fb.compile(beats.train_step), fb.data.Arrays(x=jnp.arange(6.0)).batches(2)
    >>> def train(config):
    ...     state = beats.init({"w": jnp.zeros(())})
    ...     with RunDirectory.open("a-line", config) as run:
    ...         state = run.restore(state)
    ...         for tick in run.loop(batches, start=state.step):
    ...             state, logs = step(state, tick.batch)
    ...             run.save(tick, state)
    ...     return state
    >>> folder = Path(tempfile.mkdtemp())
    >>> int(train(Config(folder)).step)
    4
    >>> int(train(Config(folder, steps=6)).step)
    changed on resume: steps 4 -> 6
    steps: the result is no longer that of an unbroken run
    going on from step 4
    6
    """

    def __init__(
        self,
        home: Directory | InStore,
        *,
        is_new: bool,
        config: Config,
        command: str,
        exact: frozenset[str],
        mode: Literal["min", "max"] | None,
    ):
        path = self.path = home.path
        self.is_new = is_new
        self.is_finished = False
        self.stop = stop_signal(install=threading.current_thread() is threading.main_thread())
        self._end = stop_signal(install=False)  # requested when a saved tree says `should_stop`
        self._config, self._command = config, command
        self._exact = exact | {"log"}  # a logger changes no result
        self._home = home
        self._entered = contextlib.ExitStack()
        self._saves = Saves(path, mode)
        self._summary = Summary(path)
        self._log = RunLog(path, Several(), None)
        self._loop: Loop | None = None
        self._waited_s = 0.0
        self._marks: Sequence[Joinable] = ()
        self._save_mark: Joinable | None = None
        self._asked_to_end = AskedToEnd()
        self._result: dict | None = None  # of a process that does not write
        self._unfinished = 0  # the marks that a stop left unfinished: one bit each, in their order

    @classmethod
    def open(
        cls,
        recipe: str,
        config: Config,
        *,
        exact: frozenset[str] = frozenset(),
        command: str | None = None,
        score: str | None = None,
        mode: Literal["min", "max"] = "max",
    ) -> Self:
        """The directory of a new run, or of a run that goes on if `config.resume` says so.

        Args:
          recipe: the recipe's name.
          config: a dataclass. These fields have a meaning if it has them: `out` is the directory, or
            its address (None: `runs/<recipe>/<time>`); `resume` is None, "latest", "best" or a run's path or
            address; `steps` ends the run and `max_seconds` ends the call; `log` names loggers that get the
            same values as the run, each "tensorboard", "wandb", "mlflow", "trackio", or `module:name` of a
            callable that takes the run's directory. Every field is written to `config.json`, except those
            that belong to one call.
          exact: fields that may change on resume without changing the result at the same step.
          command: the command that trains such a run. When it stops, the printed line adds `--resume` to it.
          score: the logged value that says how good a step is, such as "eval_accuracy". The run keeps the
            best checkpoint as well as the last one.
          mode: "max" where a higher score is better, "min" where a lower one is.

        Raises:
          ValueError: the directory cannot be written, holds a run that is not to be resumed, is
            written by another process, has a link in the place of a file of its own, or there is no
            such run; or there is no such logger; or processes that train together have other flags.
          StoreError: the object store cannot be read or written.
          ImportError: the package of a logger, or of the object store, is not installed.
          fourbeat.distributed.JoinError: a launcher has started several processes, and this one trains alone.

        Warns:
          LoggerWarning: a logger cannot begin; the run goes on without it.
        """
        check_joined()
        check_alike(config)
        loggers = NamedLoggers(getattr(config, "log", ()))

        def placed() -> tuple[str, bool]:
            found = find(recipe, config)
            return shown(found or getattr(config, "out", None) or default_path(recipe)), found is None

        name, is_new = first_does(placed, topic="run")
        run = cls(
            home_of(name),
            is_new=is_new,
            config=config,
            command=command or f"fourbeat train {recipe}",
            exact=exact,
            mode=None if score is None else mode,
        )
        kept = None if score is None else {"name": score, "mode": mode}
        first_does(lambda: run._begin(recipe, kept), topic="run")
        if not speaks():
            run._home.follow()
        made = loggers.make(run.path, flags_of(config)) if speaks() else Several()
        run._log = RunLog(run.path, made, score)
        return run

    def _begin(self, recipe: str, score: dict[str, str] | None) -> None:
        """Makes the directory, takes its lock, and writes down what a new run is."""
        try:
            self._home.take(is_new=self.is_new)
            if self.is_new:
                write_json(self.path / "config.json", description(recipe, self._config, score))
                self._summary.begin(0, is_new=True)
                self._home.keep()
        except StoreError:
            raise
        except OSError as error:
            raise ValueError(
                f"cannot write the run directory {self.path}: {error.strerror}. Choose another --out."
            ) from None

    def restore(self, state: State, *more: Tree) -> Tree:
        """The trees of the newest checkpoint, from which the run goes on. A new run gets its arguments back.

        Nothing in the run changes before the checkpoint is read. Then the lines that were logged after the
        checkpoint are removed. Flags that have changed are recorded in `config.json`, with their earlier
        values and when they changed. If the run is finished already, `is_finished` becomes True, nothing
        changes at all, and `loop` gives no tick.

        Args:
          state: the `TrainState` that a new run begins with.
          more: other pytrees that belong to the run, such as an `EarlyStopping`.

        Returns:
          The state; with `more` a tuple of all of them.

        Raises:
          ValueError: the checkpoint does not fit these flags, lies beyond the flag `steps`, or comes from an
            earlier fourbeat.
          CheckpointError: there are checkpoints, but all of them are damaged.
        """
        changes: resuming.Changes = {}
        if not self.is_new:
            changes = first_does(lambda: resuming.changed_flags(self.path, self._config), topic="run")
        saved = self._saves.restored((state, *more), changes)
        trees = (saved["state"], *saved["more"])
        step, steps = int(trees[0].step), getattr(self._config, "steps", None)
        if steps is not None and step > steps:
            raise ValueError(
                f"--steps {steps}: the run {self.name} is at step {step} already. Give more steps than that, "
                "or begin a new run."
            )
        result = self._result = first_does(lambda: read_result(self.path), topic="run")
        self._end_where_asked(trees)
        if self._saves.checkpoints.latest is None:
            self._saves.hold(step, trees)  # saved if the run is stopped before its first step
        if result is not None and (step == steps or self._end.is_requested):
            self.is_finished = True
            self._end.request()
            printing.say(f"{self.name} is finished, nothing to do", printing.in_words("result", result))
        else:
            history_size_bytes = int(saved["history_size_bytes"])
            self._log.go_on(history_size_bytes)
            if speaks():
                resuming.cut_history(self._log.file, history_size_bytes)
                if not self.is_new:
                    self._log.loggers.cut_after(step)
                resuming.record(self.path, changes, self._exact, step, result)
            self._result = None
            self._unfinished = int(saved["unfinished"])
            if not self.is_new:
                self._summary.begin(step, is_new=False)
            if step > 0:
                printing.say(f"going on from step {step}")
        return trees if more else trees[0]

    def loop(
        self,
        batches: BatchSource,
        *,
        start: Scalar,
        marks: Sequence[Joinable] = (),
        save: Joinable | None = None,
        steps_per_call: int = 1,
    ) -> Loop:
        """`fourbeat.loop` over the run's steps. A run that was stopped goes on exactly.

        It ends with the flag `steps`, the flag `max_seconds`, a request to stop, or when `save` gets a
        tree whose `should_stop` is true, such as an `EarlyStopping`. A run that was stopped during an
        evaluation begins with a tick without a step, at which the unfinished marks fall. A step of
        `fourbeat.compile` handles such a tick; call any other step under `if tick.num_steps:`.

        Args:
          batches: as in `fourbeat.loop`. `save` saves the place of a `Stream` too, and a run that goes on
            restores it here. The place of a plain iterable is not saved: a
            `fourbeat.looping.InexactResumeWarning` says so when the run begins.
          start: `state.step`.
          marks: the marks that the body asks for. Keep their order when the run goes on.
          save: when to save. The last step is always saved; by default it is the only one.
          steps_per_call: as in `fourbeat.loop`.
        """
        self._marks, self._save_mark = marks, save
        self._saves.read_from(batches)
        due = [mark for place, mark in enumerate(marks) if self._unfinished >> place & 1]
        self._loop = Loop(
            batches,
            self._until,
            start,
            marks=[*marks, *([] if save is None else [save])],
            steps_per_call=steps_per_call,
            unfinished=due,
        )
        self._loop.warn_if_inexact(stacklevel=2)
        first_does(self._home.keep, topic="run")  # with what was written since the run began
        loop = self._loop
        self._summary.times.begin_loop(lambda: loop.data_wait_s)
        return loop

    def save(self, tick: Tick, state: State, *more: Tree) -> None:
        """Saves a checkpoint if one is due. Call it once a tick, at the end of the loop's body.

        A checkpoint is due when the mark `save` falls, and at the last step, however the loop ends. Its score
        is the logged value that `open` names as `score`, if the tick has one.

        Args:
          tick: the present tick.
          state: the state after the tick.
          more: the other trees, in the order of `restore`.
        """
        self._summary.times.end_tick()
        self._saves.hold(tick.step, (state, *more), self._log.score_of(tick.step))
        self._end_where_asked(more)
        is_due = self._save_mark is not None and self._save_mark in tick
        if is_due or tick.num_steps == 0 or tick.is_last or self._is_ending:
            self._save_held()
        self._summary.end_tick(tick.step)

    def best(self, state: State) -> State:
        """The state of the checkpoint with the best score, for the scores of a run at its end.

        Args:
          state: the present one; it is given back where no checkpoint has a score.
        """
        return self._saves.best((state,))[0]

    def log(self, step: int, values: dict[str, Any]) -> None:
        """Appends one line to `metrics.jsonl`: `{"step": 100, "train_loss": 0.1, ...}`.

        The loggers that the flag `log` names get the same values. If the data are not on the
        device, the loop has to wait for them, and `data_wait_s` in a line gives the seconds of waiting since
        the line before.

        Args:
          step: the step that the values belong to.
          values: values by name. A dict of values is a group: its values become `<group>_<name>`. Arrays
            become lists.
        """
        before, self._waited_s = self._waited_s, 0.0 if self._loop is None else self._loop.data_wait_s
        waited_s = round(self._waited_s - before, 6)
        line = self._log.log(step, values | ({"data_wait_s": waited_s} if self._waited_s > before else {}))
        self._summary.see(line)

    def figure(self, step: int, name: str, figure: Figure) -> None:
        """Writes a matplotlib figure as `<name>.png`, in place of an earlier one."""
        self._log.figure(step, name, figure)

    def cut_after(self, step: int) -> None:
        """Takes back the lines of later steps. `restore` does this, and more exactly."""
        self._log.cut_after(step)

    def history(self) -> list[dict]:
        """The lines of `metrics.jsonl`; none before the first `log`. Damaged ones are named and left out."""
        lines, damaged = self._log.history()
        for text in damaged:
            print(f"left out of the history of {self.name}: {text}", file=sys.stderr)
        return lines

    @property
    def name(self) -> str:
        """What `--resume` and commands take for it: the path of its directory, or its address."""
        return shown(self.path)

    @property
    def saved_step(self) -> int | None:
        """The step of its newest checkpoint; None before the first is whole."""
        return self._saves.checkpoints.latest

    def show_model(self, state: State) -> None:
        """Prints a table of the parameters, unless the run is finished."""
        if not self.is_finished:
            printing.show_model(state)

    @property
    def is_complete(self) -> bool:
        """Whether the loop reached the run's own end, but the run has no result yet."""
        return not self.is_finished and self._is_at_end

    @property
    def _is_at_end(self) -> bool:
        if self._loop is None or self._loop.unfinished:
            return False
        last_step = self._loop.last_step
        is_stopped = self._loop.is_stopped_by(self.stop)
        is_at_end = self._loop.step >= last_step if last_step is not None else not is_stopped
        return is_at_end or self._is_ending

    @property
    def _is_ending(self) -> bool:
        """Whether a tree has asked for the end, and all processes know."""
        return self._end.is_requested if self._loop is None else self._loop.is_stopped_by(self._end)

    def finish(self, result: dict) -> None:
        """Marks the run as finished, with its result.

        Raises:
          Diverged: a number of the result is not finite; the run is then not marked.
        """
        broken = [name for name, value in result.items() if not np.all(np.isfinite(value))]
        if broken:
            values = ", ".join(f"{name} {result[name]}" for name in broken)
            raise Diverged(
                f"the run {self.name} ended with {values}: it is not finished. Lower --learning-rate, or "
                "look for the first bad step with a guard."
            )
        self._result = result
        if speaks():
            write_json(self.path / "result.json", result)
        self._summary.has_result = True

    @property
    def result(self) -> dict | None:
        """What `finish` was given; None where the run has not finished."""
        return read_result(self.path) if speaks() else self._result

    def seconds(self) -> dict[str, float]:
        """The wall time so far by kind, over all attempts, as `summary.json` has it; `all` is the sum."""
        return self._summary.times.seconds()

    def close(self) -> None:
        """Waits for the last save, closes the loggers, and lets go of the directory."""
        self._ending(None, self._saves.close)

    def _repr_html_(self) -> str:
        return Run.read(self.path)._repr_html_()

    def __treescope_repr__(self, path: str | None, renderer: Object) -> Any:
        return Run.read(self.path).__treescope_repr__(path, renderer)

    def __enter__(self) -> Self:
        lost = lost_output.noticed(lambda: self.stop.request(signal.SIGPIPE))
        self._entered.enter_context(lost)
        if not speaks():
            nowhere = self._entered.enter_context(open(os.devnull, "w"))
            self._entered.enter_context(contextlib.redirect_stdout(nowhere))
        self._entered.enter_context(self._summary.times)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        def last_saves() -> None:
            failed = error
            try:
                if error is None:
                    self._save_held()
            except BaseException as raised:
                failed = raised
                raise
            finally:  # before another process may write: a save may be on its way
                self._saves.__exit__(kind, failed, traceback)

        if error is not None:
            is_to_be_printed(error)  # the other processes hear of it before anything here waits for them
        with self._entered:
            self._ending(error, last_saves)
            if error is None and self._is_stopped:
                self._show_stopped()

    def _ending(self, error: BaseException | None, last_saves: Callable[[], None]) -> None:
        """Saves what is to be saved, tells how the run ended, and lets go of the directory."""
        try:
            with self._summary.times.saving():
                last_saves()
        except BaseException as failed:
            error = failed if error is None else error
            raise
        finally:
            step = None if self._loop is None else self._loop.step
            self._summary.end(step, error, is_whole=not self._is_stopped, signal=self.stop.signal)
            self._log.loggers.close()
            self._home.leave(error)

    @property
    def _is_stopped(self) -> bool:
        """Whether the loop ended before the run's own end."""
        return self._loop is not None and not (self.is_finished or self._is_at_end)

    @property
    def _until(self) -> Joinable:
        steps, max_seconds = (getattr(self._config, name, None) for name in ("steps", "max_seconds"))
        until: Joinable = self.stop | self._end
        until = until if steps is None else at(steps=steps) | until
        return until if max_seconds is None else until | at(seconds=max_seconds)

    def _end_where_asked(self, trees: Iterable[Any]) -> None:
        if self._asked_to_end.everywhere(trees):
            if self._loop is None:
                self._end.request()
            else:
                self._loop.stop_by(self._end)
        elif asks_to_end(trees):  # on this process alone: the loop agrees on it
            self._end.request()

    def _save_held(self) -> None:
        """Saves the trees that `save` got last, if that is not done yet."""
        if self._loop is not None:
            unfinished = self._loop.unfinished
            bits = sum(1 << place for place, mark in enumerate(self._marks) if mark in unfinished)
            with self._summary.times.saving():
                size_bytes = first_does(self._kept_history_size_bytes, topic="run")
                self._saves.save(self._loop.step, size_bytes, bits)
            self._summary.reach(self._loop.step, self._saves.checkpoints.steps)

    def _kept_history_size_bytes(self) -> int:
        size_bytes = resuming.history_size_bytes(self._log.file)
        self._home.keep()  # before the checkpoint that counts on it
        return size_bytes

    def _show_stopped(self) -> None:
        assert self._loop is not None
        command = f"{self._command} --resume {shlex.quote(self.name)}"
        saved, step = self._saves.checkpoints.latest, self._loop.step
        is_saved = "saved" if saved == step else f"and the newest checkpoint is of step {saved}"
        told = f"stopped at step {step}, {is_saved}; to go on:\n{command}"
        if self._loop.is_stopped_by(self.stop):
            raise Interrupted(self.stop.signal, told)
        printing.say(told)
