"""The flags of a run that is resumed are the defaults of the call that resumes it."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fourbeat.distributed.first import first_does
from fourbeat.runs.copies import shown
from fourbeat.runs.flags import from_record
from fourbeat.runs.places import find
from fourbeat.runs.records import read_record


def defaults(recipe: str, config_type: type, args: Sequence[str]) -> Any:
    """The flags of the run that `--resume` and `--out` name; the recipe's defaults if they name none.

    Args:
      recipe: its name.
      config_type: its flags, a dataclass.
      args: the arguments of the call.

    Raises:
      ValueError: there is no such run, or what it has recorded is damaged.
    """
    default = config_type()
    given = {flag: _value_of(flag, args) for flag in ("--resume", "--out")}
    if given["--resume"] is None or not hasattr(default, "resume") or {"-h", "--help"} & set(args):
        return default
    out = None if given["--out"] is None else Path(given["--out"])

    def recorded() -> tuple[str, dict[str, Any]] | None:
        found = find(recipe, dataclasses.replace(default, resume=given["--resume"], out=out))
        record = None if found is None else read_record(found)
        return None if found is None or record is None else (shown(found / "config.json"), record.flags)

    told = first_does(recorded, topic="run")  # the same run on every process
    if told is None:
        return default
    file, flags = told
    return from_record(config_type, flags, where=f"{file}: ")


def _value_of(flag: str, args: Sequence[str]) -> str | None:
    """What the last use of a flag gives it, as the parser has it."""
    value = None
    for place, arg in enumerate(args):
        if arg == flag and place + 1 < len(args):
            value = args[place + 1]
        elif arg.startswith(f"{flag}="):
            value = arg.removeprefix(f"{flag}=")
    return value
