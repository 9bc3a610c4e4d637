"""A work: the same job given to every side, measured in turn, and only of sides that learn."""

import dataclasses
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import statistics
from benchmarks.machine import today, versions
from benchmarks.process import Absent, SideError, SideProcess

Sides = Mapping[str, dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Side:
    """One side of a work.

    Attributes:
      factory: "module:name" of what makes it.
      does: what a step of it holds beside the update, in a few words, for the page.
      options: of the factory.
      share: of the work's amount that a round of this side does, where a full round would take long.
    """

    factory: str
    does: str = ""
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    share: float = 1.0


@dataclasses.dataclass(frozen=True)
class Reach:
    """A figure to reach, what was measured, and whether it was reached; None where a side is missing."""

    reach: str
    measured: str
    met: bool | None


Say = Callable[[str], None]
Counted = Callable[[Mapping[str, Any], Mapping[str, Side], Say], Mapping[str, Mapping[str, float]]]


@dataclasses.dataclass(frozen=True)
class Work:
    """What is measured, of whom, and what is expected.

    Attributes:
      name: on the command line and in the results.
      title: of its table.
      sides: by the name that the table gives them.
      against: the side that the others are divided by.
      job: what `benchmarks.jobs.Job` takes; other settings of the sides in `settings`.
      amount: units of work in a round, and `per`, what a unit is.
      learn: units of training before the scores that say whether a side learns; 0 asks for no training.
      must: what the scores have to be, by name: ("at most" | "at least", value).
      unit, scale: of the page's figures: seconds times `scale`.
      rounds: how many by default; `warmup` more go before them and are not counted.
      counted: gives facts of sides, by name, that are counted and not timed, after the rounds; it is called
        with the settings, the measured sides and what to tell of it.
      reaches: from the measured sides to what was to be reached.
      notes: sentences under the table.
    """

    name: str
    title: str
    sides: Mapping[str, Side]
    against: str
    job: Mapping[str, Any] | None = None
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    amount: int = 1
    per: str = "step"
    learn: int = 0
    must: Mapping[str, tuple[str, float]] = dataclasses.field(default_factory=dict)
    unit: str = "ms"
    scale: float = 1e3
    rounds: int = 9
    warmup: int = 1
    counted: Counted | None = None
    reaches: Callable[[Sides], list[Reach]] = lambda sides: []
    notes: Sequence[str] = ()
    environment: Mapping[str, str] = dataclasses.field(default_factory=lambda: {"JAX_PLATFORMS": "cpu"})


def measure(work: Work, *, rounds: int, threads: int, say: Say = lambda line: None) -> dict[str, Any]:
    """Starts every side, sees that it learns, and runs all in turn.

    Args:
      work: what to measure.
      rounds: how many are counted.
      threads: cores that each side's process may use.
      say: told what is going on.

    Returns:
      The work's part of the results, as JSON.
    """
    sides: dict[str, dict[str, Any]] = {}
    processes: dict[str, SideProcess] = {}
    with tempfile.TemporaryDirectory() as folder:
        settings = {**work.settings, "threads": threads}
        if work.job is not None:
            values = Path(folder) / "values.npz"
            export = [sys.executable, "-m", "benchmarks.initial_values", work.job["name"], str(values)]
            subprocess.run(export, check=True, cwd=Path(__file__).parents[1], env=None)
            settings["job"] = {**work.job, "values": str(values)}
        try:
            for name, side in work.sides.items():
                sides[name] = {"does": side.does}
                processes |= _begin(work, name, side, settings, sides[name])
                say(f"{work.name}: {name}: {_how_it_began(sides[name])}")
            _in_turn(work, processes, sides, rounds, say)
        finally:
            for process in processes.values():
                process.close()
        if work.counted is not None:
            kept = {name: work.sides[name] for name in processes}
            for name, facts in work.counted(settings, kept, say).items():
                sides[name].setdefault("facts", {}).update(facts)
    return summary(work, sides, rounds)


def refusal(scores: Mapping[str, float], must: Mapping[str, tuple[str, float]]) -> str | None:
    """Why a side does not learn, or None where its scores are what they must be.

    >>> refusal({"loss": 2.3}, {"loss": ("at most", 0.3)})
    'does not learn: loss is 2.3, which must be at most 0.3'
    """
    for name, (bound, value) in must.items():
        score = scores.get(name, float("nan"))
        if not (score <= value if bound == "at most" else score >= value):
            return f"does not learn: {name} is {score:.4g}, which must be {bound} {value:g}"
    return None


def summary(work: Work, sides: dict[str, dict[str, Any]], rounds: int) -> dict[str, Any]:
    """The sides with their medians, spreads and ratios, and what was reached."""
    base = sides.get(work.against, {}).get("seconds")
    for side in sides.values():
        seconds = side.get("seconds")
        if not seconds:
            continue
        side["median_s"] = statistics.quantile(seconds, 0.5)
        side["spread_s"] = [min(seconds), max(seconds)]
        if base and len(base) == len(seconds):
            side["ratio"] = statistics.ratio(seconds, base)._asdict()
        samples = side.pop("samples", None)
        if samples:
            quantiles = {f"p{100 * q:g}_s": statistics.quantile(samples, q) for q in (0.5, 0.95, 0.99)}
            side["samples"] = {"count": len(samples), **quantiles}
    return {
        "title": work.title,
        "date": today(),
        "versions": versions(),
        "rounds": rounds,
        "amount": work.amount,
        "per": work.per,
        "unit": work.unit,
        "scale": work.scale,
        "against": work.against,
        "learn": work.learn,
        "must": {name: list(bound) for name, bound in work.must.items()},
        "sides": sides,
        "reaches": [dataclasses.asdict(reach) for reach in work.reaches(sides)],
        "notes": list(work.notes),
    }


def _begin(
    work: Work, name: str, side: Side, settings: Mapping[str, Any], told: dict[str, Any]
) -> dict[str, SideProcess]:
    """Starts a side, trains it and looks at its scores; {} where it is absent, fails or does not learn."""
    process = None
    try:
        process = SideProcess(side.factory, settings, side.options, environment=work.environment)
        told["start_s"] = process.start_s
        told["first_s"] = process.learn(1)["seconds"]
        if work.learn > 1:
            process.learn(work.learn - 1)
        told["peak_memory_bytes"] = process.peak_memory_bytes
        told |= process.scores()
    except Absent as error:
        told["absent"] = str(error)
        return {}
    except SideError as error:
        told["failed"] = str(error)
        return {}
    told_why = refusal(told["scores"], work.must)
    if told_why is not None:
        told["refused"] = told_why
        process.close()
        return {}
    return {name: process}


def _in_turn(
    work: Work,
    processes: dict[str, SideProcess],
    sides: dict[str, dict[str, Any]],
    rounds: int,
    say: Say,
) -> None:
    """Every side once a round, forwards and backwards by turns; the warm-up is not counted."""
    for number in range(1 - work.warmup, rounds + 1):
        order = list(processes) if number % 2 else list(reversed(processes))
        for name in order:
            amount = max(round(work.amount * work.sides[name].share), 1)
            try:
                answer = processes[name].run(amount)
            except SideError as error:
                sides[name] = {"does": work.sides[name].does, "failed": str(error)}
                processes.pop(name).close()
                continue
            if number <= 0:
                processes[name].idle_cpu_s = 0.0
                continue
            sides[name].setdefault("seconds", []).append(answer["seconds"] / amount)
            sides[name].setdefault("samples", []).extend(answer.get("samples", []))
            sides[name].setdefault("facts", {}).update(answer.get("facts", {}))
        if number > 0:
            say(f"{work.name}: round {number} of {rounds}")
    for name, process in processes.items():
        sides[name]["idle_cpu_s"] = process.idle_cpu_s


def _how_it_began(told: Mapping[str, Any]) -> str:
    for why in ("absent", "failed", "refused"):
        if why in told:
            return told[why]
    scores = ", ".join(f"{name} {value:.4g}" for name, value in told["scores"].items())
    return f"started in {told['start_s']:.1f} s, first step {told['first_s']:.2f} s, {scores}"
