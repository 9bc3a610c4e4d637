"""The sides built on JAX, made anew for each precision and batch size."""

import time
from functools import partial

import jax

from benchmarks.peers.fourbeat_loop import BareExecutable, Fourbeat
from benchmarks.peers.nnx_loop import NnxJit

MATMULS = {"float32": "highest", "tensorfloat32": "tensorfloat32", "bfloat16": "default"}


class Configured:
    """A side of one job, precision and batch size at a time.

    Args:
      make: the peer.
      settings: of all jobs.
      options: of the peer.
    """

    def __init__(self, make, settings, **options):
        self.make, self.settings, self.options = make, settings, options

    def configure(self, told):
        """Makes the peer for a job, a precision and a batch size."""
        jax.config.update("jax_default_matmul_precision", MATMULS[told["precision"]])
        jax.clear_caches()
        job = {**told["job"], "batch_size": told["batch_size"]}
        options = dict(self.options)
        if told["precision"] == "bfloat16":
            options |= {"dtype": "bfloat16"} if self.make is NnxJit else {"precision": "bfloat16"}
        self.made = self.make({**self.settings, "job": job}, **options)

    def learn(self, told):
        """Makes the peer, compiles its first step, trains, and scores it."""
        self.configure(told)
        train = getattr(self.made, "learn", self.made.run)
        began = time.perf_counter()
        train(1)
        first_s = time.perf_counter() - began
        train(told["steps"] - 1)
        memory = jax.devices()[0].memory_stats() or {}
        return {
            "first_s": first_s,
            "scores": self.made.scores(),
            "facts": self.cost(),
            "card_memory_bytes": memory.get("peak_bytes_in_use", 0),
        }

    def cost(self):
        """Operations and bytes of a step by XLA's cost analysis, of the bare executable."""
        if not isinstance(self.made, BareExecutable):
            return {}
        self.made.run(1)
        cost = self.made.call.cost_analysis()
        return {"gigaflops": cost["flops"] / 1e9, "gigabytes": cost["bytes accessed"] / 1e9}

    def run(self, told):
        """So many steps more."""
        return self.made.run(told["steps"])


bare = partial(Configured, BareExecutable)
fourbeat = partial(Configured, Fourbeat)
nnx_jit = partial(Configured, NnxJit)


def fused(settings):
    """fourbeat, its steps fused."""
    return Configured(Fourbeat, settings, steps_per_call=2 if settings["tiny"] else 100)
