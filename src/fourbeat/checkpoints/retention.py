"""Which checkpoints stay, and why: the last ones, one in so many steps or seconds, and the best."""

import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from fourbeat.checkpoints.folders import Entry
from fourbeat.types import Object

UNNAMED = "score"  # the name of a score that was given as a bare number
Mode = Literal["min", "max"]


class Saved(NamedTuple):
    """What is known of one checkpoint on disk.

    Attributes:
      entry: where it lies.
      scores: its scores by name; none of them is NaN.
      saved_at_s: when it was saved, in seconds since 1970, or None where that was not written down.
      damage: why its digest cannot be read; empty where it can.
    """

    entry: Entry
    scores: Mapping[str, float] = {}
    saved_at_s: float | None = None
    damage: str = ""


@dataclass(frozen=True)
class Rules:
    """What stays.

    Attributes:
      last: so many of the newest; None for all.
      every: the first checkpoint at or after each multiple of so many steps; None for none.
      seconds: the first checkpoint, and then each that was saved so much later than the one before
        that stays for this reason; None for none.
      best: by the name of a score, which way is better and how many of the best stay: 0 where it is ranked
        only.
    """

    last: int | None = 1
    every: int | None = None
    seconds: float | None = None
    best: Mapping[str, tuple[Mode, int]] = field(default_factory=dict)

    @property
    def needs_digests(self) -> bool:
        """Whether the names of the folders do not tell what stays."""
        return self.seconds is not None or any(count for _, count in self.best.values())

    def __str__(self) -> str:
        parts = [
            "keep_last=all" if self.last is None else f"keep_last={self.last}",
            *([] if self.every is None else [f"keep_every={self.every}"]),
            *([] if self.seconds is None else [f"keep_seconds={self.seconds:g}"]),
            *(f"best {name} {mode} {count}" for name, (mode, count) in self.best.items() if count),
        ]
        return ", ".join(parts)


def best_first(found: Sequence[Saved], name: str, mode: Mode) -> list[Entry]:
    """Those with a score of this name, best first; of equal ones the earlier save.

    Args:
      found: the checkpoints.
      name: of the score.
      mode: "min" where less is better, "max" where more is.
    """
    sign = {"min": 1.0, "max": -1.0}[mode]
    return [entry for _, entry in sorted((sign * s.scores[name], s.entry) for s in found if name in s.scores)]


def reasons(found: Sequence[Saved], rules: Rules) -> dict[Entry, list[str]]:
    """For each checkpoint why it stays; one without a reason need not stay.

    All is read off what is there: a process that was killed, or another one, finds the same reasons. A step
    that is saved again replaces its earlier save in every case.

    Args:
      found: all of them, oldest save first.
      rules: what stays.
    """
    newest_of_step = {saved.entry.step: saved for saved in found}
    current = [saved for saved in found if newest_of_step[saved.entry.step] is saved]
    entries = [saved.entry for saved in current]
    why: dict[Entry, list[str]] = {saved.entry: [] for saved in found}
    for entry in entries if rules.last is None else entries[-rules.last :]:
        why[entry].append("last" if entry is entries[-1] else "one of the last")
    if rules.every is not None:
        for entry in _first_of_each(entries, rules.every):
            why[entry].append(f"every {rules.every} steps")
    if rules.seconds is not None:
        for entry in _apart(current, rules.seconds):
            why[entry].append(f"every {rules.seconds:g} seconds")
    for name, (mode, count) in rules.best.items():
        for rank, entry in enumerate(best_first(current, name, mode)[:count], 1):
            why[entry].append(f"best {name}" if rank == 1 else f"{_ordinal(rank)} best {name}")
    return why


def checked_rules(
    keep_last: Object,
    keep_every: Object,
    keep_seconds: Object,
    best: Object,
    keep_best: Object,
    mode: Object,
) -> Rules:
    """The rules that the arguments of `Checkpoints` say.

    Raises:
      ValueError: an argument is out of range, or two of them say the same.
    """
    for name, count in (("keep_last", keep_last), ("keep_best", keep_best), ("keep_every", keep_every)):
        if count is not None and (not isinstance(count, int) or count < 1):
            raise ValueError(f"Checkpoints: {name} is {count!r}. Give a whole number from 1, or None.")
    is_time = isinstance(keep_seconds, int | float) and 0 < keep_seconds < math.inf
    if keep_seconds is not None and not is_time:
        raise ValueError(f"Checkpoints: keep_seconds is {keep_seconds!r}. Give seconds above 0, or None.")
    if mode not in (None, "min", "max"):
        raise ValueError(f"Checkpoints: mode is {mode!r}. Give 'min' or 'max'.")
    if keep_best is not None and mode is None:
        raise ValueError(
            f"Checkpoints: keep_best={keep_best} needs mode='min', where a lower score is better, "
            "or mode='max'."
        )
    if best is not None and mode is not None:
        raise ValueError("Checkpoints: best= says all that keep_best= and mode= say. Give only best=.")
    if best is None:
        best = {} if mode is None else {UNNAMED: (mode, keep_best or 0)}
    else:
        best = _checked_best(best)
    return Rules(keep_last, keep_every, keep_seconds, best)  # pyright: ignore[reportArgumentType]


