"""The models in PyTorch, with the initial values of the job."""

import itertools

import torch
from torch import nn

from benchmarks.jobs import EPSILON, MLP_SIZES, WEIGHT_DECAY, Job


def make_model(job: Job) -> nn.Sequential:
    """The job's model; images are (batch, 1, 28, 28)."""
    if job.name == "mnist-cnn":
        model = nn.Sequential(
            nn.Conv2d(1, 32, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.AvgPool2d(2),
            nn.Conv2d(32, 64, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.Linear(3136, 256),
            nn.ReLU(),
            nn.Linear(256, 10),
        )
    else:
        layers = [(nn.Linear(a, b), nn.ReLU()) for a, b in itertools.pairwise(MLP_SIZES)]
        model = nn.Sequential(*itertools.chain.from_iterable(layers))[:-1]
    layers = [layer for layer in model if isinstance(layer, nn.Conv2d | nn.Linear)]
    with torch.no_grad():
        for layer, (kernel, bias) in zip(layers, job.values, strict=True):
            if isinstance(layer, nn.Conv2d):
                kernel = kernel.transpose(3, 2, 0, 1)  # from (height, width, in, out)
            elif layer.in_features == 3136:  # flattened from (64, 7, 7) here, from (7, 7, 64) there
                kernel = kernel.reshape(7, 7, 64, -1).transpose(3, 2, 0, 1).reshape(-1, 3136)
            else:
                kernel = kernel.T
            layer.weight.copy_(torch.tensor(kernel))
            layer.bias.copy_(torch.tensor(bias))
    return model


def make_optimizer(job: Job, model: nn.Module) -> torch.optim.Optimizer:
    """AdamW with the job's settings."""
    return torch.optim.AdamW(model.parameters(), lr=job.learning_rate, eps=EPSILON, weight_decay=WEIGHT_DECAY)


def tensors(job: Job, inputs, labels=None):
    """Inputs, and labels where given, as PyTorch wants them."""
    inputs = torch.from_numpy(inputs)
    inputs = inputs.reshape(-1, 1, 28, 28) if job.name == "mnist-cnn" else inputs
    return inputs if labels is None else (inputs, torch.from_numpy(labels).long())
