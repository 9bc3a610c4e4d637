"""`python -m benchmarks [NAME ...]`: measures, writes benchmarks/results and docs/benchmarks.md."""

import argparse
import dataclasses
import time
from pathlib import Path

from benchmarks import chart, page, results
from benchmarks.machine import machine, machine_kind, num_threads
from benchmarks.work import Work, measure
from benchmarks.works import (
    accumulation,
    compiling,
    convolutions,
    data_sources,
    evaluation,
    feeding,
    growth,
    linear_regression,
    many_classes,
    mlp,
    mnist_cnn,
    safety,
    saves,
    small_steps,
    starting,
    time_to_accuracy,
    waiting,
)

MODULES = (mnist_cnn, mlp, small_steps, growth, linear_regression, evaluation, accumulation, safety, saves)
MODULES = (*MODULES, waiting, time_to_accuracy, convolutions, data_sources, many_classes, feeding, starting)
MODULES = (*MODULES, compiling)
WORKS = {work.name: work for module in MODULES for work in module.WORKS}
CHART = "benchmarks.svg"


def main(arguments: list[str] | None = None) -> None:
    """Runs the chosen works, all by default."""
    flags = parse(arguments)
    about = machine(flags.threads)
    path = flags.results / f"{machine_kind(about)}.json"
    began = time.perf_counter()
    for name in () if flags.page_only else flags.names or WORKS:
        started = time.perf_counter()
        work = chosen(WORKS[name], flags)
        rounds = flags.rounds or work.rounds
        measured = measure(
            work, rounds=rounds, threads=flags.threads, say=lambda line: print(line, flush=True)
        )
        results.write(path, about, {name: measured})
        print(f"\n{page.table(measured)}\n{name} took {time.perf_counter() - started:.0f} s\n", flush=True)
    write_page(flags.results, flags.docs)
    print(f"{time.perf_counter() - began:.0f} s; written to {path} and {flags.docs / 'benchmarks.md'}")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="fourbeat beside its peers.")
    parser.add_argument("names", nargs="*", choices=[*WORKS, []], metavar="NAME", help=", ".join(WORKS))
    parser.add_argument("--rounds", type=int, help="counted rounds of each side, in place of each work's own")
    parser.add_argument("--sides", nargs="+", help="only sides whose name holds one of these words")
    parser.add_argument("--smoke", action="store_true", help="2 short rounds: figures without meaning")
    parser.add_argument("--threads", type=int, default=num_threads(), help="cores that each side may use")
    parser.add_argument("--results", type=Path, default=results.FOLDER, help="folder of the JSON files")
    parser.add_argument("--docs", type=Path, default=page.DOCS, help="folder of benchmarks.md")
    parser.add_argument(
        "--page-only", action="store_true", help="write the page from the results that are there"
    )
    return parser.parse_args(arguments)


def chosen(work: Work, flags: argparse.Namespace) -> Work:
    """The work as the flags ask for it."""
    if flags.sides:
        kept = {n: side for n, side in work.sides.items() if any(word in n for word in flags.sides)}
        work = dataclasses.replace(work, sides=kept)
    if flags.smoke:
        flags.rounds = flags.rounds or 2
        work = dataclasses.replace(work, amount=max(work.amount // 10, 1), counted=None)
    return work


def write_page(folder: Path, docs: Path) -> None:
    """docs/benchmarks.md and its chart, from every file of results."""
    files = sorted(folder.glob("*.json"))
    found = sorted((results.read(file) for file in files), key=lambda read: "card" in read["machine"])
    drawn = bool(found) and chart.save(found[0], docs / CHART)
    docs.mkdir(parents=True, exist_ok=True)
    (docs / "benchmarks.md").write_text(page.page(found, CHART if drawn else None))


if __name__ == "__main__":
    main()
