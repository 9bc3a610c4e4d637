"""The collectives of a compiled program, read from its HLO: the bytes that a device receives in a call."""

import math
import re
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

KINDS = ("all-gather", "reduce-scatter", "all-reduce", "all-to-all", "collective-permute")
_OPERATION = re.compile(rf"%([\w.-]+) = (.*?) ({'|'.join(KINDS)})(-start)?\((.*)")
_ARRAY = re.compile(r"([a-z]+\d*)\w*\[([\d,]*)\]")
_CALLED = re.compile(r"(?:body|to_apply|calls|branch_computations)=\{?((?:%[\w.-]+(?:, )?)+)")
_COMPUTES = re.compile(r" (?:fusion|dot|convolution|custom-call)\(")


class Collective(NamedTuple):
    """One collective operation of a program.

    Attributes:
      name: of the instruction.
      kind: one of `KINDS`.
      received: bytes that a device receives each time, if its group of devices is a ring.
      times: how often it runs in a call of the program; a loop that does not tell its rounds counts as one.
      is_async: whether it is a pair of a start and a done.
      overlapped: operations that compute between its start and its done.
    """

    name: str
    kind: str
    received: float
    times: int
    is_async: bool
    overlapped: int


def collectives(hlo: str) -> list[Collective]:
    """The collectives of a program, as `compiled.as_text()` gives it.

    >>> [each] = collectives('''ENTRY %main {
    ...   %p = f32[2,8]{1,0} parameter(0)
    ...   %g = f32[8,8]{1,0} all-gather(%p), replica_groups=[2,4]<=[8], dimensions={0}
    ... }''')
    >>> each.kind, each.received, each.times, each.is_async
    ('all-gather', 192.0, 1, False)
    """
    computations, entry = _computations(hlo)
    times: dict[str, int] = defaultdict(int)
    _count(computations, entry, 1, times)
    return [found for name, lines in computations.items() if times[name] for found in _in(lines, times[name])]


def received_bytes(found: list[Collective]) -> dict[str, float]:
    """Bytes that a device receives in a call, by kind."""
    return {kind: sum(each.received * each.times for each in found if each.kind == kind) for kind in KINDS}


def _computations(hlo: str) -> tuple[dict[str, list[str]], str]:
    computations: dict[str, list[str]] = {}
    lines, entry = [], ""
    for line in hlo.splitlines():
        if begin := re.match(r"(ENTRY )?%([\w.-]+) .*\{$", line):
            lines = computations[begin[2]] = []
            entry = begin[2] if begin[1] else entry
        else:
            lines.append(line)
    return computations, entry


def _count(computations: dict[str, list[str]], name: str, times: int, found: dict[str, int]) -> None:
    found[name] += times
    for line in computations[name]:
        trips = re.search(r'known_trip_count":\{"n":"(\d+)"', line) if " while(" in line else None
        for called in _CALLED.findall(line):
            for inner in re.findall(r"%([\w.-]+)", called):
                if not _OPERATION.search(line):  # which calls no more than the sum of two numbers
                    _count(computations, inner, times * (int(trips[1]) if trips else 1), found)


def _in(lines: list[str], times: int) -> Iterator[Collective]:
    for index, line in enumerate(lines):
        if not (match := _OPERATION.search(line)):
            continue
        name, shapes, kind, start, rest = match.groups()
        arrays = [_bytes(*array) for array in _ARRAY.findall(shapes)]
        result = max(arrays) if start else sum(arrays)  # a start gives what it was given, too
        yield Collective(
            name, kind, result * _share(kind, _group_size(rest)), times, bool(start),
            _computing(lines[index:], name) if start else 0,
        )  # fmt: skip


def _computing(lines: list[str], name: str) -> int:
    done = re.compile(rf"-done\(%{re.escape(name)}[,)]")
    before = next((i for i, line in enumerate(lines) if done.search(line)), 0)
    return sum(bool(_COMPUTES.search(line)) for line in lines[:before])


def _share(kind: str, size: int) -> float:
    """What a device receives in a ring of so many, in sizes of the result."""
    if kind == "collective-permute":
        return 1.0
    if kind == "reduce-scatter":
        return size - 1.0
    return (2 if kind == "all-reduce" else 1) * (size - 1) / size


def _group_size(rest: str) -> int:
    """The devices of a group, in any of the three forms in which HLO writes the groups.

    >>> [_group_size(f"replica_groups={groups}, metadata") for groups in (
    ...     "{{0,1,2,3},{4,5,6,7}}", "[4,2]<=[2,4]T(1,0)", "mesh['a'=2,'b'=4] {'b'}")]
    [4, 2, 4]
    """
    if listed := re.search(r"replica_groups=\{\{([\d,]*)\}", rest):
        return listed[1].count(",") + 1
    if iota := re.search(r"replica_groups=\[\d+,(\d+)\]", rest):
        return int(iota[1])
    if of_mesh := re.search(r"replica_groups=mesh\[(.*?)\][^{]*\{(.*?)\}", rest):
        sizes = {axis: int(size) for axis, size in re.findall(r"('\w+')=(\d+)", of_mesh[1])}
        axes = re.findall(r"('\w+')(?::\(\d+\)(\d+))?", of_mesh[2])
        return math.prod(int(part) if part else sizes[axis] for axis, part in axes)
    return 1


def _bytes(dtype: str, dimensions: str) -> int:
    bits = re.search(r"\d+", dtype)
    count = math.prod(int(length) for length in dimensions.split(",") if length)
    return count * (int(bits[0]) // 8 if bits else 1)  # pred is a byte
