"""`python -m benchmarks.initial_values JOB FILE`: the values that every side starts from, drawn by NNX."""

import sys

import numpy as np
from flax import nnx

from benchmarks.peers.nnx_models import MODELS


def main(arguments: list[str]) -> None:
    """Writes kernel and bias of each layer, in order."""
    name, path = arguments
    model = MODELS[name](rngs=nnx.Rngs(0))
    arrays = {}
    for i, layer in enumerate(model.in_order()):
        arrays[f"kernel{i}"] = np.asarray(layer.kernel[...])
        arrays[f"bias{i}"] = np.asarray(layer.bias[...])
    np.savez(path, **arrays)


if __name__ == "__main__":
    main(sys.argv[1:])
