"""The main job with a checkpoint every so many steps: how long a save makes the loop stand still."""

import time

import jax

import fourbeat as fb
from benchmarks.peers.fourbeat_loop import Fourbeat
from benchmarks.peers.scratch import scratch_folder


class Saving(Fourbeat):
    """The loop with `fb.Checkpoints`.

    Args:
      settings: with the job.
      every: steps between saves; None saves nothing.
      at_rest: whether the device is waited for before a save, so that no step hides it.
    """

    def __init__(self, settings, *, every=None, at_rest=False):
        super().__init__(settings)
        self.every, self.at_rest = every, at_rest
        self.checkpoints = fb.Checkpoints(scratch_folder(self))

    def run(self, amount):
        """Goes on from `state.step`; what is written in the background is waited for at the end."""
        state, step, samples = self.state, self.step, []
        saving = fb.every(steps=self.every or 1_000_000_000)
        until = fb.at(steps=int(state.step) + amount) | fb.stop_signal()
        for tick in fb.loop(self.batches, start=state.step, until=until, marks=[saving]):
            state, _ = step(state, tick.batch)
            if saving in tick:
                if self.at_rest:
                    jax.block_until_ready(state)
                began = time.perf_counter()
                self.checkpoints.save(tick.step, {"state": state})
                samples.append(time.perf_counter() - began)
        self.state = jax.block_until_ready(state)
        self.checkpoints.wait()
        return {"samples": samples}
