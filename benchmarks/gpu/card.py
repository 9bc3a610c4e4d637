"""The card itself: its matrix rate and memory bandwidth, and whether the laws hold on it."""

import time

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.gpu.jax_sides import Configured
from benchmarks.peers.fourbeat_loop import Fourbeat

PRECISIONS = {"float32": "highest", "tensorfloat32": "tensorfloat32"}


class Card:
    """Looks at the first device."""

    def __init__(self, settings):
        self.settings, self.tiny = settings, settings["tiny"]

    def run(self, amount):
        """Roofline and laws, in numbers and in words."""
        device = jax.devices()[0]
        roofline = {name: self.matrix_rate(name) for name in ("float32", "tensorfloat32", "bfloat16")}
        roofline["bytes_per_s"] = self.bandwidth()
        rates = ", ".join(f"{name} {roofline[name] / 1e12:.3g}" for name in list(roofline)[:3])
        words = (
            f"Matrix products reach {rates} TFLOP/s; memory moves {roofline['bytes_per_s'] / 1e9:.4g} GB/s, "
            "read and written, both measured here."
        )
        return {
            "card": device.device_kind if device.platform == "gpu" else "",
            "roofline": roofline,
            "laws": self.laws(),
            "words": words,
        }

    def matrix_rate(self, precision):
        """Floating-point operations a second of a square product."""
        size = 256 if self.tiny else 8_192
        dtype = jnp.bfloat16 if precision == "bfloat16" else jnp.float32
        a = jax.random.normal(jax.random.key(0), (size, size), dtype)
        product = jax.jit(lambda a, b: jnp.matmul(a, b, precision=PRECISIONS.get(precision)))
        return 2 * size**3 / fastest(lambda: product(a, a))

    def bandwidth(self):
        """Bytes a second, read and written, of adding one to a long vector."""
        size = 2**20 if self.tiny else 2**30
        x = jnp.zeros(size, jnp.float32)
        add = jax.jit(lambda x: x + 1, donate_argnums=())
        return 2 * 4 * size / fastest(lambda: add(x))

    def laws(self):
        """Law 3, fusion changes nothing, and whether the same steps give the same bits twice."""
        steps = 4 if self.tiny else 200
        one, again, fused = (self.trained(steps, per_call) for per_call in (1, 1, 4 if self.tiny else 100))
        same = all(np.array_equal(a, b) for a, b in zip(one, again, strict=True))
        bits = all(np.array_equal(a, b) for a, b in zip(one, fused, strict=True))
        off = max(np.abs(a - b).max() / np.abs(a).max() for a, b in zip(one, fused, strict=True))
        words = "the same bits" if bits else f"at most {off:.1e} of the largest value apart"
        return [
            ("determinism: the same steps twice give the same bits", "yes" if same else "no", bool(same)),
            (f"law 3: {steps} fused steps give what single ones do", words, bool(off < 1e-2)),
        ]

    def trained(self, steps, per_call):
        """Parameters after so many steps."""
        told = {"job": self.settings["job"], "precision": "float32", "batch_size": 4 if self.tiny else 32}
        side = Configured(Fourbeat, self.settings, steps_per_call=per_call)
        side.configure(told)
        side.made.run(steps)
        return [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(side.made.state.params)]


def fastest(call, rounds=5):
    """Seconds of the fastest of a few calls."""
    jax.block_until_ready(call())
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        jax.block_until_ready(call())
        seconds.append(time.perf_counter() - began)
    return min(seconds)
