"""The tables of docs/scale.md: formulas beside what XLA compiled, and the first limit of larger machines."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from benchmarks.page import DOCS
from benchmarks.scale_formulas import Formulas, Size

PAGE = DOCS / "scale.md"
TOKENS_OF_A_BATCH = 4e6  # of Llama 2 (Touvron et al. 2023); larger ones teach less a token


class Machine(NamedTuple):
    """A mesh on devices of one kind, and what the maker says that they have.

    Attributes:
      device: its name.
      num_devices: in all.
      axes: of the mesh.
      flops: bfloat16, dense, a second.
      memory: bytes of a device.
      near: bytes a second that come into a device over the axis fsdp.
      far: bytes a second that come into a device over the axis data.
    """

    device: str
    num_devices: int
    axes: dict[str, int]
    flops: float
    memory: float
    near: float
    far: float


def _h100(data: int) -> Machine:
    return Machine("H100", 8 * data, {"data": data, "fsdp": 8}, 989e12, 80e9, 450e9, 50e9)


def _v5p(fsdp: int, links: int) -> Machine:
    return Machine("TPU v5p", fsdp, {"fsdp": fsdp}, 459e12, 95e9, links * 100e9, links * 100e9)


MACHINES = (_h100(1), _h100(32), _h100(512), _v5p(8, 3), _v5p(256, 6), _v5p(4096, 6))


def write(results: Mapping[str, Any]) -> None:
    """Puts the tables into the page, each between its two comments."""
    text = PAGE.read_text()
    for name, table in tables(results).items():
        between = re.compile(rf"(<!-- table: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        text, found = between.subn(lambda match, table=table: f"{match[1]}\n{table}\n\n{match[2]}", text)
        assert found == 1, name
    PAGE.write_text(text)


def tables(results: Mapping[str, Any]) -> dict[str, str]:
    """The tables as Markdown, by name."""
    return {
        "compiled": _table(COMPILED, _compiled(results)),
        "overlap": _table(OVERLAP, _overlap(results)),
        "limits": _table(LIMITS, map(_limits, MACHINES)),
    }


COMPILED = ("model", "mesh", "state", "temporaries", "gathered", "reduced", "other", "flops, x the ideal")
OVERLAP = ("compiled for", "program", "collectives", "start and done apart", "with computation in between")
LIMITS = (
    *("devices", "mesh", "state", "kept in a step", "of memory", "compute", "communicate", "of compute"),
    *("tokens a batch", "first limit"),
)


def _compiled(results: Mapping[str, Any]) -> Iterator[list[str]]:
    for row in _rows(results):
        by = Formulas(Size(**row["size"]), row["axes"], tokens=row["size"]["context"])
        received = dict(row["received"])
        gathered, reduced = received.pop("all-gather"), received.pop("all-reduce")
        other = sum(received.values())
        yield [
            f"{by.size.params / 1e9:.2f} B",
            ": ".join(filter(None, [_mesh(row["axes"]), row["note"]])),
            _beside(row["state"], by.state, 4),
            _beside(row["temporaries"], by.temporaries, 2),
            _beside(gathered, by.gathered, 2),
            _beside(reduced, by.reduced, 2),
            f"{other / 1e9:.2f}" if other else "0",
            f"{row['flops'] / by.flops:.3f}",
        ]


def _overlap(results: Mapping[str, Any]) -> Iterator[list[str]]:
    rows = list(_rows(results))
    counts = [str(sum(row[key] for row in rows)) for key in ("collectives", "async", "overlapped")]
    yield ["CPU", f"the {len(rows)} above, together", *counts]
    for row in results.get("tpu", {}).get("rows", ()):
        counts = [str(row[key]) for key in ("collectives", "async", "overlapped")]
        yield [f"TPU {row['topology']}", f"one block, {_mesh(row['axes'])}, bfloat16", *counts]


def _limits(machine: Machine) -> list[str]:
    size = Size(layers=35, width=4096, heads=32)
    by = Formulas(size, machine.axes, tokens=size.context, num_bytes=2)
    f, d = machine.axes["fsdp"], machine.axes.get("data", 1)
    kept = by.temporaries + 2 * by.used  # gradients, bfloat16, of all parameters at the end
    memory = (by.state + kept) / machine.memory
    compute_s = by.flops / machine.flops
    far = 2 * 2 * by.used / f * (d - 1) / d
    communicate_s = (by.gathered + by.scattered - far) / machine.near + far / machine.far
    batch = size.context * f * d
    shares = {
        "memory": memory,
        "communication": communicate_s / compute_s,
        "the batch": batch / TOKENS_OF_A_BATCH,
    }
    first = max(shares, key=lambda name: shares[name])
    return [
        f"{machine.num_devices:,} {machine.device}",
        _mesh(machine.axes),
        f"{by.state / 1e9:.2f} GB",
        f"{kept / 1e9:.0f} GB",
        f"{memory:.2f}",
        f"{compute_s * 1e3:.0f} ms",
        f"{communicate_s * 1e3:.0f} ms",
        f"{shares['communication']:.2f}",
        f"{batch / 1e6:.2f} M",
        first if shares[first] > 1 else f"none; nearest {first}",
    ]


def _rows(results: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    rows = [row for name, run in results.items() if name != "tpu" for row in run["rows"]]
    yield from sorted(rows, key=lambda row: (row["size"]["width"], _devices(row["axes"])))


def _devices(axes: Mapping[str, int]) -> int:
    number = 1
    for length in axes.values():
        number *= length
    return number


def _mesh(axes: Mapping[str, int]) -> str:
    return ", ".join(f"{name}={length}" for name, length in axes.items())


def _beside(measured: float, formula: float, digits: int) -> str:
    """A formula's gigabytes and those of the program, and their ratio."""
    if not formula:
        return f"{measured / 1e9:.2f}" if measured else "0"
    return f"{formula / 1e9:.2f}, {measured / 1e9:.2f}: {measured / formula:.{digits}f}"


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    heads = list(heads)
    lines = [heads, ["---", "---", *["---:"] * (len(heads) - 2)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
