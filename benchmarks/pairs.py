"""Sides that are measured beside another one in the same process, and figures to reach for them."""

from collections.abc import Mapping
from typing import Any

from benchmarks.peers.paired import HIGH, LOW, TIMES
from benchmarks.reaching import missing
from benchmarks.statistics import Ratio
from benchmarks.work import Reach, Side


def beside(side: Side, other: Side) -> Side:
    """The side, which also tells how many times the seconds of the other it takes."""
    options = {"side": (side.factory, dict(side.options)), "other": (other.factory, dict(other.options))}
    return Side("benchmarks.peers.paired:Paired", side.does, options, side.share)


def at_most_times(sides: Mapping[str, dict[str, Any]], side: str, limit: float, of: str) -> Reach:
    """Whether the upper end of the interval of a side of `beside` is at most `limit`."""
    reach = f"{side}: upper end at most {limit:g} x {of}, in one process"
    facts = sides.get(side, {}).get("facts", {})
    if HIGH not in facts:
        return missing(reach)
    return Reach(reach, str(Ratio(facts[TIMES], facts[LOW], facts[HIGH])), facts[HIGH] <= limit)
