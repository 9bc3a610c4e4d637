"""Saves: how long one makes the main job's loop stand still, and how long it takes beside Orbax alone."""

import os
import shutil
import time

import jax
import numpy as np

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


def random_tree(megabytes, num_leaves):
    """So many float32 leaves of as many megabytes (1e6 bytes) together, as random as trained ones."""
    size = int(megabytes * 1e6) // 4 // num_leaves
    keys = jax.random.split(jax.random.key(0), num_leaves)
    return jax.block_until_ready({f"p{i:04}": jax.random.normal(key, (size,)) for i, key in enumerate(keys)})


class Orbax:
    """Orbax alone, and every file flushed to the disk."""

    def __init__(self, settings, *, megabytes, num_leaves):
        self.tree = random_tree(megabytes, num_leaves)
        self.folder = scratch_folder(self) / "arrays"
        self.facts = {"leaves": num_leaves}

    def run(self, amount):
        """So many saves."""
        from orbax.checkpoint import v1 as ocp

        for _ in range(amount):
            shutil.rmtree(self.folder, ignore_errors=True)
            ocp.save(str(self.folder), self.tree)
            for path in [self.folder, *self.folder.rglob("*")]:
                descriptor = os.open(path, os.O_RDONLY)
                os.fsync(descriptor)
                os.close(descriptor)

    def scores(self):
        """How many leaves do not come back bit by bit."""
        from orbax.checkpoint import v1 as ocp

        return lost(self.tree, ocp.load(str(self.folder), self.tree))


class Checkpointed:
    """`fb.Checkpoints`: flushed, with digests, and read back."""

    def __init__(self, settings, *, megabytes, num_leaves):
        self.tree = random_tree(megabytes, num_leaves)
        self.checkpoints = fb.Checkpoints(scratch_folder(self))
        self.facts = {"leaves": num_leaves}

    def run(self, amount):
        """So many saves, one after the other. A sample is the time of a call."""
        samples = []
        for _ in range(amount):
            began = time.perf_counter()
            self.checkpoints.save(0, self.tree)
            samples.append(time.perf_counter() - began)
            self.checkpoints.wait()
        return {"samples": samples}

    def scores(self):
        """How many leaves do not come back bit by bit."""
        return lost(self.tree, self.checkpoints.restore(self.tree))


def lost(tree, restored):
    """How many leaves differ in a bit."""
    return {
        "lost": float(
            sum(np.asarray(tree[name]).tobytes() != np.asarray(restored[name]).tobytes() for name in tree)
        )
    }
