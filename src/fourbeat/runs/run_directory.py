"""A run's own directory: its config, its history, its checkpoints, its plots."""

import contextlib
import dataclasses
import datetime
import os
import platform
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, Self, TypeVar

import jax
import numpy as np

from fourbeat.checkpoints import Checkpoints
from fourbeat.loggers import strict_json
from fourbeat.loggers.json_lines import append_line
from fourbeat.looping import at, stop_signal
from fourbeat.runs import lost_output, printing
from fourbeat.runs.errors import Diverged
from fourbeat.runs.flags import OF_THE_CALL
from fourbeat.runs.lock import Lock
from fourbeat.runs.records import newest, read_history, read_json, read_record

_PACKAGES = ("fourbeat", "jax", "jaxlib", "flax", "optax", "numpy")
_WRITTEN = {"lock", "metrics.jsonl", "config.json", "result.json", "checkpoints"}

_Tree = TypeVar("_Tree", bound=dict[str, Any])


class RunDirectory:
    """Holds `config.json`, `metrics.jsonl`, `checkpoints/` and the plots of one run. Made by `open`.

    While it is entered, output that nobody reads any more (`| head`, a closed terminal) asks the run to stop
    instead of raising.

    Attributes:
      path: where it is.
      is_new: whether it was made now; False where a run goes on.
      stop: a stop signal: Ctrl-C, SIGTERM, a closed terminal, lost output.
      has_nothing_to_do: whether `restore` found that the run is finished already.
    """

    def __init__(self, path: Path, *, is_new: bool, config: Any = None):
        self.path = path
        self.is_new = is_new
        self.stop = stop_signal()
        self.has_nothing_to_do = False
        self._config = config
        self._exact: frozenset[str] = frozenset()
        self._lock = Lock(path / "lock")
        self._entered = contextlib.ExitStack()

    @classmethod
    def open(cls, recipe: str, config: Any, *, exact: frozenset[str] = frozenset()) -> Self:
        """The directory of a new run, or, where `config.resume` says so, of one that goes on.

        Args:
          recipe: the recipe's name.
          config: a dataclass; its field `out` is the directory (None: `runs/<recipe>/<time>`), and
            `resume`, where it has one, is None, "latest" or a run's path. `steps` and `max_seconds`,
            where it has them, end the run and the call. Every field that is not of the call alone is
            written to `config.json`.
          exact: fields that may change on resume without another result at the same step.

        Raises:
          ValueError: the directory cannot be written, holds a run that is not to be resumed, is
            written by another process, has a link in the place of a file of its own, or there is no
            such run.
        """
        found = find(recipe, config)
        path = found or config.out or _default_path(recipe)
        run = cls(path, is_new=found is None, config=config)
        run._exact = exact
        try:
            run.path.mkdir(parents=True, exist_ok=True)
            _refuse_links(run.path)
            if run.is_new and _holds_run(run.path):
                raise ValueError(
                    f"{run.path} holds a run already. Choose another --out, or go on with --resume latest."
                )
            run._lock.acquire()
            if run.is_new:
                run._write("config.json", _description(recipe, config))
        except OSError as error:
            raise ValueError(
                f"cannot write the run directory {run.path}: {error.strerror}. Choose another --out."
            ) from None
        return run

    @property
    def until(self) -> Any:
        """What ends the run's loop: the flag `steps`, the flag `max_seconds`, or a request to stop."""
        steps, max_seconds = (getattr(self._config, name, None) for name in ("steps", "max_seconds"))
        until = self.stop if steps is None else at(steps=steps) | self.stop
        return until if max_seconds is None else until | at(seconds=max_seconds)

    def restore(
        self, checkpoints: Checkpoints, tree: _Tree, *, is_over: Callable[[_Tree], Any] = lambda tree: False
    ) -> _Tree:
        """The tree of the newest checkpoint, from which the run goes on; in a new run `tree` itself.

        Only once it is restored does anything of the run change: what was logged after the checkpoint is
        taken back, and flags that differ from those of before are recorded, in `config.json`, beside what
        they were and when they changed. Where the run is finished already, `has_nothing_to_do` becomes True
        and nothing changes at all.

        Args:
          checkpoints: of this run, saved with `tree(...)`.
          tree: what a new run begins with; its `"state"` is a `TrainState`.
          is_over: whether a tree is of a run that ended before its last step, as with early stopping.

        Raises:
          ValueError: the checkpoint is not of these flags, or lies beyond the flag `steps`.
          CheckpointError: there are checkpoints, and all are damaged.
        """
        changes = {} if self.is_new else self._changes()
        restored = self._restored(checkpoints, self.tree(**tree), changes)
        step, steps = int(restored["state"].step), getattr(self._config, "steps", None)
        if steps is not None and step > steps:
            raise ValueError(
                f"--steps {steps}: the run {self.path} is at step {step} already. Give more steps than that, "
                "or begin a new run."
            )
        result = self.result
        if result is not None and (step == steps or is_over(restored)):
            self.has_nothing_to_do = True
            printing.say(f"{self.path} is finished, nothing to do", printing.in_words("test", result))
            return restored
        self.cut_history(restored["history_size_bytes"])
        self._record(changes, step, result)
        if step > 0:
            print(f"going on from step {step}")
        return restored

    def checkpoints(self, **options: Any) -> Checkpoints:
        """The run's checkpoints; options as of `fourbeat.Checkpoints`."""
        return Checkpoints(self.path / "checkpoints", **options)

    def log(self, step: int, **groups: dict) -> None:
        """Appends one line to `metrics.jsonl`: `{"step": 100, "train_loss": 0.1, ...}`.

        Args:
          step: the step that the values belong to.
          groups: dicts of values; a value's name becomes `<group>_<name>`. Arrays become lists.
        """
        line = {
            f"{group}_{name}": value for group, values in groups.items() for name, value in values.items()
        }
        append_line(self._history_file, step, line)

    def history(self) -> list[dict]:
        """The lines of `metrics.jsonl`, none before the first `log`. Damaged ones are left out, and named."""
        lines, damaged = read_history(self.path)
        for text in damaged:
            print(f"left out of the history of {self.path}: {text}", file=sys.stderr)
        return lines

    @property
    def history_size_bytes(self) -> int:
        """How long the history is: what a checkpoint holds of it."""
        return self._history_file.stat().st_size if self._history_file.exists() else 0

    def cut_history(self, size_bytes: int) -> None:
        """Takes back what was logged after the history was `size_bytes` long."""
        if self.history_size_bytes > size_bytes:
            os.truncate(self._history_file, size_bytes)

    def tree(self, **parts: Any) -> dict:
        """What to save of a run: its parts, and how long its history is at this moment."""
        return {**parts, "history_size_bytes": self.history_size_bytes}

    def save_figure(self, name: str, figure: Any) -> None:
        """Writes a matplotlib figure as `<name>.png`."""
        figure.savefig(self.path / f"{name}.png", dpi=120, bbox_inches="tight")

    def finish(self, result: dict) -> None:
        """Marks the run as finished, with its result.

        Raises:
          Diverged: a number of the result is not finite; the run is then not marked.
        """
        broken = [name for name, value in result.items() if not np.all(np.isfinite(value))]
        if broken:
            values = ", ".join(f"{name} {result[name]}" for name in broken)
            raise Diverged(
                f"the run {self.path} ended with {values}: it is not finished. Lower --learning-rate, or "
                "look for the first bad step with a guard."
            )
        self._write("result.json", result)

    def show_stopped(self, loop: Any, command: str) -> None:
        """Says at which step the run was stopped, and how to go on with it.

        Args:
          loop: what `fourbeat.loop` gave, left and its last step saved.
          command: what trains such a run.

        Raises:
          Interrupted: a signal stopped it, or lost output; its text says the same.
        """
        printing.show_stopped(loop, f"{command} --resume {shlex.quote(str(self.path))}")

    def close(self) -> None:
        """Lets go of the directory; the end of the process does that too."""
        self._lock.release()

    def __enter__(self) -> Self:
        lost = lost_output.noticed(lambda: self.stop.request(signal.SIGPIPE))
        self._entered.enter_context(lost)
        return self

    def __exit__(self, *error: object) -> None:
        self._entered.close()
        self.close()

    @property
    def result(self) -> dict | None:
        """What `finish` was given; None where the run has not finished."""
        return read_json(self.path / "result.json")

    @property
    def _history_file(self) -> Path:
        return self.path / "metrics.jsonl"

    def _write(self, name: str, content: dict) -> None:
        """Whole or not at all."""
        unfinished = self.path / f"{name}.unfinished"
        unfinished.write_text(strict_json.dumps(content, indent=2) + "\n")
        unfinished.replace(self.path / name)

    def _changes(self) -> dict[str, tuple[Any, Any]]:
        """The flags that differ from those of the run, as `(before, now)`."""
        record = read_record(self.path)
        saved, flags = ({} if record is None else record.flags), _flags(self._config)
        before = {name: saved.get(name) for name in flags}
        return {name: (before[name], now) for name, now in flags.items() if now != before[name]}

    def _restored(self, checkpoints: Checkpoints, tree: Any, changes: dict[str, tuple[Any, Any]]) -> Any:
        try:
            return checkpoints.restore_or(tree)
        except ValueError as error:
            if not changes:
                raise
            raise ValueError(
                f"cannot go on with {self.path} with other flags ({', '.join(_in_words(changes))}): its "
                f"checkpoint of step {checkpoints.latest} is of another model or optimizer. Leave them out, "
                "or begin a new run."
            ) from error

    def _record(self, changes: dict[str, tuple[Any, Any]], step: int, result: dict | None) -> None:
        """Says and writes down with which flags the run goes on, and that it is not finished any more."""
        for words in _in_words(changes):
            print(f"changed on resume: {words}")
        if inexact := [name for name in changes if name not in self._exact]:
            print(f"{', '.join(inexact)}: the result is no longer that of an unbroken run")
        if not changes and result is None:
            return
        content = read_json(self.path / "config.json") or {}
        flags = {**content.get("flags", {}), **{name: now for name, (_, now) in changes.items()}}
        told = {"when": _now(), "step": step}
        changed = [{**told, "flag": name, "from": was, "to": now} for name, (was, now) in changes.items()]
        ended = [] if result is None else [{**told, "result": result}]
        history = [*content.get("changes", []), *changed, *ended]
        self._write("config.json", {**content, "flags": flags, "changes": history})
        (self.path / "result.json").unlink(missing_ok=True)


