"""The models in Flax NNX, as every side built on it uses them."""

import itertools
from functools import partial

import jax.numpy as jnp
from flax import nnx

from benchmarks.jobs import MLP_SIZES


class PatchesConv(nnx.Conv):
    """`nnx.Conv` of stride 1 and padding "SAME", as one product of all patches with a matrix."""

    def __call__(self, x):
        """(batch, height, width, features) of (batch, height, width, channels)."""
        rows, columns, _, features = self.kernel.shape
        height, width = x.shape[1:3]
        pads = [(0, 0), ((rows - 1) // 2, rows // 2), ((columns - 1) // 2, columns // 2), (0, 0)]
        padded = jnp.pad(x, pads)
        places = itertools.product(range(rows), range(columns))
        patches = [padded[:, i : i + height, j : j + width] for i, j in places]
        product = jnp.concatenate(patches, axis=-1) @ self.kernel[...].reshape(-1, features)
        return product + self.bias[...]


class CNN(nnx.Module):
    """Conv 32, Conv 64, each with relu and 2x2 average pool; Linear 256, relu; Linear 10."""

    def __init__(self, *, rngs: nnx.Rngs, dtype=None, conv=nnx.Conv):
        self.conv1 = conv(1, 32, kernel_size=(3, 3), dtype=dtype, rngs=rngs)
        self.conv2 = conv(32, 64, kernel_size=(3, 3), dtype=dtype, rngs=rngs)
        self.avg_pool = partial(nnx.avg_pool, window_shape=(2, 2), strides=(2, 2))
        self.linear1 = nnx.Linear(3136, 256, dtype=dtype, rngs=rngs)
        self.linear2 = nnx.Linear(256, 10, dtype=dtype, rngs=rngs)

    def __call__(self, x):
        """Logits (batch, 10) of images (batch, 28, 28, 1)."""
        x = self.avg_pool(nnx.relu(self.conv1(x)))
        x = self.avg_pool(nnx.relu(self.conv2(x)))
        x = x.reshape(x.shape[0], -1)
        return self.linear2(nnx.relu(self.linear1(x)))

    def in_order(self):
        """Its layers, from input to output."""
        return self.conv1, self.conv2, self.linear1, self.linear2


class MLP(nnx.Module):
    """Four linear layers, 8-16-16-16-10: eight arrays, 26 leaves with AdamW."""

    def __init__(self, *, rngs: nnx.Rngs, dtype=None):
        pairs = itertools.pairwise(MLP_SIZES)
        self.layers = nnx.List([nnx.Linear(a, b, dtype=dtype, rngs=rngs) for a, b in pairs])

    def __call__(self, x):
        """Logits (batch, 10) of (batch, 8)."""
        for layer in self.layers[:-1]:
            x = nnx.relu(layer(x))
        return self.layers[-1](x)

    def in_order(self):
        """Its layers, from input to output."""
        return tuple(self.layers)


MODELS = {"mnist-cnn": CNN, "mnist-cnn by patches": partial(CNN, conv=PatchesConv), "mlp": MLP}
