"""Equinox as its "CNN on MNIST" example writes it: `eqx.filter_jit`, `eqx.filter_value_and_grad`, `jax.vmap`.

https://docs.kidger.site/equinox/examples/mnist/
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from benchmarks.jobs import MLP_SIZES, from_settings
from benchmarks.peers.classifier import Classifier
from benchmarks.peers.optimizer import make_tx


class CNN(eqx.Module):
    """The CNN on one image (1, 28, 28): channels come first."""

    layers: list

    def __init__(self, key):
        key1, key2, key3, key4 = jax.random.split(key, 4)
        self.layers = [
            eqx.nn.Conv2d(1, 32, kernel_size=3, padding=1, key=key1),
            jax.nn.relu,
            eqx.nn.AvgPool2d(kernel_size=2, stride=2),
            eqx.nn.Conv2d(32, 64, kernel_size=3, padding=1, key=key2),
            jax.nn.relu,
            eqx.nn.AvgPool2d(kernel_size=2, stride=2),
            jnp.ravel,
            eqx.nn.Linear(3136, 256, key=key3),
            jax.nn.relu,
            eqx.nn.Linear(256, 10, key=key4),
        ]

    def __call__(self, x):
        """Logits (10,)."""
        for layer in self.layers:
            x = layer(x)
        return x


class MLP(eqx.Module):
    """The MLP on one point."""

    layers: list

    def __init__(self, key):
        keys = jax.random.split(key, len(MLP_SIZES) - 1)
        pairs = zip(MLP_SIZES[:-1], MLP_SIZES[1:], keys, strict=True)
        self.layers = [eqx.nn.Linear(a, b, key=key) for a, b, key in pairs]

    def __call__(self, x):
        """Logits (10,)."""
        for layer in self.layers[:-1]:
            x = jax.nn.relu(layer(x))
        return self.layers[-1](x)


def with_values(model, values):
    """The model with the initial values of the job in its layout."""
    places = [place for place, layer in enumerate(model.layers) if hasattr(layer, "weight")]
    for place, (kernel, bias) in zip(places, values, strict=True):
        if kernel.ndim == 4:  # from (height, width, in, out)
            weight, bias = kernel.transpose(3, 2, 0, 1), bias.reshape(-1, 1, 1)
        elif len(kernel) == 3136:  # flattened from (64, 7, 7) here, from (7, 7, 64) there
            weight = kernel.reshape(7, 7, 64, -1).transpose(3, 2, 0, 1).reshape(-1, 3136)
        else:
            weight = kernel.T
        new = jnp.array(weight), jnp.array(bias)
        where = lambda model, place=place: (model.layers[place].weight, model.layers[place].bias)
        model = eqx.tree_at(where, model, new)
    return model


def loss_fn(model, x, y):
    """The mean cross-entropy of a batch."""
    logits = jax.vmap(model)(x)
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


class FilterJit(Classifier):
    """The example's loop: `make_step` given NumPy batches."""

    def __init__(self, settings):
        self.job = job = from_settings(settings)
        model = {"mnist-cnn": CNN, "mlp": MLP}[job.name](jax.random.key(0))
        self.model = with_values(model, job.values)
        optim = make_tx(job)
        self.opt_state = optim.init(eqx.filter(self.model, eqx.is_array))
        self.num_steps = 0
        images, self.labels = job.train
        self.inputs = self.channels_first(images)

        @eqx.filter_jit
        def make_step(model, opt_state, x, y):
            loss, grads = eqx.filter_value_and_grad(loss_fn)(model, x, y)
            updates, opt_state = optim.update(grads, opt_state, eqx.filter(model, eqx.is_array))
            return eqx.apply_updates(model, updates), opt_state, loss

        self.make_step = make_step
        self.predict = eqx.filter_jit(lambda model, x: jax.vmap(model)(x))

    def run(self, amount):
        """Goes on with the batches."""
        make_step, model, opt_state = self.make_step, self.model, self.opt_state
        if self.job.one_batch:
            x, y = jnp.array(self.inputs), jnp.array(self.labels)
            for _ in range(amount):
                model, opt_state, loss = make_step(model, opt_state, x, y)
        else:
            for number in range(self.num_steps, self.num_steps + amount):
                examples = self.job.examples(number)
                model, opt_state, loss = make_step(
                    model, opt_state, self.inputs[examples], self.labels[examples]
                )
            self.num_steps += amount
        self.model, self.opt_state = jax.block_until_ready((model, opt_state))
        del loss

    def logits(self, inputs):
        """Of the model as it is."""
        return self.predict(self.model, self.channels_first(inputs))

    def channels_first(self, inputs):
        """Images (n, 1, 28, 28); points as they are."""
        return inputs.reshape(-1, 1, 28, 28) if self.job.name == "mnist-cnn" else inputs
