"""PyTorch as its quickstart writes it: `DataLoader`, backward, step, zero_grad; eager or compiled.

https://docs.pytorch.org/tutorials/beginner/basics/quickstart_tutorial.html
https://docs.pytorch.org/tutorials/intermediate/torch_compile_tutorial.html
"""

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.jobs import from_settings
from benchmarks.peers.classifier import Classifier
from benchmarks.peers.torch_models import make_model, make_optimizer, tensors


class Torch(Classifier):
    """The quickstart's training loop.

    Args:
      settings: with the job.
      compiled: whether the model goes through `torch.compile`.
      data_loader: whether a `DataLoader` collates the batches example by example, as the quickstart
        does; else each is one indexing of the tensors, which is faster.
    """

    def __init__(self, settings, *, compiled=False, data_loader=True):
        torch.set_num_threads(settings["threads"])
        torch.manual_seed(0)
        self.job = job = from_settings(settings)
        self.model = make_model(job)
        self.optimizer = make_optimizer(job, self.model)
        self.called = torch.compile(self.model) if compiled else self.model
        self.loss_fn = nn.CrossEntropyLoss()
        self.inputs, self.labels = tensors(job, *job.train)
        self.data_loader = data_loader
        self.num_steps = 0

    def run(self, amount):
        """Goes on with the batches."""
        model, loss_fn, optimizer = self.called, self.loss_fn, self.optimizer
        self.model.train()
        for x, y in self.batches(amount):
            loss = loss_fn(model(x), y)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    def batches(self, amount):
        """In the order of the job, which a sampler can give."""
        if self.job.one_batch:
            yield from ((self.inputs, self.labels) for _ in range(amount))
            return
        examples = [self.job.examples(step) for step in range(self.num_steps, self.num_steps + amount)]
        self.num_steps += amount
        if self.data_loader:
            data = TensorDataset(self.inputs, self.labels)
            order = np.concatenate(examples).tolist()
            yield from DataLoader(data, batch_size=self.job.batch_size, sampler=order)
            return
        for chosen in map(torch.from_numpy, examples):
            yield self.inputs[chosen], self.labels[chosen]

    def logits(self, inputs):
        """In evaluation mode, without gradients; of the eager model, which shares its parameters."""
        self.model.eval()
        with torch.no_grad():
            return self.model(tensors(self.job, inputs)).numpy()
