"""The flags of a run that is resumed are the defaults of the call that resumes it."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fourbeat import runs


def defaults(recipe: str, config_type: type, args: Sequence[str]) -> Any:
    """The recipe's defaults; the flags of the run that `--resume` and `--out` name, where they do.

    Args:
      recipe: its name.
      config_type: its flags, a dataclass.
      args: those of the call.
    """
    default = config_type()
    given = {flag: _value_of(flag, args) for flag in ("--resume", "--out")}
    if given["--resume"] is None:
        return default
    out = None if given["--out"] is None else Path(given["--out"])
    found = runs.find(recipe, dataclasses.replace(default, resume=given["--resume"], out=out))
    saved = {} if found is None else (runs.read_json(found / "config.json") or {})
    fields = {field.name for field in dataclasses.fields(default)}
    return dataclasses.replace(default, **{k: v for k, v in saved.get("flags", {}).items() if k in fields})


def _value_of(flag: str, args: Sequence[str]) -> str | None:
    for place, arg in enumerate(args):
        if arg == flag and place + 1 < len(args):
            return args[place + 1]
        if arg.startswith(f"{flag}="):
            return arg.removeprefix(f"{flag}=")
    return None
