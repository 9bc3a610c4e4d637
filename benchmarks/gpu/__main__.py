"""`python -m benchmarks.gpu`: measures within a given time and writes the results of the card."""

import argparse
import itertools
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import results, statistics
from benchmarks.__main__ import write_page
from benchmarks.machine import machine, machine_kind, num_threads, today, versions
from benchmarks.page import DOCS, table
from benchmarks.process import Absent, SideError, SideProcess
from benchmarks.reaching import all_faster, at_least_times_less
from benchmarks.work import Reach, refusal

FUSED, NNX, GRAPHS = "fourbeat, 100 steps a call", "Flax nnx.jit loop", "PyTorch CUDA graphs"
BARE = "bare executable, one batch"
SIDES = {
    BARE: "benchmarks.gpu.jax_sides:bare",
    "fourbeat": "benchmarks.gpu.jax_sides:fourbeat",
    FUSED: "benchmarks.gpu.jax_sides:fused",
    NNX: "benchmarks.gpu.jax_sides:nnx_jit",
    "PyTorch eager": "benchmarks.gpu.torch_sides:Eager",
    "PyTorch torch.compile": "benchmarks.gpu.torch_sides:Compiled",
    GRAPHS: "benchmarks.gpu.torch_sides:Graphs",
}
PRECISIONS = ("float32", "tensorfloat32", "bfloat16")
BATCH_SIZES = (32, 256, 1_024, 4_096)
LEARN = {"mnist-cnn": 150, "mlp": 1_000}
MUST = {"loss": ("at most", 0.6), "accuracy": ("at least", 0.8)}


def main(arguments: list[str] | None = None) -> None:
    """Roofline and laws first, then each job, precision and batch size while time is left."""
    flags = parse(arguments)
    ends = time.monotonic() + flags.seconds
    about = machine(flags.threads)
    works = {}
    with tempfile.TemporaryDirectory() as folder:
        names = {name for name, _, _ in plan(flags.tiny)}
        jobs = {name: job_of(name, Path(folder), flags.tiny) for name in names}
        settings = {
            "threads": flags.threads,
            "tiny": flags.tiny,
            "job": jobs["mlp" if flags.tiny else "mnist-cnn"],
        }
        card = asked("benchmarks.gpu.card:Card", settings)
        about |= {"card": card["card"]} if card["card"] else {}
        print(f"on {card['card'] or 'the CPU: there is no GPU, so no figure here is one of a GPU'}")
        print(card["words"])
        works["gpu-card"] = as_work(card)
        processes, why_not = started(settings, flags.sides)
        try:
            for job, precision, batch_size in plan(flags.tiny):
                name = f"gpu-{job}-{precision}-{batch_size}"
                if not any(word in name for word in flags.works):
                    continue
                if time.monotonic() > ends:
                    print(f"left out, as {flags.seconds} s are over: {name}")
                    continue
                told = {"job": jobs[job], "precision": precision, "batch_size": batch_size}
                work = measured(processes, why_not, told, flags)
                add_shares(work["sides"], card["roofline"], precision)
                works[name] = work
                print(f"\n{work['title']}\n{table(work)}", flush=True)
        finally:
            for process in processes.values():
                process.close()
    took = f"{time.monotonic() - ends + flags.seconds:.0f} s"
    if not card["card"] and flags.results is None:
        print(f"{took}; nothing is kept, as there is no GPU. --results FOLDER keeps it nevertheless.")
        return
    folder = flags.results or results.FOLDER
    path = folder / f"{machine_kind(about) if card['card'] else 'no-gpu'}.json"
    results.write(path, about, works)
    if card["card"]:
        write_page(folder, flags.docs)
    print(f"{took}; written to {path}")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="benchmarks/gpu.sh", description=main.__doc__)
    parser.add_argument("--tiny", action="store_true", help="an MLP and sizes that a CPU finishes in seconds")
    parser.add_argument("--seconds", type=int, default=540, help="nothing new begins after this")
    parser.add_argument("--threads", type=int, default=num_threads(), help="cores that each side may use")
    parser.add_argument("--rounds", type=int, default=7, help="counted rounds of each side")
    parser.add_argument("--sides", nargs="+", default=[""], help="only sides whose name holds one of these")
    parser.add_argument("--works", nargs="+", default=[""], help="only works whose name holds one of these")
    parser.add_argument("--results", type=Path, help="folder of the JSON file")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of benchmarks.md")
    return parser.parse_args(arguments)


def plan(tiny: bool) -> list[tuple[str, str, int]]:
    """Jobs, precisions and batch sizes, the most telling first.

    >>> plan(False)[2:4]
    [('mnist-cnn', 'bfloat16', 32), ('mlp', 'float32', 32)]
    """
    if tiny:
        return [("mlp", "bfloat16", 4)]
    all_of_them = itertools.product(BATCH_SIZES, ("mnist-cnn", "mlp"), PRECISIONS)
    return [(job, precision, size) for size, job, precision in all_of_them]


