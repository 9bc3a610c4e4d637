"""Trace: some steps of a loop under JAX's profiler."""

import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import jax

from fourbeat.looping import Tick


class UntracedWarning(UserWarning):
    """A loop had none of the steps that were to be traced."""


def trace(loop: Iterable[Tick], *, steps: range, out: str | os.PathLike) -> Iterator[Tick]:
    """The ticks of `loop`; while those of some steps run, JAX's profiler writes what the machine does.

    The profile begins before the first of the steps and ends when the device has finished the last. Each tick
    in it is annotated with its step. When it is written, its place and how to open it are printed. An error
    or a `break` in the loop's body ends it too.

    Args:
      loop: from `fourbeat.loop`, or `fourbeat.progress` of it.
      steps: as `tick.step` counts, from 1; a tick of several steps is traced if one of them is among these.
        Leave out the first steps: they compile.
      out: folder to write to; it is made where it is missing.

    Yields:
      The ticks.

    Raises:
      ValueError: `steps` is empty, or has gaps.

    Warns:
      UntracedWarning: when the loop has ended, if it had none of these steps.

    >>> import fourbeat as fb, numpy as np, tempfile
    >>> ticks = fb.loop([{"x": np.ones(2)}], until=fb.at(steps=3))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for tick in trace(ticks, steps=range(2, 3), out=folder):
    ...         pass
    steps 2 to 2 are traced: .../plugins/profile/...xplane.pb
    ...
    """
    if not isinstance(steps, range) or len(steps) == 0 or steps.step != 1 or steps.start < 1:
        raise ValueError(
            f"steps is {steps!r}. Give consecutive ones as tick.step counts them, from 1: range(10, 20) are "
            "the 10th to the 19th."
        )
    return _traced(loop, steps, Path(out))


def _traced(loop: Iterable[Tick], steps: range, out: Path) -> Iterator[Tick]:
    profile, seen, last = ExitStack(), [], 0
    try:
        for tick in loop:
            last, num_steps = tick.step, tick.num_steps
            if not (last >= steps.start and last - num_steps + 1 < steps.stop and num_steps):
                if seen:
                    profile.close()
                yield tick
                continue
            if not seen:
                _wait_for_the_device()  # steps before these may still run
                jax.profiler.start_trace(out)
                profile.callback(_end, out, seen)
            seen += range(last - num_steps + 1, last + 1)
            with jax.profiler.StepTraceAnnotation("step", step_num=last):
                yield tick
    finally:
        profile.close()
    if not seen:
        warnings.warn(
            f"no step was traced: steps is {steps!r}, and the loop ended after step {last}. Give steps that "
            "it has.",
            UntracedWarning,
            stacklevel=2,
        )


def _wait_for_the_device() -> None:
    jax.block_until_ready(jax.live_arrays())


def _end(out: Path, seen: list[int]) -> None:
    _wait_for_the_device()
    jax.profiler.stop_trace()
    newest = max(out.glob("plugins/profile/*/*.xplane.pb"), key=lambda path: path.stat().st_mtime)
    print(
        f"steps {seen[0]} to {seen[-1]} are traced: {newest}\n"
        f"Open it with `pip install xprof` and `xprof --logdir {out}`; or open the file *.trace.json.gz "
        "beside it at https://ui.perfetto.dev."
    )
