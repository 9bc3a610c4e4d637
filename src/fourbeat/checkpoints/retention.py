"""Which checkpoints stay: the newest ones, and the best."""

import math
from collections.abc import Mapping, Sequence

from fourbeat.checkpoints.folders import Entry


def best_first(scores: Mapping[Entry, float | None], mode: str) -> list[Entry]:
    """Those with a score, best first; of equal ones the earlier save. NaN is no score.

    Args:
      scores: by checkpoint; None for none.
      mode: "min" where less is better, "max" where more is.
    """
    sign = {"min": 1.0, "max": -1.0}[mode]
    ranked = [(sign * s, entry) for entry, s in scores.items() if s is not None and not math.isnan(s)]
    return [entry for _, entry in sorted(ranked)]


def outdated(
    found: Sequence[Entry], keep_last: int | None, best: Sequence[Entry], keep_best: int | None
) -> list[Entry]:
    """The checkpoints that need not stay.

    Args:
      found: all of them, oldest save first.
      keep_last: so many of the newest stay; None for all.
      best: those with a score, best first.
      keep_best: so many of the best stay too; None for none.

    Returns:
      The rest, oldest first. A step saved again replaces its earlier save in every case.
    """
    newest_of_step = {entry.step: entry for entry in found}
    current = [entry for entry in found if newest_of_step[entry.step] is entry]
    kept = set(current if keep_last is None else current[-keep_last:])
    kept |= set([entry for entry in best if entry in current][: keep_best or 0])
    return [entry for entry in found if entry not in kept]