def job_of(name: str, folder: Path, tiny: bool) -> dict[str, Any]:
    """What every side is told of a job; its initial values lie in the folder."""
    values = str(folder / f"{name}.npz")
    subprocess.run([sys.executable, "-m", "benchmarks.initial_values", name, values], check=True)
    return {"name": name, "values": values, "num_test": 200 if tiny else 2_000}


def asked(factory: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What a process of its own finds out."""
    with SideProcess(factory, settings, {}) as process:
        return process.run(1)


def started(
    settings: Mapping[str, Any], words: list[str]
) -> tuple[dict[str, SideProcess], dict[str, dict[str, str]]]:
    """A process for each side whose name holds one of the words, and why some have none."""
    processes, why_not = {}, {}
    for name, factory in SIDES.items():
        if not any(word in name for word in words):
            continue
        try:
            processes[name] = SideProcess(factory, settings, {})
        except Absent as error:
            why_not[name] = {"absent": str(error)}
        except SideError as error:
            why_not[name] = {"failed": str(error)}
        print(f"{name}: {why_not.get(name, 'started')}", flush=True)
    return processes, why_not


def measured(
    processes: Mapping[str, SideProcess],
    why_not: Mapping[str, dict[str, str]],
    told: Mapping[str, Any],
    flags: argparse.Namespace,
) -> dict[str, Any]:
    """One job, precision and batch size: every side learns, then all in turn."""
    sides: dict[str, dict[str, Any]] = {name: dict(why) for name, why in why_not.items()}
    learn, steps = (3, 2) if flags.tiny else (LEARN[told["job"]["name"]], 200)
    taking_part = {}
    for name, process in processes.items():
        try:
            answer = process.learn({**told, "steps": learn})
        except SideError as error:
            sides[name] = {"failed": str(error)}
            continue
        sides[name] = side = {key: answer[key] for key in ("first_s", "scores", "facts")}
        side["peak_memory_bytes"] = answer["card_memory_bytes"]
        why = None if flags.tiny else refusal(side["scores"], MUST)
        if why is None:
            taking_part[name] = process
        else:
            side["refused"] = why
    for number in range(flags.rounds + 1):
        for name in list(taking_part) if number % 2 else reversed(list(taking_part)):
            seconds = taking_part[name].run({"steps": steps})["seconds"] / steps
            if number:
                sides[name].setdefault("seconds", []).append(seconds)
    title = f"{told['job']['name']} in {told['precision']}, batch {told['batch_size']:,}: a step"
    return summary(sides, title, flags.rounds, steps, learn)


def summary(
    sides: dict[str, dict[str, Any]], title: str, rounds: int, steps: int, learn: int
) -> dict[str, Any]:
    """As the results keep a work."""
    for side in sides.values():
        if "seconds" in side:
            side["median_s"] = statistics.quantile(side["seconds"], 0.5)
            side["spread_s"] = [min(side["seconds"]), max(side["seconds"])]
            if "seconds" in sides.get(NNX, {}):
                side["ratio"] = statistics.ratio(side["seconds"], sides[NNX]["seconds"])._asdict()
    graphs = {name: sides.get(name, {}) for name in (FUSED, GRAPHS)}
    reaches = [at_least_times_less(sides, FUSED, NNX, 10), all_faster(graphs, FUSED, besides=())]
    return {
        "title": title,
        "date": today(),
        "versions": versions(),
        "rounds": rounds,
        "amount": steps,
        "per": "step",
        "unit": "us",
        "scale": 1e6,
        "against": NNX,
        "learn": learn,
        "must": {name: list(bound) for name, bound in MUST.items()},
        "sides": sides,
        "reaches": [vars(reach) for reach in reaches if "batch 32:" in title],
        "notes": ["All data stays on the card, but for the nnx.jit loop, which puts each batch there."],
    }


def add_shares(sides: Mapping[str, Any], roofline: Mapping[str, float], precision: str) -> None:
    """The shares of the card's matrix rate and bandwidth that the bare executable comes to."""
    side = sides.get(BARE, {})
    if "seconds" not in side:
        return
    facts = side["facts"]
    facts["of the matrix rate"] = 1e9 * facts["gigaflops"] / side["median_s"] / roofline[precision]
    facts["of the bandwidth"] = 1e9 * facts["gigabytes"] / side["median_s"] / roofline["bytes_per_s"]


def as_work(card: Mapping[str, Any]) -> dict[str, Any]:
    """Roofline and laws as a work: no sides, but what was found."""
    return {
        "title": "The card: roofline, law 3, determinism",
        "date": today(),
        "versions": versions(),
        "rounds": 1,
        "amount": 1,
        "per": "look",
        "unit": "s",
        "scale": 1.0,
        "against": "",
        "learn": 0,
        "must": {},
        "sides": {},
        "reaches": [vars(Reach(*law)) for law in card["laws"]],
        "notes": [card["words"]],
        "roofline": card["roofline"],
    }


if __name__ == "__main__":
    main()
