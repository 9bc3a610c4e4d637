"""fourbeat's main job with one thing more, step by step: what safety and watching cost."""

import io
import time

import jax

import fourbeat as fb
from benchmarks.peers.fourbeat_loop import Fourbeat
from benchmarks.peers.scratch import scratch_folder


class Watched(Fourbeat):
    """The loop, in which every step is waited for and timed by itself.

    Args:
      settings: with the job.
      logging: whether every hundredth step is logged to a file of JSON lines.
      progress: whether the loop has a progress line.
      options: of `Fourbeat`.

    Attributes:
      line_every: steps between two lines of the log.
    """

    def __init__(self, settings, *, logging=False, progress=False, metrics=False, **options):
        super().__init__(settings, metrics=metrics, **options)
        self.progress, self.line_every = progress, 100
        self.logger = fb.loggers.JsonLines(scratch_folder(self) / "log.jsonl") if logging else None
        cost = self.step.lower(self.state, self.batches[0]).compile().cost_analysis()
        self.step = fb.compile(self.beats.train_step, compiler_options=self.compiler_options)
        self.facts |= {"gigaflops": cost["flops"] / 1e9, "gigabytes": cost["bytes accessed"] / 1e9}

    def run(self, amount):
        """Goes on from `state.step`; the seconds of every step are samples."""
        state, step, samples = self.state, self.step, []
        log = fb.every(steps=self.line_every)
        until = fb.at(steps=int(state.step) + amount) | fb.stop_signal()
        loop = fb.loop(self.batches, start=state.step, until=until, marks=[log])
        began = time.perf_counter()
        for tick in fb.progress(loop, file=io.StringIO()) if self.progress else loop:
            state, logs = step(state, tick.batch)
            if self.logger is not None and log in tick:
                self.logger.log(tick.step, {name: float(value) for name, value in logs.items()})
            jax.block_until_ready(state)
            ended = time.perf_counter()
            samples.append(ended - began)
            began = ended
        self.state = state
        return {"samples": samples}
