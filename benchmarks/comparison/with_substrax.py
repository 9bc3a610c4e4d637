"""substrax has no loop of its own: the loop of NNX with its optimizer and its checkpoint store."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
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
from substrax.checkpoint import OrbaxCheckpointStore
from substrax.optim import OptimizerConfig, create_optimizer


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
optimizer = create_optimizer(
    model, OptimizerConfig(optimizer_type="adamw", learning_rate=RATE, weight_decay=1e-4)
)
metrics = nnx.MultiMetric(loss=nnx.metrics.Average("loss"))
store = OrbaxCheckpointStore(directory)
first_epoch = store.latest_step() or 0
if first_epoch:
    state = nnx.state((model, optimizer))
    saved = store.restore(
        first_epoch, templates={"model": nnx.state(model), "optimizer": nnx.state(optimizer)}
    )
    nnx.update(model, saved.items["model"])
    nnx.update(optimizer, saved.items["optimizer"])
for epoch in range(first_epoch, epochs):
    order = np.random.default_rng(epoch).permutation(len(x))
    for begin in range(0, len(x), BATCH_SIZE):
        rows = order[begin : begin + BATCH_SIZE]
        train_step(model, optimizer, metrics, jnp.asarray(x[rows]), jnp.asarray(y[rows]))
    metrics.reset()
    store.save(epoch + 1, {"model": nnx.state(model), "optimizer": nnx.state(optimizer)})
    jax.block_until_ready(nnx.state(model))
    end_of_epoch()
store.close()
for begin in range(0, len(x_valid), 64):
    eval_step(
        model, metrics, jnp.asarray(x_valid[begin : begin + 64]), jnp.asarray(y_valid[begin : begin + 64])
    )
score = metrics.compute()["loss"]
# end
layers = (model.first, model.second)
finish([np.asarray(each[...]) for layer in layers for each in (layer.kernel, layer.bias)], score)
