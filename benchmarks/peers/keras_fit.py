"""Keras 3 on its JAX backend, as its "Simple MNIST convnet" example writes it: `compile`, then `fit`.

https://keras.io/examples/vision/mnist_convnet/
"""

import os

os.environ["KERAS_BACKEND"] = "jax"

import time

import keras
import numpy as np
from keras import layers

from benchmarks.jobs import EPSILON, MLP_SIZES, WEIGHT_DECAY, from_settings
from benchmarks.peers.classifier import Classifier

CANDIDATES = (5, 10, 20)  # steps per execution, of which the fastest is the best


def make_model(job):
    """The job's model; images are (batch, 28, 28, 1)."""
    if job.name == "mnist-cnn":
        parts = [
            keras.Input(shape=(28, 28, 1)),
            layers.Conv2D(32, kernel_size=(3, 3), padding="same", activation="relu"),
            layers.AveragePooling2D(pool_size=(2, 2)),
            layers.Conv2D(64, kernel_size=(3, 3), padding="same", activation="relu"),
            layers.AveragePooling2D(pool_size=(2, 2)),
            layers.Flatten(),
            layers.Dense(256, activation="relu"),
            layers.Dense(10),
        ]
    else:
        hidden = [layers.Dense(size, activation="relu") for size in MLP_SIZES[1:-1]]
        parts = [keras.Input(shape=(MLP_SIZES[0],)), *hidden, layers.Dense(MLP_SIZES[-1])]
    model = keras.Sequential(parts)
    model.set_weights([array for pair in job.values for array in pair])
    return model


class KerasFit(Classifier):
    """`fit` over the batches of a round; the mean loss and accuracy of each `fit`.

    Args:
      settings: with the job.
      steps_per_execution: as `compile` takes it; "best" measures a few and keeps the fastest.
    """

    def __init__(self, settings, *, steps_per_execution=1):
        self.job = job = from_settings(settings)
        self.model = make_model(job)
        self.num_steps = 0
        job.train  # noqa: B018  read before the clock runs
        self.facts = {}
        if steps_per_execution == "best":
            weights = self.model.get_weights()
            steps_per_execution = self._best()
            self.model.set_weights(weights)
        self._compile(steps_per_execution)
        self.facts["steps_per_execution"] = steps_per_execution

    def _compile(self, steps_per_execution):
        self.model.compile(
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            optimizer=keras.optimizers.AdamW(
                self.job.learning_rate, epsilon=EPSILON, weight_decay=WEIGHT_DECAY
            ),
            metrics=["accuracy"],
            steps_per_execution=steps_per_execution,
        )

    def _best(self):
        seconds = {}
        for candidate in CANDIDATES:
            self._compile(candidate)
            self.run(candidate)  # compiles
            taken = []
            for _ in range(3):
                began = time.perf_counter()
                self.run(2 * max(CANDIDATES))
                taken.append(time.perf_counter() - began)
            seconds[candidate] = min(taken)
        self.num_steps = 0
        return min(seconds, key=seconds.__getitem__)

    def run(self, amount):
        """Fits the next steps; the examples are put in their order before the clock starts."""
        images, labels = self.job.train
        if self.job.one_batch:
            examples = np.tile(np.arange(len(images)), amount)
        else:
            steps = range(self.num_steps, self.num_steps + amount)
            examples = np.concatenate([self.job.examples(step) for step in steps])
        self.num_steps += amount
        x, y = images[examples], labels[examples]
        began = time.perf_counter()
        self.model.fit(x, y, batch_size=self.job.batch_size, epochs=1, shuffle=False, verbose=0)
        return {"seconds": time.perf_counter() - began}

    def logits(self, inputs):
        """From `predict`."""
        return self.model.predict(inputs, batch_size=1_000, verbose=0)
