"""fourbeat, as its README writes a loop."""

import jax
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

import fourbeat as fb


# begin
class Model(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(NUM_FEATURES, NUM_HIDDEN, rngs=rngs)
        self.second = nnx.Linear(NUM_HIDDEN, NUM_CLASSES, rngs=rngs)

    def __call__(self, x):
        return self.second(nnx.relu(self.first(x)))


def loss_fn(model, batch):
    return optax.softmax_cross_entropy_with_integer_labels(model(batch["x"]), batch["y"])


directory, epochs = arguments()
x, y, x_valid, y_valid = data()
batches = fb.data.Arrays(x=x, y=y).batches(BATCH_SIZE, shuffle=True, seed=0)
valid_batches = fb.data.Arrays(x=x_valid, y=y_valid).batches(64)
metrics = fb.metrics.Collection(loss=fb.metrics.Mean("loss"))
beats = fb.four_beats(loss_fn, optax.adamw(RATE), metrics=metrics, guard=fb.guard.skip())
step, evaluate = fb.compile(beats.train_step), fb.evaluator(beats)
epoch_end = fb.every(epochs=1)
with fb.Checkpoints(directory, keep_last=2) as checkpoints:
    state = checkpoints.restore_or(beats.init(Model(nnx.Rngs(0))))
    for tick in fb.loop(batches, start=state.step, until=fb.at(epochs=epochs), marks=[epoch_end]):
        state, logs = step(state, tick.batch)
        if epoch_end in tick:
            seen, state = state.pop_metrics()
            checkpoints.save(tick.step, state)
            jax.block_until_ready(state)
            end_of_epoch()
score = evaluate(state, valid_batches)["loss"]
# end
params = state.params
finish([params[layer][name] for layer in ("first", "second") for name in ("kernel", "bias")], score)
