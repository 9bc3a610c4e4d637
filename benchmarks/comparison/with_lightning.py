"""PyTorch Lightning: a `LightningModule`, `Trainer.fit`, `ModelCheckpoint`."""

import logging
import os
import warnings

import lightning
import torch
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
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

warnings.simplefilter("ignore")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
torch.set_num_threads(1)


# begin
class Module(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(NUM_FEATURES, NUM_HIDDEN)
        self.second = torch.nn.Linear(NUM_HIDDEN, NUM_CLASSES)

    def forward(self, x):
        return self.second(functional.relu(self.first(x)))

    def training_step(self, batch, batch_idx):
        return functional.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("loss", functional.cross_entropy(self(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), RATE, weight_decay=1e-4)

    def on_train_epoch_end(self):
        end_of_epoch()


directory, epochs = arguments()
x, y, x_valid, y_valid = (torch.from_numpy(array) for array in data())
lightning.seed_everything(0, verbose=False)
module = Module()
loader = DataLoader(TensorDataset(x, y.long()), batch_size=BATCH_SIZE, shuffle=True)
valid_loader = DataLoader(TensorDataset(x_valid, y_valid.long()), batch_size=64)
saving = lightning.pytorch.callbacks.ModelCheckpoint(directory, save_last=True)
trainer = lightning.Trainer(
    max_epochs=epochs,
    accelerator="cpu",
    devices=1,
    logger=False,
    callbacks=[saving],
    enable_progress_bar=False,
    enable_model_summary=False,
)
last = os.path.join(directory, "last.ckpt")
trainer.fit(module, loader, ckpt_path=last if os.path.exists(last) else None)
score = trainer.validate(module, valid_loader, verbose=False)[0]["loss"]
# end
layers = (module.first, module.second)
parts = [part for layer in layers for part in (layer.weight.T, layer.bias)]
finish([part.detach().numpy() for part in parts], score)
