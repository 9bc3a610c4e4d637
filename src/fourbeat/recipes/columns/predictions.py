"""`fourbeat predict`: what a run predicts of the rows of files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fourbeat as fb
from fourbeat.recipes.bad_files import report
from fourbeat.recipes.columns.layout import OTHER, Layout
from fourbeat.recipes.columns.reading import check_extra, check_finite, read
from fourbeat.recipes.columns.scores import predicted
from fourbeat.recipes.columns.values import NUMBERS, Values
from fourbeat.recipes.telling import print_json, say_run
from fourbeat.recipes.trained import Step, load
from fourbeat.runs.printing import printable, say, show_table

_MOST_SHOWN = 20  # rows of a file in a terminal
_MOST_CLASSES = 10  # with a column each


class _Rows(NamedTuple):
    """The rows of a file.

    Attributes:
      name: of the file.
      batch: the columns that the model reads.
      notes: what is to be said of them.
    """

    name: str
    batch: dict[str, np.ndarray]
    notes: list[str]


def predict(run: Path, files: Sequence[Path], step: Step, *, as_json: bool, to: Path | None = None) -> None:
    """Prints the prediction of each row, with the probability of each class.

    The columns are found by their names, in any order; the target need not be there.

    Args:
      run: its directory.
      files: CSV or Parquet.
      step: which checkpoint.
      as_json: one JSON object instead of a table.
      to: a CSV or Parquet file to write the predictions of all rows to.
    """
    check_extra("a run on a table")
    if not files:
        raise ValueError("predict needs a table: fourbeat predict RUN FILE...")
    if to is not None and to.suffix not in (".csv", ".parquet"):
        raise ValueError(f"--to {to}: name a file that ends in .csv or .parquet.")
    trained = load(run, step, mode="min")
    layout, problems, rows = Layout.read(run), {}, []
    for file in files:
        try:
            rows.append(_rows(file, layout))
        except ValueError as error:
            problems[str(file)] = str(error)
    given = [
        predicted(trained.beats, trained.state, fb.data.Arrays(**each.batch), layout.target) for each in rows
    ]
    classes = layout.target.classes
    if to is not None and rows:
        _write(to, rows, given, layout)
    if as_json:
        files_said = [_as_dict(each, values, classes) for each, values in zip(rows, given, strict=True)]
        print_json(trained, classes=classes or None, files=files_said, not_read=problems)
    else:
        for each, values in zip(rows, given, strict=True):
            say_run(trained, f"{printable(each.name)}, {len(values):,} rows")
            for note in each.notes:
                say(f"{printable(each.name)}: {printable(note)}")
            _show(values, layout, is_written=to is not None)
        if to is not None and rows:
            say(f"written to {printable(to)}")
    report(problems)


def _rows(file: Path, layout: Layout) -> _Rows:
    """The rows of a file as the model reads them."""
    texts = [each.name for each in layout.categories if each.type in ("text", "truth")]
    columns = read(file, as_text=texts)
    wanted = [*layout.numbers, *layout.categories]
    missing = [each.name for each in wanted if each.name not in columns]
    if missing:
        names = ", ".join(map(repr, missing))
        raise ValueError(f"{file} lacks {len(missing)} of the columns that the run has learnt from: {names}.")
    columns = {each.name: _as_learnt(file, columns[each.name], each.type) for each in wanted}
    check_finite(file, columns)
    batch, notes = layout.encode(columns), []
    num_rows = len(next(iter(batch.values())))
    for number in layout.numbers:
        num_missing = int(columns[number.name].is_missing.sum())
        if num_missing and not number.has_missing:
            notes.append(
                f"{number.name} is missing in {num_missing:,} of {num_rows:,} rows, and in none that the run "
                f"was trained on: it is read as {number.centre:.6g}"
            )
    for place, category in enumerate(layout.categories):
        num_other = int((batch["categories"][:, place] == OTHER).sum())
        if num_other:
            notes.append(
                f"{category.name} has a value that the run has not learnt by itself in {num_other:,} of "
                f"{num_rows:,} rows"
            )
    return _Rows(str(file), batch, notes)


def _as_learnt(file: Path, values: Values, type_: str) -> Values:
    """A column as the run has read it: a category of whole numbers may be texts here."""
    if values.type == "nothing":
        return (
            values
            if type_ in NUMBERS
            else Values(values.name, "text", places=np.full(len(values), -1, np.int32))
        )
    if type_ in NUMBERS:
        if (values.type == "date" and type_ != "date") or values.type not in NUMBERS:
            seen = f"values such as {values.words[0]!r}" if values.words else "dates"
            raise ValueError(f"{file}: column {values.name!r} holds {seen}, and the run has learnt numbers.")
        if type_ == "date" and values.type != "date":
            raise ValueError(f"{file}: column {values.name!r} holds numbers, and the run has learnt dates.")
        return values
    places, words = values.as_words
    if type_ == "truth":
        words = tuple({"1": "true", "0": "false"}.get(word.lower(), word.lower()) for word in words)
    return Values(values.name, "text", places=places, words=words)


def _prediction(values: np.ndarray, classes: Sequence[str]) -> list[Any]:
    return (
        [classes[place] for place in values.argmax(axis=1)] if classes else [float(value) for value in values]
    )


def _as_dict(rows: _Rows, values: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    said: dict[str, Any] = {
        "file": rows.name,
        "notes": rows.notes,
        "predictions": _prediction(values, classes),
    }
    if classes:
        said["probabilities"] = [[round(float(p), 7) for p in row] for row in values]
    return said


def _show(values: np.ndarray, layout: Layout, *, is_written: bool) -> None:
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    classes = layout.target.classes
    name = escape(printable(layout.target.name))
    table = Table("row", name, box=None, pad_edge=False)
    shown = classes if len(classes) <= _MOST_CLASSES else ()
    if classes:
        table.add_column("probability", justify="right")
    for name in shown:
        table.add_column(escape(printable(name)), justify="right")
    first = values[:_MOST_SHOWN]
    for place, (said, row) in enumerate(zip(_prediction(first, classes), first, strict=True), 1):
        likely = [f"{row.max():.4f}", *(f"{p:.4f}" for p in row[: len(shown)])] if classes else []
        table.add_row(f"{place:,}", Text(printable(said) if classes else f"{said:.6g}"), *likely)
    show_table(table)
    if len(values) > _MOST_SHOWN and not is_written:
        say(f"and {len(values) - _MOST_SHOWN:,} rows more, which --to predictions.csv or --json gives")


def _write(to: Path, rows: Sequence[_Rows], given: Sequence[np.ndarray], layout: Layout) -> None:
    """All predictions as a table: file, row, prediction, and the probability of each class."""
    import pyarrow
    from pyarrow import csv, parquet

    target = layout.target
    columns: dict[str, Any] = {
        "file": [each.name for each, values in zip(rows, given, strict=True) for _ in values],
        "row": np.concatenate([np.arange(1, len(values) + 1) for values in given]),
        f"predicted {target.name}": [
            said for values in given for said in _prediction(values, target.classes)
        ],
    }
    for place, name in enumerate(target.classes):
        columns[f"probability {name}"] = np.concatenate([values[:, place] for values in given])
    table = pyarrow.table(columns)
    try:
        (csv.write_csv if to.suffix == ".csv" else parquet.write_table)(table, to)
    except OSError as error:
        raise ValueError(f"cannot write {to}: {error.strerror or str(error).splitlines()[0]}.") from None
