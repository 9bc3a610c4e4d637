"""A run that goes on: what its checkpoint holds, and with which flags it goes on."""

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from fourbeat.checkpoints import Checkpoints
from fourbeat.runs.copies import shown
from fourbeat.runs.description import FORMAT, changes_in_words, flags_of, now
from fourbeat.runs.printing import say
from fourbeat.runs.records import read_json, read_record, write_json
from fourbeat.types import Config

Changes = dict[str, tuple[Any, Any]]  # flags by name: their values before and now


def saved_tree(
    trees: tuple[Any, ...], history_size_bytes: int = 0, unfinished: int = 0, stream: str = ""
) -> dict[str, Any]:
    """What a checkpoint holds. The defaults are those of a run without a checkpoint: an empty history."""
    return {
        "state": trees[0],
        "more": trees[1:],
        "history_size_bytes": history_size_bytes,
        "unfinished": unfinished,
        "stream": stream,
    }


def changed_flags(path: Path, config: Config) -> Changes:
    """The flags that differ from those with which the run was written."""
    record = read_record(path)
    saved, flags = ({} if record is None else record.flags), flags_of(config)
    before = {name: saved.get(name) for name in flags}
    return {name: (before[name], now) for name, now in flags.items() if now != before[name]}


def restored(path: Path, checkpoints: Checkpoints, tree: dict[str, Any], changes: Changes) -> dict[str, Any]:
    """The newest checkpoint of the run in `path`; `tree` where there is none.

    Raises:
      ValueError: the checkpoint is of an earlier fourbeat, or of another model or optimizer.
    """
    content = read_json(path / "config.json") or {}
    if checkpoints.latest is not None and content.get("format") != FORMAT:
        raise ValueError(
            f"the run {shown(path)} was written by an earlier fourbeat, and this one cannot go on with its "
            "checkpoints. It can still be evaluated and predict; to train on, begin a new run."
        )
    try:
        return checkpoints.restore_or(tree)
    except ValueError as error:
        if not changes:
            raise
        raise ValueError(
            f"cannot go on with {shown(path)} with other flags ({', '.join(changes_in_words(changes))}): "
            f"its checkpoint of step {checkpoints.latest} is of another model or optimizer. Leave them "
            "out, or begin a new run."
        ) from error


def cut_history(file: Path, size_bytes: int) -> None:
    """Takes back what was logged after the history was `size_bytes` long."""
    if history_size_bytes(file) > size_bytes:
        os.truncate(file, size_bytes)


def history_size_bytes(file: Path) -> int:
    """How long the history is by now; 0 before its first line."""
    return file.stat().st_size if file.exists() else 0


def record(path: Path, changes: Changes, exact: Collection[str], step: int, result: dict | None) -> None:
    """Says and writes down with which flags the run goes on, and that it is not finished any more.

    Args:
      path: the run's directory.
      changes: the flags that changed.
      exact: those that may change without another result at the same step.
      step: where the run goes on.
      result: what it had finished with; None where it had not.
    """
    for words in changes_in_words(changes):
        say(f"changed on resume: {words}")
    if inexact := [name for name in changes if name not in exact]:
        say(f"{', '.join(inexact)}: the result is no longer that of an unbroken run")
    if not changes and result is None:
        return
    content = read_json(path / "config.json") or {}
    flags = {**content.get("flags", {}), **{name: value for name, (_, value) in changes.items()}}
    told = {"when": now(), "step": step}
    changed = [{**told, "flag": name, "from": was, "to": to} for name, (was, to) in changes.items()]
    ended = [] if result is None else [{**told, "result": result}]
    history = [*content.get("changes", []), *changed, *ended]
    write_json(path / "config.json", {**content, "flags": flags, "changes": history})
    (path / "result.json").unlink(missing_ok=True)
