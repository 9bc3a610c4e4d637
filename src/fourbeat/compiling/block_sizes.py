"""How many steps a call should fuse: measured, never guessed."""

import time
from collections.abc import Callable

import jax
import numpy as np

from fourbeat.compiling.blocks import Block
from fourbeat.trees.buffers import copied
from fourbeat.types import BatchSource, State

_CANDIDATES = (1, 8, 32, 128)
_MEASURED_S = 0.15  # of each candidate and round
_ROUNDS = 3


def fastest_block_size(program: Callable, state: State, batches: BatchSource) -> int:
    """The smallest block size within 5 % of the fastest, by steps per second.

    Args:
      program: compiled step that takes a batch or a block.
      state: copied, never donated.
      batches: a `fourbeat.data.Batches`, or a sequence of batches.
    """
    seconds_per_step: dict[int, float] = {}
    for size in _CANDIDATES:
        if size > len(batches):
            break
        seconds_per_step[size] = _seconds_per_step(program, copied(state), batches, size)
        if seconds_per_step[size] > 1.5 * min(seconds_per_step.values()):
            break  # what is slower fused stays slower: convolutions in a loop body on CPU
    best = min(seconds_per_step.values())
    return min(size for size, seconds in seconds_per_step.items() if seconds <= 1.05 * best)


def _seconds_per_step(program: Callable, state: State, batches: BatchSource, size: int) -> float:
    argument = batches[0] if size == 1 else _block(batches, size)
    state, _ = jax.block_until_ready(program(state, argument))  # compiles
    fastest = float("inf")
    for _ in range(_ROUNDS):
        calls, start = 0, time.perf_counter()
        while calls == 0 or time.perf_counter() - start < _MEASURED_S:
            argument = batches[calls % len(batches)] if size == 1 else _block(batches, size)
            state, _ = program(state, argument)
            calls += 1
            if calls % 16 == 0:
                jax.block_until_ready(state)  # else dispatch runs ahead of the clock
        jax.block_until_ready(state)
        fastest = min(fastest, (time.perf_counter() - start) / (calls * size))
    return fastest


def _block(batches: BatchSource, size: int) -> Block:
    if hasattr(batches, "stacked"):
        return Block(batches.stacked(0, size, size), np.asarray(size, np.int32))
    return Block.stack([batches[i] for i in range(size)])