def find(recipe: str, config: Any) -> Path | None:
    """The directory of the run to go on with; None where a new one is wanted.

    `--resume latest` looks at `--out` where that is given, else at the run of the recipe that was begun
    last. With no run there it begins one, so that a scheduler may repeat one command.

    Raises:
      ValueError: the path to resume from holds no run of this recipe, or a damaged one.
    """
    wanted = getattr(config, "resume", None)
    if wanted is None:
        return None
    if wanted == "latest" and not config.out:
        return newest([recipe])
    path = config.out if wanted == "latest" else Path(wanted)
    record = read_record(path)
    if record is None and wanted == "latest":
        return None
    if record is None or record.recipe != recipe:
        raise ValueError(f"--resume {wanted}: there is no run of {recipe} in {_named(path, wanted)}.")
    return path


def _holds_run(path: Path) -> bool:
    """Whether something of a run is there, a damaged one included."""
    return any(os.path.lexists(path / name) for name in ("config.json", "checkpoints"))


def _named(path: Path, wanted: str) -> str:
    return str(path) if wanted == "latest" else "that directory"


def _refuse_links(path: Path) -> None:
    """A run that came from elsewhere could name a file outside of it, and we would write there."""
    for place in sorted(path.iterdir()):
        is_ours = place.name in _WRITTEN or place.suffix in (".png", ".unfinished")
        if is_ours and place.is_symlink():
            raise ValueError(
                f"{place} is a link to {os.readlink(place)}, which is not followed: a run is written inside "
                "of its directory alone. Put what it points to in its place, or choose another --out."
            )


def _default_path(recipe: str) -> Path:
    now = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    path = Path("runs") / recipe / now
    return path if not path.exists() else path.with_name(f"{now}_{os.getpid()}")


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat()


def _in_words(changes: dict[str, tuple[Any, Any]]) -> list[str]:
    return [f"{name} {before} -> {now}" for name, (before, now) in changes.items()]


def _flags(config: Any) -> dict:
    """Every flag that says what the run is, as `config.json` has it."""
    flags = {name: value for name, value in dataclasses.asdict(config).items() if name not in OF_THE_CALL}
    return strict_json.loads(strict_json.dumps(flags, default=str))


def _description(recipe: str, config: Any) -> dict:
    device = jax.devices()[0]
    return {
        "recipe": recipe,
        "begun": _now(),
        "flags": _flags(config),
        "changes": [],
        "versions": {"python": platform.python_version(), **{p: metadata.version(p) for p in _PACKAGES}},
        "git_revision": _git_revision(),
        "device": f"{device.platform}: {device.device_kind} x {jax.device_count()}",
    }


def _git_revision() -> str | None:
    """The revision of the working directory's checkout; None outside of one."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
