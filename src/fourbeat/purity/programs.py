"""What a trace gave: when two programs are the same, and the arrays baked into one."""

import dataclasses
import hashlib
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from fourbeat.objects.comparing import without_addresses
from fourbeat.trees.jaxprs import constants
from fourbeat.types import Object

LARGE_BYTES = 1 << 20  # 1 MiB: a constant of this size is worth an argument of its own


@dataclasses.dataclass(frozen=True)
class Program:
    """One traced program. `out` is what the Python function returned, tracers where they are."""

    jaxpr: Any
    out: Object

    @property
    def constant_out(self) -> Object:
        """The one Python number or string that every compiled call returns, or None."""
        leaves = jax.tree.leaves(self.out)
        plain = (bool, int, float, complex, str, np.generic)
        return leaves[0] if len(leaves) == 1 and isinstance(leaves[0], plain) else None

    def fingerprint(self) -> str:
        """Equal for programs that compute the same with the same constants."""
        digest = hashlib.sha256(without_addresses(str(self.jaxpr)).encode())
        for constant in self.constants():
            digest.update(np.asarray(_data(constant)).tobytes())
        leaves = [leaf for leaf in jax.tree.leaves(self.out) if not isinstance(leaf, jax.Array)]
        digest.update(without_addresses(repr(leaves)).encode())
        return digest.hexdigest()

    def constants(self) -> list[Any]:
        """The arrays captured by the program and by those inside it, each once."""
        return constants(self.jaxpr)


def _data(array: Object) -> Any:
    if isinstance(array, Tracer):
        return np.zeros(0)  # of a program around this one: nothing is known
    if jax.numpy.issubdtype(array.dtype, jax.dtypes.prng_key):
        return jax.random.key_data(array)
    return array
