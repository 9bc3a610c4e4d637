"""What is said of a table before training: its columns, its rows, and what may be a leak."""

import shlex

from fourbeat.recipes.columns.kinds import Known
from fourbeat.recipes.columns.layout import MOST_WORDS
from fourbeat.recipes.columns.leaks import GIVES_AWAY, alone
from fourbeat.recipes.columns.preparing import Prepared
from fourbeat.runs.printing import printable, say, show_table

_MOST_SHOWN = 80  # columns of a table that a person reads


def show(prepared: Prepared, seed: int) -> None:
    """Prints what was found: the columns as a table, the rows of each part, repeated rows, leaks.

    What a column alone tells is computed without the rows that are scored at the end.
    """
    target = prepared.layout.target
    num_rows = len(prepared.labels)
    say(printable(prepared.file), f"{num_rows:,} rows, {len(prepared.known) + 1:,} columns")
    say(f"target {printable(target.name)}: {_what(prepared)}")
    if prepared.note:
        say(f"{printable(target.name)}: {prepared.note}")
    told = _told_alone(prepared, seed)
    _show_columns(prepared, told)
    sizes = [len(part) for part in prepared.parts]
    left_out = (
        f"; {prepared.num_without_target:,} without a target left out" if prepared.num_without_target else ""
    )
    say(f"rows: {sizes[0]:,} to train on, {sizes[1]:,} to choose by, {sizes[2]:,} to test on{left_out}")
    for known in prepared.known:
        _show_large(known, prepared)
    if any(prepared.num_repeated):
        valid, test = prepared.num_repeated
        say(
            f"repeated rows: {valid:,} of those to choose by and {test:,} of those to test on are rows to "
            "train on too, equal in all columns: scores of new rows are likely worse"
        )
    for name, share in told.items():
        if share >= GIVES_AWAY:
            score, wanted = "balanced accuracy" if target.classes else "R2", printable(target.name)
            say(
                f"leak? {printable(name)} alone gives {wanted} away ({score} {share:.4f} of rows that it was "
                f"not fitted to). Unless it is known before {wanted} is, leave it out: "
                f"--drop {shlex.quote(printable(name))}"
            )


def _what(prepared: Prepared) -> str:
    classes = prepared.layout.target.classes
    if not classes:
        low, high = prepared.labels.min(), prepared.labels.max()
        return f"regression, numbers from {low:.6g} to {high:.6g}"
    counts = [int((prepared.labels == place).sum()) for place in range(len(classes))]
    shown = [f"{printable(name)} {count:,}" for name, count in zip(classes, counts, strict=True)][:10]
    more = f", and {len(classes) - 10:,} more" if len(classes) > 10 else ""
    return f"classification, {len(classes):,} classes: {', '.join(shown)}{more}"


def _told_alone(prepared: Prepared, seed: int) -> dict[str, float]:
    """What each column that is used tells alone."""
    import numpy as np

    rows = np.sort(np.concatenate(prepared.parts[:2]))
    labels, task = prepared.labels[rows], prepared.layout.target.task
    return {
        known.values.name: alone(known.values.at(rows), known.kind == "number", labels, task, seed)
        for known in prepared.known
        if known.is_used
    }


def _show_columns(prepared: Prepared, told: dict[str, float]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table("column", "kind", box=None, pad_edge=False, padding=(0, 1))
    for name in ("missing", "different", "alone"):
        table.add_column(name, justify="right")
    table.add_column("")
    shown = prepared.known
    if len(shown) > _MOST_SHOWN:
        first = [known for known in shown if not known.is_used or known.note]
        shown = sorted(shown, key=lambda known: -told.get(known.values.name, 0))
        shown = list({id(known): known for known in [*first, *shown]}.values())[:_MOST_SHOWN]
    for known in shown:
        values = known.values
        num_missing = int(values.is_missing.sum())
        is_date = values.type == "date" and known.kind == "number"
        note = known.note or ("" if known.is_used else "left out")
        note = f"left out: {known.note}" if known.note and not known.is_used else note
        share = told.get(values.name)
        table.add_row(
            Text(printable(values.name)),
            "date" if is_date else known.kind,
            f"{num_missing:,}" if num_missing else "",
            f"{values.num_different:,}",
            "" if share is None else f"{max(share, 0):.2f}",
            note,
        )
    show_table(table)
    if len(prepared.known) > len(shown):
        rest = len(prepared.known) - len(shown)
        say(f"and {rest:,} columns more, which tell less alone")
    score = "balanced accuracy" if prepared.layout.target.classes else "R2"
    say(f"alone: the {score} of the column alone, on rows that it was not fitted to")


def _show_large(known: Known, prepared: Prepared) -> None:
    """A line about a category with so many values that not each has an index of its own."""
    if known.kind != "category" or known.values.num_different <= MOST_WORDS:
        return
    name = known.values.name
    category = next(each for each in prepared.layout.categories if each.name == name)
    say(
        f"{printable(name)} has {known.values.num_different:,} different values: the "
        f"{len(category.words):,} most frequent ones that two or more rows to train on have are told "
        "apart, and the others are one"
    )
