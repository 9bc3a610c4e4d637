"""Sides measured in turn, round by round: medians, spreads, and ratios pair by pair."""

import statistics
from collections.abc import Callable
from typing import NamedTuple


class Measured(NamedTuple):
    """Seconds of each round, by side."""

    seconds: dict[str, list[float]]

    def median(self, side: str) -> float:
        """The median round."""
        return statistics.median(self.seconds[side])

    def spread(self, side: str) -> tuple[float, float]:
        """The fastest and the slowest round."""
        return min(self.seconds[side]), max(self.seconds[side])

    def ratio(self, side: str, other: str) -> tuple[float, float, float]:
        """Quartiles (25 %, median, 75 %) of `side` over `other`, round by round."""
        ratios = [a / b for a, b in zip(self.seconds[side], self.seconds[other], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        return low, middle, high


def in_turn(sides: dict[str, Callable[[], float]], rounds: int) -> Measured:
    """Runs every side once a round, after one round that is not counted.

    Args:
      sides: by name, a function that does its work and returns the seconds it took.
      rounds: how many are counted.
    """
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for counted in [False] + [True] * rounds:
        for name, run in sides.items():
            taken = run()
            if counted:
                seconds[name].append(taken)
    return Measured(seconds)


def table(title: str, measured: Measured, unit: str, scale: float, against: str) -> str:
    """A table as text: median, spread, and the ratio to one side."""
    lines = [title, f"{'':34s} {'median':>10s}  {'spread':>19s}  ratio to {against} (quartiles)"]
    for side in measured.seconds:
        low, high = (scale * value for value in measured.spread(side))
        ratios = (
            ""
            if side == against
            else "{:.3f} ({:.3f} to {:.3f})".format(*(measured.ratio(side, against)[i] for i in (1, 0, 2)))
        )
        median = scale * measured.median(side)
        lines.append(f"{side:34s} {median:7.2f} {unit:2s}  {low:8.2f} to {high:8.2f}  {ratios}")
    return "\n".join(lines)
