"""Flax NNX as its tutorial writes it, with an Orbax checkpoint manager."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from flax import nnx
from small_job import (
    BATCH_SIZE,
    NUM_CLASSES,
    NUM_FEATURES,
    NUM_HIDDEN,
    RATE,
    arguments,
    data,
    end_of_epoch,
    finish,
)


# begin
class Model(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(NUM_FEATURES, NUM_HIDDEN, rngs=rngs)
        self.second = nnx.Linear(NUM_HIDDEN, NUM_CLASSES, rngs=rngs)

    def __call__(self, x):
        return self.second(nnx.relu(self.first(x)))


def loss_fn(model, x, y):
    return optax.softmax_cross_entropy_with_integer_labels(model(x), y).mean()


@nnx.jit
def train_step(model, optimizer, metrics, x, y):
    loss, grads = nnx.value_and_grad(loss_fn)(model, x, y)
    metrics.update(loss=loss)
    optimizer.update(model, grads)


@nnx.jit
def eval_step(model, metrics, x, y):
    metrics.update(loss=loss_fn(model, x, y))


directory, epochs = arguments()
x, y, x_valid, y_valid = data()
model = Model(nnx.Rngs(0))
optimizer = nnx.Optimizer(model, optax.adamw(RATE), wrt=nnx.Param)
metrics = nnx.MultiMetric(loss=nnx.metrics.Average("loss"))
manager = ocp.CheckpointManager(directory)
first_epoch = manager.latest_step() or 0
if first_epoch:
    state = nnx.state((model, optimizer))
    nnx.update((model, optimizer), manager.restore(first_epoch, args=ocp.args.StandardRestore(state)))
for epoch in range(first_epoch, epochs):
    order = np.random.default_rng(epoch).permutation(len(x))
    for begin in range(0, len(x), BATCH_SIZE):
        rows = order[begin : begin + BATCH_SIZE]
        train_step(model, optimizer, metrics, jnp.asarray(x[rows]), jnp.asarray(y[rows]))
    metrics.reset()
    manager.save(epoch + 1, args=ocp.args.StandardSave(nnx.state((model, optimizer))))
    jax.block_until_ready(nnx.state(model))
    end_of_epoch()
manager.wait_until_finished()
for begin in range(0, len(x_valid), 64):
    eval_step(
        model, metrics, jnp.asarray(x_valid[begin : begin + 64]), jnp.asarray(y_valid[begin : begin + 64])
    )
score = metrics.compute()["loss"]
# end
layers = (model.first, model.second)
finish([np.asarray(each[...]) for layer in layers for each in (layer.kernel, layer.bias)], score)
