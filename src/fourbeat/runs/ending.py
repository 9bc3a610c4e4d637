"""The end of a fitted run: what it reached, where its time went, where it lies, what to do next."""

import shlex

from fourbeat.distributed import speaks
from fourbeat.runs import goodput
from fourbeat.runs.printing import printable, say
from fourbeat.runs.run_directory import RunDirectory
from fourbeat.runs.run_on_disk import Run

_TAKES = {"predict": " FILE..."}  # what a command needs beside the run


def show_end(run: RunDirectory, *commands: str, group: str = "test") -> None:
    """Prints what a run reached, where its time went and it lies, and what to do next.

    Call it after `run.finish`.

    Args:
      run: that has its result.
      commands: those of `fourbeat` that take this run, such as "evaluate" and "predict"; "report" is always
        one.
      group: what the numbers of the result are of.
    """
    if not speaks():
        return
    seen, path = Run.read(run.path), shlex.quote(run.name)
    reached = [f"{group} {name} {value:.4f}" for name, value in (seen.result or {}).items()]
    best = seen.best.get(seen.record.score or "")
    if best is not None:
        name = str(seen.record.score).replace("_", " ")
        reached.append(f"best {name} {best['score']:.4f} at step {best['step']}")
    say(*reached, f"after step {seen.step}")
    say(goodput.in_words(run.seconds()))
    print(f"written to {printable(run.name)}")
    then = [f"fourbeat {command} {path}{_TAKES.get(command, '')}" for command in (*commands, "report")]
    say("next:", *then)
