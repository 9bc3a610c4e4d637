"""`fourbeat report`: runs on one page that opens without a network. No JAX is needed."""

import html
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fourbeat.loggers import strict_json
from fourbeat.runs.copies import shown
from fourbeat.runs.flags import as_flag
from fourbeat.runs.goodput import shares_percent
from fourbeat.runs.logged_curves import Curve, bands_of, curves_of
from fourbeat.runs.printing import printable
from fourbeat.runs.records import naming
from fourbeat.runs.run_on_disk import Run
from fourbeat.runs.scores import group_of, is_number

LIMIT_BYTES = 2_000_000  # of a page
MISTAKES = "mistakes.html"
"""Of a run's directory: a page of what it takes for something else, where its recipe writes one."""

_PAGE = Path(__file__).parent / "report_page"
_LIBRARY = _PAGE / "uplot"  # https://github.com/leeoniya/uPlot, MIT
_MARK = '<meta name="generator" content="fourbeat report">'
_MOST_CLASSES = 64  # of a confusion matrix that a person can read


def write_report(names: Sequence[str | os.PathLike[str]], out: Path) -> None:
    """Writes a page with the curves, flags, scores and confusion matrices of runs, and says where it is.

    Args:
      names: of the runs, as `Run.read` takes them.
      out: the file. A report that is there is written over, and nothing else.

    Raises:
      ValueError: no run is named, there is no such run, the same run is named twice, or the file is no
        report or cannot be written.
    """
    if not names:
        raise ValueError("report needs a run: fourbeat report RUN [RUN...]")
    runs = [Run.read(name) for name in names]
    _check_differ(runs)
    if out.is_dir():
        raise ValueError(f"{out} is a folder. Name the file to write, such as {out / 'report.html'}.")
    if out.exists() and _MARK not in out.read_text("utf-8", errors="replace"):
        raise ValueError(f"{out} is there already, and is no report. Name another file with --out.")
    page = report_page(runs, beside=out.parent)
    try:
        with naming(out):
            out.write_text(page, encoding="utf-8")
    except OSError as error:
        raise ValueError(f"cannot write {out}: {error.strerror}.") from None
    print(f"written to {printable(out)}, {len(page.encode()) / 1000:.0f} kB: open it in a browser")


def report_page(runs: Sequence[Run], *, beside: Path = Path()) -> str:
    """The page, at most 2 MB of HTML. It shows nothing that lies elsewhere.

    Args:
      runs: what is on it.
      beside: the folder that it is for. A page that a run wrote is linked from there.
    """
    parts = {name: (_PAGE / f"page.{name}").read_text("utf-8") for name in ("html", "css", "js")}
    licence = (_LIBRARY / "LICENSE").read_text("utf-8")
    library = f"/* {licence.strip()} */\n{(_LIBRARY / 'uPlot.iife.min.js').read_text('utf-8')}"
    contents = {
        "TITLE": html.escape(printable(", ".join(names_of([run.path for run in runs])))),
        "LIBRARY_STYLE": (_LIBRARY / "uPlot.min.css").read_text("utf-8"),
        "STYLE": parts["css"],
        "LIBRARY": library,
        "SCRIPT": parts["js"],
    }
    left = LIMIT_BYTES - sum(len(text.encode()) for text in (parts["html"], *contents.values()))
    contents["DATA"] = _fitting(runs, left, beside)
    page = parts["html"]
    for name, text in contents.items():
        page = page.replace(f"@@{name}@@", text)
    return page


def names_of(paths: Sequence[Path]) -> list[str]:
    """Short names: the last parts of the paths, as many as make them differ.

    >>> names_of([Path("runs/mnist/a"), Path("runs/mnist/b"), Path("runs/text/b")])
    ['a', 'mnist/b', 'text/b']
    """
    whole = [path.resolve().parts for path in paths]
    names = []
    for parts in whole:
        others = [other for other in whole if other != parts]
        length = next(
            (n for n in range(1, len(parts)) if all(other[-n:] != parts[-n:] for other in others)), len(parts)
        )
        names.append("/".join(parts[-length:]))
    return names


def _check_differ(runs: Sequence[Run]) -> None:
    seen = set()
    for run in runs:
        place = shown(run.path.resolve())
        if place in seen:
            raise ValueError(f"{run.name} is named twice. Name each run once.")
        seen.add(place)


