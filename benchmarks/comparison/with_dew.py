"""dew: a Linen module under its `Supervised` objective, `Trainer.fit`, its `Checkpoints`."""

import optax
from dew import Checkpoints, Dataset, Evaluation, Field, InputSpec, Supervised, Trainer
from dew.data import Loading
from dew.objectives.supervised import CrossEntropy
from flax import linen
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


class Clocked(Checkpoints):
    def save(self, *args, **kwargs):
        super().save(*args, **kwargs)
        end_of_epoch()


# begin
class Model(linen.Module):
    @linen.compact
    def __call__(self, x):
        hidden = linen.relu(linen.Dense(NUM_HIDDEN)(x))
        return linen.Dense(NUM_CLASSES)(hidden)


directory, epochs = arguments()
x, y, x_valid, y_valid = data()
loading = Loading(threads=0, read_buffer=0)  # the fastest here; the same batches
batches = Dataset.from_records({"x": x, "y": y}, batch=BATCH_SIZE, seed=0, loading=loading)
valid_batches = Dataset.validation({"x": x_valid, "y": y_valid}, batch=64)
inputs = InputSpec(Field("x", (NUM_FEATURES,)))
objective = Supervised(Model(), CrossEntropy("y"), inputs=inputs)
trainer = Trainer(objective, optax.adamw(RATE), key=0, checkpoints=Clocked(directory))
steps = batches.epoch_steps(epochs)
state = trainer.fit(batches, steps=steps, checkpoint_every=batches.epoch_steps())
found = Evaluation.run(objective, state.variables, valid_batches, key=1, loss=True)
score = found.scores["val/loss"]
# end
layers = state.variables["params"]
finish([layers[layer][name] for layer in ("Dense_0", "Dense_1") for name in ("kernel", "bias")], score)
