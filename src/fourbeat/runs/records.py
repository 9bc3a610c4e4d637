"""Reads and writes the files of a run. A file may be damaged, or not ours. No JAX is needed."""

import contextlib
import datetime
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from fourbeat.loggers import strict_json
from fourbeat.runs.copies import shown


class Record(NamedTuple):
    """The content of a run's `config.json`.

    Attributes:
      recipe: the recipe's name.
      flags: the values of the flags, by name.
      begun_s: when the run was begun, in seconds since 1970.
      score: the name of the logged value that says how good a step is; None if the run has none.
      mode: "max" where a higher score is better, "min" where a lower one is.
    """

    recipe: str
    flags: dict[str, Any]
    begun_s: float
    score: str | None
    mode: str


def read_record(path: Path) -> Record | None:
    """The record of the run in a directory; None where no run is there.

    Raises:
      ValueError: `config.json` is damaged, or does not belong to a run; the text names the file.
    """
    file = path / "config.json"
    content = read_json(file)
    if content is None:
        return None
    recipe, flags = content.get("recipe"), content.get("flags")
    if not isinstance(recipe, str) or not isinstance(flags, dict):
        raise ValueError(f"{shown(file)} is of no run: it holds no recipe's name with its flags.")
    score = content.get("score")
    score = score if isinstance(score, dict) else {}
    return Record(recipe, flags, begun_s(path, content), score.get("name"), str(score.get("mode", "max")))


def read_result(path: Path) -> dict | None:
    """What the run in a directory has finished with; None where it has not.

    Raises:
      ValueError: the file is damaged; the text names it.
    """
    return read_json(path / "result.json")


def begun_s(path: Path, content: dict) -> float:
    """When a run was begun, in seconds since 1970: from its record, its name, or the time of its file."""
    for parse in (
        lambda: datetime.datetime.fromisoformat(content["begun"]),
        lambda: datetime.datetime.strptime(path.name[:19], "%Y-%m-%d_%H-%M-%S"),
    ):
        with contextlib.suppress(KeyError, TypeError, ValueError, OverflowError, OSError):
            return parse().timestamp()
    try:
        return (path / "config.json").lstat().st_mtime
    except OSError:
        return 0.0


def read_json(path: Path) -> dict | None:
    """The JSON object of a file, or None where there is no such file.

    Raises:
      ValueError: the file is damaged, or cannot be read; the text names it.
    """
    if not path.exists():
        return None
    if not path.is_file():  # reading a pipe could wait forever
        raise ValueError(f"{shown(path)} is no file.")
    try:
        content = strict_json.loads(path.read_bytes().decode("utf-8"))
    except UnicodeDecodeError:
        raise ValueError(f"{shown(path)} is damaged: it is not UTF-8 text.") from None
    except OSError as error:
        raise ValueError(f"cannot read {shown(path)}: {error.strerror}.") from None
    except ValueError as error:
        raise ValueError(f"{shown(path)} is damaged: {error}.") from None
    if not isinstance(content, dict):
        raise ValueError(f"{shown(path)} is damaged: it holds {type(content).__name__}, and no object.")
    return content


def write_json(path: Path, content: dict) -> None:
    """Writes a file as a whole or not at all.

    Raises:
      OSError: it cannot be written; the error names the file.
    """
    unfinished = path.with_name(f"{path.name}.unfinished")
    text = strict_json.dumps(content, indent=2) + "\n"
    with naming(unfinished):
        unfinished.write_text(text)
    unfinished.replace(path)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """A context in which an `OSError` names the file: one of a write, as on a full disk, names none."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def read_history(path: Path) -> tuple[list[dict], list[str]]:
    """The lines of a run's `metrics.jsonl`, without a half line that a killed process left.

    Returns:
      `(lines, damaged)`: the objects with a step, and a text for each damaged line.
    """
    return parsed_history(_lines(path / "metrics.jsonl"))


def parsed_history(written: Iterable[bytes]) -> tuple[list[dict], list[str]]:
    """As `read_history`, of lines that were read already."""
    lines, damaged = [], []
    for number, line in enumerate(written, 1):
        try:
            content = strict_json.loads(line)
            if not isinstance(content, dict) or type(content.get("step")) is not int:
                raise ValueError("it is no JSON object with a step")
            lines.append(content)
        except ValueError as error:
            damaged.append(f"metrics.jsonl, line {number}: {error}")
    return lines, damaged


def _lines(file: Path) -> Iterator[bytes]:
    if not file.is_file():
        return
    with file.open("rb") as opened:
        yield from (line for line in opened if line.endswith(b"\n"))
