"""What goes wrong between processes: what was done, what each printed, after how many seconds, its status."""

import re
import socket
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from benchmarks.processes import tables
from tests.distributed import processes

PROGRAM = Path(__file__).parent / "training.py"
LONGEST_S = 90


class Failure(NamedTuple):
    """A trial.

    Attributes:
      done: what is done, as a reader says it.
      arguments: of the program.
      num_processes: that it is started for.
      ids: which of them are started; all by default.
      variables: by place in `ids`, further ones.
      taken: whether another program has the coordinator's port.
    """

    done: str
    arguments: Sequence[str] = ()
    num_processes: int = 2
    ids: Sequence[int] | None = None
    variables: Mapping[int, Mapping[str, str]] = {}
    taken: bool = False


def event(name: str, victim: int, *others: str) -> list[str]:
    """The arguments by which something happens at step 20 of a process."""
    return ["--event", name, "--victim", str(victim), *others]


SHORT = ("--timeout", "8")
FAILURES = [
    Failure("process 0 is not started; `timeout_s=8`", SHORT, ids=[1]),
    Failure(
        "the coordinator's host has another name; `timeout_s=8`",
        SHORT,
        ids=[1],
        variables={0: {"JAX_COORDINATOR_ADDRESS": "node-that-is-not.invalid:8476"}},
    ),
    Failure("another program listens at the coordinator's port", SHORT, taken=True),
    Failure("process 2 of 3 is not started; `timeout_s=8`", SHORT, 3, ids=[0, 1]),
    Failure("two processes are started as number 1 of 3", SHORT, 3, ids=[0, 1, 1]),
    Failure("one is started as number 2 of 2", SHORT, ids=[0, 2]),
    Failure(
        "one is started for 3 processes, the other for 2",
        SHORT,
        ids=[0, 1],
        variables={1: {"JAX_NUM_PROCESSES": "3"}},
    ),
    Failure("`jax.devices()` before `initialize()`", ["--before", "devices"]),
    Failure("a second `initialize`, for 5 processes", ["--before", "other"]),
    Failure("`initialize` is not called", ["--not-joined"]),
    Failure("process 1 is killed (SIGKILL)", event("kill", 1)),
    Failure("process 0, the coordinator, is killed (SIGKILL)", event("kill", 0)),
    Failure("process 2 of 3 is killed (SIGKILL)", event("kill", 2), 3),
    Failure("process 1 is stopped (SIGSTOP); `heartbeat_s=20`", event("stop", 1)),
    Failure("process 0 is stopped (SIGSTOP); `heartbeat_s=20`", event("stop", 0)),
    Failure("process 1 raises", event("raise", 1)),
    Failure("process 0 raises", event("raise", 0)),
    Failure("process 1 runs out of memory (`MemoryError`)", event("memory", 1)),
    Failure("process 1 ends by `sys.exit(3)`; `heartbeat_s=20`", event("exit", 1)),
    Failure("process 1 takes 5 s more for each step", event("slow", 1, "--steps", "24")),
]


def run(only: str | None) -> str:
    """Runs the failures, and gives their table."""
    rows: list[list[str]] = []
    for failure in FAILURES:
        if only is None or only in failure.done:
            found = rows_of(failure)
            rows.extend(found)
            print("\n".join(map(" | ".join, found)), flush=True)
    return tables.markdown(HEAD, rows)


HEAD = ("what was done", "process", "what it printed", "line after", "end after", "status")


def rows_of(failure: Failure) -> list[list[str]]:
    """One row for each process that was started."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port = processes.free_port()
        if failure.taken:
            stack.enter_context(socket.create_server(("127.0.0.1", port)))
        started = processes.start(
            PROGRAM, failure.num_processes, folder, port=port, ids=failure.ids, variables=failure.variables,
            arguments=failure.arguments, kill_after_s=LONGEST_S,
        )  # fmt: skip
        for each in started:
            stack.callback(each.kill)
        lines = first_lines(started)
        done = [each.ended() for each in started]
    happened = [times_of(each.output) for each in done]
    last = max(time for times in happened for time in times)
    rows = []
    for number, (line, each, times) in enumerate(zip(lines, done, happened, strict=True)):
        began = last if len(times) > 1 or any(len(other) > 1 for other in happened) else times[0]
        seen = ("(nothing)", "") if line is None else (f"`{plain(line[0])}`", f"{line[1] - began:.1f} s")
        index = failure.ids[number] if failure.ids is not None else number
        ended = "killed by this trial" if each.at - began > LONGEST_S - 15 else f"{each.at - began:.1f} s"
        rows.append([failure.done if number == 0 else "", str(index), *seen, ended, str(each.status)])
    return rows


def first_lines(started: Sequence[processes.Started]) -> list[tuple[str, float] | None]:
    """The first line with a cause that each process printed, and when. One that is stopped never ends."""
    seen: list[dict[str, float]] = [{} for _ in started]
    while any(each.ended_at is None for each in started):
        for each, lines in zip(started, seen, strict=True):
            note_causes(each.errors.read_text(), lines)
        alive = [each for each in started if each.ended_at is None]
        if all(each.is_stopped() for each in alive):
            for each in alive:
                each.kill()
        time.sleep(0.05)
    for each, lines in zip(started, seen, strict=True):
        note_causes(each.errors.read_text(), lines)
    return [
        min(lines.items(), key=lambda line: not line[0].startswith("fourbeat:"), default=None)
        for lines in seen
    ]


def note_causes(errors: str, seen: dict[str, float]) -> None:
    """Notes the lines of fourbeat, and that of the exception that ended the process, with the time."""
    pattern = r"^(fourbeat: (?!process 0 waits).*|(?:\w+\.)*\w*Error(?:: .*)?)\n"
    for line in re.findall(pattern, errors, re.MULTILINE):
        seen.setdefault(line, time.time())


def times_of(output: str) -> list[float]:
    """When the program began to join, and when the event happened, as it printed them."""
    return [float(found) for found in re.findall(r"^event (\S+)$", output, re.MULTILINE)]


def plain(line: str) -> str:
    """Without what differs from run to run."""
    line = re.sub(r"^(\w+\.)+", "", line)
    return re.sub(r"pid \d+", "pid N", re.sub(r"\(\S+, pid", "(host, pid", line)).replace("`", "'")
