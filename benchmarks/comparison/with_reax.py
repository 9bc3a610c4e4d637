"""reax: a `Module` with `Trainer.fit`, as Lightning's, in JAX."""

import os

import jax
import optax
import reax
from flax import linen
from reax import listeners
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


# begin
class Model(linen.Module):
    @linen.compact
    def __call__(self, x):
        hidden = linen.relu(linen.Dense(NUM_HIDDEN)(x))
        return linen.Dense(NUM_CLASSES)(hidden)


def loss_fn(params, x, y):
    return optax.softmax_cross_entropy_with_integer_labels(Model().apply(params, x), y).mean()


gradient = jax.jit(jax.value_and_grad(loss_fn))


class Module(reax.Module):
    def configure_model(self, stage, batch):
        if self.parameters() is None:
            self.set_parameters(Model().init(jax.random.key(0), batch[0]))

    def training_step(self, batch, batch_idx):
        return gradient(self.parameters(), *batch)

    def validation_step(self, batch, batch_idx):
        loss = loss_fn(self.parameters(), *batch)
        self.log("loss", loss, on_step=False, on_epoch=True, batch_size=len(batch[0]))

    def configure_optimizers(self):
        tx = optax.adamw(RATE)
        return tx, tx.init(self.parameters())


class Ends(reax.TrainerListener):
    def on_train_epoch_end(self, *args, **kwargs):
        end_of_epoch()


directory, epochs = arguments()
x, y, x_valid, y_valid = data()
reax.seed_everything(0)
module = Module()
loader = reax.ReaxDataLoader(reax.data.ArrayDataset(x, y), batch_size=BATCH_SIZE, shuffle=True)
valid_loader = reax.ReaxDataLoader(reax.data.ArrayDataset(x_valid, y_valid), batch_size=64)
saving = listeners.ModelCheckpoint(directory, save_last=True)
trainer = reax.Trainer(accelerator="cpu", logger=False, listeners=[saving, Ends()], enable_progress_bar=False)
last = os.path.join(directory, "last.ckpt")
trainer.fit(module, loader, max_epochs=epochs, ckpt_path=last if os.path.exists(last) else None)
trainer.validate(module, valid_loader)
score = trainer.listener_metrics["loss"]
# end
layers = module.parameters()["params"]
finish([layers[layer][name] for layer in ("Dense_0", "Dense_1") for name in ("kernel", "bias")], score)