def scores_of(score: Object, rules: Rules) -> dict[str, float]:
    """The scores by name that a save was given; NaN counts as none.

    Args:
      score: None, a number, or numbers by name.
      rules: a bare number is the score that they rank, if it is the only one. Of several by name, those that
        they rank are taken, and must be there.

    Raises:
      TypeError: it is no number, or a name is missing.
    """
    ranked = list(rules.best)
    if score is None:
        return {}
    if not isinstance(score, Mapping):
        if len(ranked) > 1:
            example = ", ".join(f"{name!r}: ..." for name in ranked)
            raise TypeError(f"the score is {score!r}, and several are ranked. Give score={{{example}}}.")
        given = {ranked[0] if ranked else UNNAMED: _number("the score", score)}
    else:
        missing = [name for name in ranked if name not in score]
        if missing == [UNNAMED]:
            example = f"best={{{next(iter(score), 'accuracy')!r}: ({rules.best[UNNAMED][0]!r}, 1)}}"
            raise TypeError(
                f"the score has names: {_listed(score)}. With mode= it is one number; with Checkpoints(..., "
                f"{example}) scores have names."
            )
        if missing:
            raise TypeError(
                f"the score has no {missing[0]!r}, which is ranked here; it has {_listed(score)}. "
                "Give None for a score that this step does not have."
            )
        given = {name: _number(f"score[{name!r}]", score[name]) for name in ranked or score}
    return {name: value for name, value in given.items() if not math.isnan(value)}


def _checked_best(best: Object) -> dict[str, tuple[Mode, int]]:
    if not isinstance(best, Mapping):
        raise ValueError(f"Checkpoints: best is {best!r}. Give names with pairs: {_EXAMPLE}.")
    for name, pair in best.items():
        is_pair = isinstance(pair, tuple | list) and len(pair) == 2 and pair[0] in ("min", "max")
        if not (is_pair and isinstance(pair[1], int) and pair[1] >= 1 and isinstance(name, str) and name):
            raise ValueError(
                f"Checkpoints: best[{name!r}] is {pair!r}. Give 'min' or 'max', and how many stay, from 1: "
                f"{_EXAMPLE}."
            )
    return {name: (mode, count) for name, (mode, count) in best.items()}


_EXAMPLE = "best={'accuracy': ('max', 3), 'loss': ('min', 1)}"


def _number(what: str, value: Object) -> float:
    if value is None:
        return math.nan
    if getattr(value, "ndim", 0) != 0 or isinstance(value, str):
        raise TypeError(f"{what} is {value!r}. Give one number.")
    try:
        return float(value)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError):
        raise TypeError(f"{what} is {value!r}. Give one number.") from None


def _listed(names: Mapping[str, Object]) -> str:
    return ", ".join(map(repr, names)) or "no name"


def _first_of_each(entries: Sequence[Entry], every: int) -> list[Entry]:
    """The lowest step of each stretch that begins at a multiple of `every`; none before the first."""
    firsts: dict[int, Entry] = {}
    for entry in sorted(entries, key=operator.attrgetter("step")):
        if entry.step >= every:
            firsts.setdefault(entry.step // every, entry)
    return list(firsts.values())


def _apart(found: Sequence[Saved], seconds: float) -> list[Entry]:
    """The first, and each so much later than the one before. A clock that was set back starts anew."""
    kept, before = [], None
    for saved in found:
        at = saved.saved_at_s
        if at is not None and (before is None or not before <= at < before + seconds):
            kept.append(saved.entry)
            before = at
    return kept


def _ordinal(rank: int) -> str:
    ending = "th" if rank % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(rank % 10, "th")
    return f"{rank}{ending}"
