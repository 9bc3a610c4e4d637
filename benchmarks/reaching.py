"""Figures to reach, beside what was measured."""

from collections.abc import Mapping
from typing import Any

from benchmarks import statistics
from benchmarks.work import Reach

Sides = Mapping[str, dict[str, Any]]


def at_most_ratio(sides: Sides, side: str, other: str, limit: float, of: str) -> Reach:
    """Whether the upper end of the interval of `side` over `other` is at most `limit`."""
    reach = f"{side}: upper end at most {limit:g} x {of}"
    if not measured(sides, side, other):
        return missing(reach)
    ratio = statistics.ratio(sides[side]["seconds"], sides[other]["seconds"])
    return Reach(reach, str(ratio), ratio.high <= limit)


def overhead_times_less(sides: Sides, side: str, other: str, work: str, times: float) -> Reach:
    """Whether `side` takes `times` less than `other` above the work alone, by the lower end."""
    reach = f"{side}: overhead, above {work}, at least {times:g} times less than that of {other}"
    if not measured(sides, side, other, work):
        return missing(reach)
    alone = sides[work]["seconds"]
    above = [
        [max(whole - least, 1e-9) for whole, least in zip(sides[name]["seconds"], alone, strict=True)]
        for name in (other, side)
    ]
    ratio = statistics.ratio(*above)
    return Reach(reach, f"{ratio} times less", ratio.low >= times)


def at_least_times_less(sides: Sides, side: str, other: str, times: float) -> Reach:
    """Whether `side` takes `times` less than `other`, by the lower end of the interval."""
    reach = f"{side}: at least {times:g} times less than {other}"
    if not measured(sides, side, other):
        return missing(reach)
    ratio = statistics.ratio(sides[other]["seconds"], sides[side]["seconds"])
    return Reach(reach, f"{ratio} times less", ratio.low >= times)


def at_most_above(sides: Sides, side: str, other: str, limit_us: float) -> Reach:
    """Whether `side` takes at most `limit_us` more than `other`, by the upper end of the interval."""
    reach = f"{side}: at most {limit_us:g} us above {other}"
    if not measured(sides, side, other):
        return missing(reach)
    above = statistics.difference(sides[side]["seconds"], sides[other]["seconds"])
    low, high = 1e6 * above.low, 1e6 * above.high
    return Reach(reach, f"{1e6 * above.median:.1f} us ({low:.1f} to {high:.1f})", high <= limit_us)


def all_faster(sides: Sides, side: str, besides: tuple[str, ...]) -> Reach:
    """Whether `side` is faster than every measured peer, by the upper end of each interval."""
    reach = f"{side}: faster than every peer"
    peers = [name for name in sides if name != side and name not in besides and measured(sides, name)]
    if not peers or not measured(sides, side):
        return missing(reach)
    ratios = {name: statistics.ratio(sides[side]["seconds"], sides[name]["seconds"]) for name in peers}
    closest = max(ratios, key=lambda name: ratios[name].high)
    met = ratios[closest].high < 1
    return Reach(reach, f"closest: {ratios[closest]} of {closest}", met)


def memory_at_most(sides: Sides, side: str, other: str, limit: float) -> Reach:
    """Whether the peak memory of `side` is at most `limit` times that of `other`."""
    reach = f"{side}: peak memory at most {limit:g} x that of {other}"
    if not measured(sides, side, other):
        return missing(reach)
    ratio = sides[side]["peak_memory_bytes"] / sides[other]["peak_memory_bytes"]
    return Reach(reach, f"{ratio:.3f}", ratio <= limit)


def measured(sides: Sides, *names: str) -> bool:
    """Whether all of these sides have rounds."""
    return all(sides.get(name, {}).get("seconds") for name in names)


def missing(reach: str, why: str = "not measured") -> Reach:
    """What is said where a side, or a part of it, was not measured."""
    return Reach(reach, why, None)
