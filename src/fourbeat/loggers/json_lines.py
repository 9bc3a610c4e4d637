"""A line of JSON for each step that is logged."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fourbeat.distributed import speaks
from fourbeat.loggers import strict_json
from fourbeat.loggers.failures import warns_once
from fourbeat.types import Figure


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
    >>> import numpy as np
    >>> path = Path(tempfile.mkdtemp()) / "metrics.jsonl"
    >>> logger = JsonLines(path)
    >>> logger.log(100, {"loss": np.float32(0.5), "recall": np.array([1.0, 0.25])})
    >>> path.read_text()
    '{"step": 100, "loss": 0.5, "recall": [1.0, 0.25]}\n'
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        if speaks():
            self.path.parent.mkdir(parents=True, exist_ok=True)
        self._has_failed = False

    @warns_once
    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Appends one line."""
        append_line(self.path, step, values)

    @warns_once
    def figure(self, step: int, name: str, figure: Figure) -> None:
        """Writes the figure as `<name>-<step>.png`."""
        figure.savefig(self.path.parent / f"{name}-{int(step)}.png", dpi=120, bbox_inches="tight")

    @warns_once
    def cut_after(self, step: int) -> None:
        """Takes back the lines of later steps, and half a line that a killed process left.

        The file is replaced as a whole. Figures stay until their step comes again. A line without a step
        stays too: another program wrote it.
        """
        path = Path(os.path.realpath(self.path))
        if not path.exists():
            return
        unfinished = path.with_name(f"{path.name}.unfinished")
        with path.open("rb") as lines, unfinished.open("wb") as kept:
            kept.writelines(line for line in lines if line.endswith(b"\n") and not is_after(line, step))
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
    line = as_line(step, values)
    with path.open("ab", buffering=0) as file:
        size_bytes = file.tell()
        try:
            written = file.write(line)
            if written < len(line):  # a disk fills in the middle of a line
                raise OSError(f"{path} took {written} bytes of a line of {len(line)}")
        except OSError as error:
            file.truncate(size_bytes)
            if error.errno and error.filename is None:  # that of a write names none
                error.filename = str(path)
            raise


def as_line(step: int, values: Mapping[str, Any]) -> bytes:
    """The line that `append_line` writes."""
    return (strict_json.dumps({"step": int(step), **values}) + "\n").encode()


def is_after(line: bytes, step: int) -> bool:
    """Whether a line is of a later step."""
    try:
        return json.loads(line)["step"] > int(step)
    except (ValueError, KeyError, TypeError):
        return False
