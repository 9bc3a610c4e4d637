"""The table of what is in a directory, and why each checkpoint stays."""

import time
from collections.abc import Sequence
from pathlib import Path

from fourbeat.checkpoints import retention
from fourbeat.checkpoints.retention import Rules, Saved


def table(directory: Path | str, found: Sequence[Saved], rules: Rules) -> str:
    """Lines of text: the rules, then a line a checkpoint in the order of the saves.

    Args:
      directory: where they lie.
      found: all of them, oldest save first.
      rules: what stays.
    """
    first = f"Checkpoints in {directory}: {rules}"
    if not found:
        return f"{first}\nnone is there"
    names = list(dict.fromkeys([*rules.best, *(name for saved in found for name in saved.scores)]))
    why = retention.reasons([saved for saved in found if not saved.damage], rules)
    rows = [["step", "saved", *names, "kept as"]]
    for saved in found:
        scores = [f"{saved.scores[name]:.6g}" if name in saved.scores else "-" for name in names]
        rows.append([str(saved.entry.step), _moment(saved.saved_at_s), *scores, _reason(saved, why)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join([first, *(_line(row, widths) for row in rows)])


def _reason(saved: Saved, why: dict) -> str:
    if saved.damage:
        return f"damaged: {saved.damage}"
    return ", ".join(why[saved.entry]) or "nothing: the next save removes it"


def _moment(seconds: float | None) -> str:
    return "-" if seconds is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    step, saved, *scores, reason = row
    cells = [step.rjust(widths[0]), saved.ljust(widths[1])]
    cells += [score.rjust(width) for score, width in zip(scores, widths[2:], strict=False)]
    return "  ".join([*cells, reason])
