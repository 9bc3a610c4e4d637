"""One small step a call, in CPU time: raw `jax.jit` over dicts, and fourbeat's step."""

from benchmarks.peers import fourbeat_loop, jax_loop, many_leaves
from benchmarks.peers.cpu_time import in_cpu_time


class RawMlp(jax_loop.JaxJit):
    """An MLP with AdamW."""

    run = in_cpu_time(jax_loop.JaxJit.run)


class FourbeatMlp(fourbeat_loop.OneBatch):
    """The same MLP."""

    run = in_cpu_time(fourbeat_loop.OneBatch.run)


class RawLeaves(many_leaves.Raw):
    """Many small vectors."""

    run = in_cpu_time(many_leaves.Raw.run)


class FourbeatLeaves(many_leaves.Fourbeat):
    """The same vectors."""

    run = in_cpu_time(many_leaves.Fourbeat.run)
