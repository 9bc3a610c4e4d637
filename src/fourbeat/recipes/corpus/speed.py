"""Tokens a second, and the share of the device's arithmetic that the model uses."""

import time
from typing import Any

import jax
import numpy as np

from fourbeat.types import Object

PEAK_TFLOPS = {
    # Dense bfloat16, by the beginning of `device.device_kind`, the longest that fits. NVIDIA: the data sheet
    # of each, half of what it gives "with sparsity". Google: the pages of Cloud TPU, one of each.
    "NVIDIA A100": 312.0,
    "NVIDIA H100": 989.4,
    "NVIDIA H100 PCIe": 756.0,
    "NVIDIA H100 NVL": 835.5,
    "NVIDIA H200": 989.4,
    "NVIDIA H200 NVL": 835.5,
    "NVIDIA B200": 2_250.0,
    "NVIDIA L4": 121.0,
    "NVIDIA L40S": 362.0,
    "TPU v4": 275.0,
    "TPU v5 lite": 197.0,
    "TPU v5e": 197.0,
    "TPU v5p": 459.0,
    "TPU v5": 459.0,
    "TPU v6 lite": 918.0,
    "TPU v6e": 918.0,
}
"""The most that a device computes, in 10**12 floating-point operations a second."""


def flops_per_token(params: Object, *, layers: int, width: int, context: int) -> int:
    """Floating-point operations of a training step for one token: 6 N + 12 layers width context.

    N are the parameters of the matrices that a token is multiplied with: 2 operations for each forward, 4
    backward. The two tables of embeddings are looked up, so they count nothing. The second term is attention
    to a whole window, as if no token were masked.

    >>> params = {"token": {"embedding": np.ones((9, 4))}, "head": {"kernel": np.ones((4, 9))}}
    >>> flops_per_token(params, layers=1, width=4, context=8)
    600
    """
    leaves = jax.tree.leaves_with_path(params)
    multiplied = sum(
        np.prod(leaf.shape) for path, leaf in leaves if np.ndim(leaf) == 2 and not _is_table(path)
    )
    return int(6 * multiplied + 12 * layers * width * context)


def peak_flops(device: Object, precision: str) -> float | None:
    """Operations a second at most of a device, of which there is one; None where it is not known.

    >>> peak_flops(jax.devices("cpu")[0], "bfloat16") is None
    True
    """
    fitting = [kind for kind in PEAK_TFLOPS if device.device_kind.startswith(kind)]
    if precision != "bfloat16" or not fitting:
        return None
    kind = max(fitting, key=len)
    if device.device_kind[len(kind) : len(kind) + 1].isalnum():  # another kind, such as L4 and L40
        return None
    return PEAK_TFLOPS[kind] * 1e12


class Speed:
    """A stopwatch of training steps: compiling, looks and saves at looks are not counted.

    It waits for the device after the first step of each interval, which starts it, and where it is stopped.

    Args:
      tokens_per_step: how many a step is given.
      flops_per_token: of a training step.
      peak_flops: operations a second at most of the devices together; None where it is not known.
    """

    def __init__(self, tokens_per_step: int, flops_per_token: int, peak_flops: float | None):
        self._tokens_per_step = tokens_per_step
        self._flops_per_token, self._peak_flops = flops_per_token, peak_flops
        self._begin_s: float | None = None
        self._num_steps = 0

    def step(self, logs: Any) -> None:
        """A step was handed to the device; `logs` are its."""
        if self._begin_s is None:
            jax.block_until_ready(logs)
            self._begin_s, self._num_steps = time.perf_counter(), 0
        else:
            self._num_steps += 1

    def stop(self, logs: Any) -> dict[str, float]:
        """Waits for the last step and stops: `tokens_per_s`, and `flop_utilisation` where it is known.

        It is empty after a single step.
        """
        jax.block_until_ready(logs)
        begin_s, self._begin_s = self._begin_s, None
        if begin_s is None or not self._num_steps:
            return {}
        tokens_per_s = self._num_steps * self._tokens_per_step / (time.perf_counter() - begin_s)
        speed = {"tokens_per_s": tokens_per_s}
        if self._peak_flops is not None:
            speed["flop_utilisation"] = tokens_per_s * self._flops_per_token / self._peak_flops
        return speed


def in_words(speed: dict[str, float]) -> list[str]:
    """What `Speed.stop` gives, for a line that is printed.

    >>> in_words({"tokens_per_s": 12345.6, "flop_utilisation": 0.4}), in_words({})
    (['12,346 tokens/s, 40.0 % of the peak'], [])
    """
    if not speed:
        return []
    words = f"{speed['tokens_per_s']:,.0f} tokens/s"
    utilisation = speed.get("flop_utilisation")
    return [words if utilisation is None else f"{words}, {utilisation:.1%} of the peak".replace("%", " %")]


def said_of_peak(flops: int, peak: float | None, device: Object, num_devices: int, precision: str) -> str:
    """The line that says what is counted, and against what.

    >>> print(said_of_peak(600, None, jax.devices("cpu")[0], 1, "bfloat16"))
    600 FLOPs a token; no peak is known of cpu in bfloat16, so no utilisation is shown without --peak-flops
    """
    counted = f"{flops:,} FLOPs a token"
    if peak is None:
        return (
            f"{counted}; no peak is known of {device.device_kind} in {precision}, so no utilisation is shown "
            "without --peak-flops"
        )
    times = f"{num_devices} x " if num_devices > 1 else ""
    return f"{counted}; the peak of {times}{device.device_kind} is {peak / 1e12:,.1f} TFLOP/s in {precision}"


def _is_table(path: Any) -> bool:
    return jax.tree_util.keystr(path[-1:], simple=True) == "embedding"
