"""kauldron: a `Trainer` built in Python, with its Grain pipeline and its checkpointer."""

import optax
from flax import linen
from kauldron import kd, kontext
from small_job import (
    BATCH_SIZE,
    NUM_CLASSES,
    NUM_HIDDEN,
    RATE,
    arguments,
    data,
    end_of_epoch,
    finish,
)


class Clocked(kd.ckpts.Checkpointer):
    def save(self, state, *, step, **kwargs):
        saved = super().save(state, step=step, **kwargs)
        if step > 0:
            end_of_epoch()
        return saved


# begin
class Model(linen.Module):
    x: kontext.Key = "batch.x"

    @linen.compact
    def __call__(self, x):
        hidden = linen.relu(linen.Dense(NUM_HIDDEN)(x))
        return linen.Dense(NUM_CLASSES)(hidden)


def batches_of(x, y, **options):
    rows = [{"x": x[row], "y": y[row, None]} for row in range(len(x))]
    return kd.data.py.DataSource(rows, num_workers=0, seed=0, **options)


directory, epochs = arguments()
x, y, x_valid, y_valid = data()
steps = len(x) // BATCH_SIZE
loss = kd.losses.SoftmaxCrossEntropyWithIntLabels(logits="preds", labels="batch.y")
valid_batches = batches_of(
    x_valid, y_valid, shuffle=False, batch_size=64, num_epochs=1, batch_drop_remainder=False
)
after = kd.evals.Once(epochs * steps + 1)  # not in the loop, but by hand below
trainer = kd.train.Trainer(
    workdir=directory,
    seed=0,
    train_ds=batches_of(x, y, shuffle=True, batch_size=BATCH_SIZE),
    model=Model(),
    train_losses={"loss": loss},
    optimizer=optax.adamw(RATE),
    num_train_steps=epochs * steps,
    checkpointer=Clocked(save_interval_steps=steps),
    evals={"valid": kd.evals.Evaluator(run=after, ds=valid_batches)},
)
state, _ = trainer.train()
seen = trainer.evals["valid"].evaluate(state, int(state.step))
score = seen.compute(flatten=False).loss_values["loss"]
# end
layers = state.params
finish([layers[layer][name] for layer in ("Dense_0", "Dense_1") for name in ("kernel", "bias")], score)