def _fitting(runs: Sequence[Run], size_bytes: int, beside: Path) -> str:
    """The data of the page as JSON that may stand in HTML, with as many points as fit."""
    curves = [curves_of(run.history) for run in runs]
    longest = max((len(curve["steps"]) for each in curves for curve in each.values()), default=0)
    most = longest
    while True:  # halves the points until the page is small enough
        thinned = [{name: thin(curve, most) for name, curve in each.items()} for each in curves]
        note = "Curves have every value that was logged."
        if most < longest:
            note = (
                f"Curves of more than {most:,} points have the lowest and the highest value of each stretch, "
                "so that the page stays small; metrics.jsonl has all."
            )
        names = names_of([run.path for run in runs])
        told = [
            {**_told(run, name, each, most), "mistakes": _link(run.path / MISTAKES, beside)}
            for run, name, each in zip(runs, names, thinned, strict=True)
        ]
        text = json.dumps(strict_json.plain({"runs": told, "note": note}), separators=(",", ":"), default=str)
        text = text.replace("<", "\\u003c")  # no end of a script, no comment
        if len(text.encode()) <= size_bytes or most < 16:
            return text
        most //= 2


def _told(run: Run, name: str, curves: dict[str, Curve], most: int) -> dict[str, Any]:
    """What the page shows of a run."""
    bands = {
        name: {key: values[:: math.ceil(len(values) / max(most, 1))] for key, values in band.items()}
        for name, band in bands_of(run.history).items()
    }
    summary = run.summary or {}
    known = {"device": run.config.get("device"), "host": summary.get("host")}
    known["git revision"] = str(run.config.get("git_revision") or "none")[:12]
    versions = run.config.get("versions")
    return {
        "name": name,
        "path": run.name,
        "recipe": run.record.recipe,
        "state": run.state,
        "step": run.step,
        "begun": run.config.get("begun"),
        "score": run.record.score,
        "flags": run.record.flags,
        "curves": {n: {**curve, "group": group_of(n)} for n, curve in curves.items()},
        "bands": bands,
        "best": run.best,
        "last": run.last,
        "matrices": _matrices(run.history),
        "events": _events(run),
        "seconds": summary.get("seconds"),
        "shares": shares_percent(summary.get("seconds", {})),
        "environment": known | (versions if isinstance(versions, dict) else {}),
        "error": summary.get("error"),
        "problems": run.problems,
    }


def _link(page: Path, beside: Path) -> str | None:
    """Where a page lies, from a folder, as an address; None where it is not there."""
    return quote(os.path.relpath(page, beside)) if page.is_file() else None


def thin(curve: Curve, most: int) -> Curve:
    """A curve of at most about `most` points: of each stretch the lowest, the highest, and a None.

    >>> thin({"steps": [1, 2, 3, 4, 5, 6], "values": [0, 5, 1, 2, 9, 3]}, 4)
    {'steps': [1, 2, 4, 5], 'values': [0, 5, 2, 9]}
    """
    steps, values = curve["steps"], curve["values"]
    if len(values) <= most:
        return curve
    size = math.ceil(2 * len(values) / most)
    kept = set()
    for begin in range(0, len(values), size):
        places = range(begin, min(begin + size, len(values)))
        numbers = [place for place in places if values[place] is not None]
        kept |= set([place for place in places if values[place] is None][:1])
        if numbers:
            kept |= {min(numbers, key=values.__getitem__), max(numbers, key=values.__getitem__)}
    return {"steps": [steps[place] for place in sorted(kept)], "values": [values[p] for p in sorted(kept)]}


def _matrices(history: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The newest of each confusion matrix that was logged, and the names of its classes beside it."""
    return {
        name: {"step": line["step"], "counts": value, "classes": _classes(line, name, len(value))}
        for line in history
        for name, value in line.items()
        if "confusion" in name and _is_square(value)
    }


def _classes(line: Mapping[str, Any], name: str, number: int) -> list[str]:
    """What `test_classes` says beside `test_confusion`; else the numbers of the classes."""
    logged = line.get(name.replace("confusion", "classes"))
    names = logged if isinstance(logged, list) and len(logged) == number else range(number)
    return [str(each) for each in names]


def _is_square(value: Any) -> bool:
    return (
        isinstance(value, list)
        and 2 <= len(value) <= _MOST_CLASSES
        and all(
            isinstance(row, list) and len(row) == len(value) and all(map(is_number, row)) for row in value
        )
    )


def _events(run: Run) -> list[dict[str, Any]]:
    """When the run went on, and with what other flags."""
    events = [{**resume, "what": "resumed"} for resume in run.resumes]
    changes = run.config.get("changes")
    for change in changes if isinstance(changes, list) else []:
        if not isinstance(change, dict):
            continue
        if "flag" in change:
            what = f"{as_flag(str(change['flag']))} {change.get('from')} → {change.get('to')}"
        else:
            what = "went on after its end"
        events.append({"when": change.get("when"), "step": change.get("step"), "what": what})
    return sorted(events, key=lambda event: str(event.get("when")))
