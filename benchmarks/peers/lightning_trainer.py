"""PyTorch Lightning: a `LightningModule`, and `Trainer.fit` with what it prints and writes turned off.

https://lightning.ai/docs/pytorch/stable/starter/introduction.html
"""

import logging
import time
import warnings

import lightning
import numpy as np
import torch
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.jobs import from_settings
from benchmarks.peers.classifier import Classifier
from benchmarks.peers.torch_models import make_model, make_optimizer, tensors


class Module(lightning.LightningModule):
    """The model, its loss, and an optimizer that outlives a `fit`."""

    def __init__(self, job):
        super().__init__()
        self.model = make_model(job)
        self.optimizer = make_optimizer(job, self.model)

    def training_step(self, batch, batch_idx):
        """The loss of one batch."""
        x, y = batch
        return functional.cross_entropy(self.model(x), y)

    def configure_optimizers(self):
        """The same one in every `fit`."""
        return self.optimizer

    def on_train_epoch_start(self):
        """The clock starts when the first batch is about to be fetched."""
        self.began = time.perf_counter()

    def on_train_epoch_end(self):
        """And ends after the last step: what `fit` sets up and tears down is not counted."""
        self.seconds = time.perf_counter() - self.began


class Lightning(Classifier):
    """One `fit` a round, of so many steps."""

    def __init__(self, settings):
        torch.set_num_threads(settings["threads"])
        torch.manual_seed(0)
        warnings.simplefilter("ignore")
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        self.job = job = from_settings(settings)
        self.module = Module(job)
        self.inputs, self.labels = tensors(job, *job.train)
        self.num_steps = 0

    def run(self, amount):
        """Fits the next steps, in the order of the job."""
        steps = range(self.num_steps, self.num_steps + amount)
        self.num_steps += amount
        order = np.concatenate([self.job.examples(step) for step in steps]).tolist()
        loader = DataLoader(
            TensorDataset(self.inputs, self.labels), batch_size=self.job.batch_size, sampler=order
        )
        trainer = lightning.Trainer(
            max_epochs=1,
            accelerator="cpu",
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(self.module, loader)
        return {"seconds": self.module.seconds}

    def logits(self, inputs):
        """In evaluation mode, without gradients."""
        self.module.eval()
        with torch.no_grad():
            found = self.module.model(tensors(self.job, inputs)).numpy()
        self.module.train()
        return found
