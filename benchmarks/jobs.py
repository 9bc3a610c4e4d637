"""The jobs that all sides share: data, order, initial values, settings. Only NumPy is needed."""

import gzip
import importlib.util
from collections.abc import Callable, Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

WEIGHT_DECAY, EPSILON = 1e-4, 1e-8  # optax.adamw's own; given to every side
MLP_SIZES = (8, 16, 16, 16, 10)


class Job:
    """One training job, the same for every side.

    Attributes:
      name: "mnist-cnn" or "mlp".
      batch_size, learning_rate, seed: of AdamW and of the order of the data.
      one_batch: whether every step sees the same batch, which stays on the device: what is left of a
        step is then the price of calling it.
      schedule_steps: of a learning rate that is warmed up and then a cosine; None for a constant one.
    """

    def __init__(
        self,
        name: str,
        *,
        batch_size: int = 32,
        learning_rate: float = 5e-3,
        seed: int = 0,
        one_batch: bool = False,
        schedule_steps: int | None = None,
        values: str | None = None,
        num_test: int = 10_000,
    ):
        self.name, self.batch_size, self.learning_rate, self.seed = name, batch_size, learning_rate, seed
        self.one_batch, self.schedule_steps = one_batch, schedule_steps
        self._values = values
        self._num_test = num_test

    @cached_property
    def train(self) -> tuple[np.ndarray, np.ndarray]:
        """Inputs float32 and labels int32, as a tutorial holds them."""
        inputs, labels = mnist("train") if self.name == "mnist-cnn" else points()
        return (inputs[: self.batch_size], labels[: self.batch_size]) if self.one_batch else (inputs, labels)

    @cached_property
    def test(self) -> tuple[np.ndarray, np.ndarray]:
        """What scores are taken of: the test images, or the points themselves."""
        inputs, labels = mnist("t10k") if self.name == "mnist-cnn" else self.train
        return inputs[: self._num_test], labels[: self._num_test]

    @cached_property
    def values(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """The initial values: kernel and bias of each layer in order, as Flax NNX drew and lays them out."""
        if self._values is None:
            raise ValueError(f"the job {self.name} has no initial values: export them with initial_values.")
        with np.load(self._values) as file:
            return [(file[f"kernel{i}"], file[f"bias{i}"]) for i in range(len(file.files) // 2)]

    def examples(self, step: int) -> np.ndarray:
        """The examples of batch `step`: shuffled anew each epoch, the short last batch dropped."""
        num_examples = len(self.train[0])
        epoch, place = divmod(step, num_examples // self.batch_size)
        order = _order(num_examples, self.seed, epoch)
        return order[place * self.batch_size : (place + 1) * self.batch_size]

    def scores(self, logits: Callable[[np.ndarray], Any]) -> dict[str, float]:
        """Mean cross-entropy and accuracy of `logits(inputs)`, computed in NumPy, the same for every side."""
        inputs, labels = self.test
        found = np.concatenate([np.asarray(logits(part)) for part in np.array_split(inputs, _parts(inputs))])
        found = found.astype(np.float64) - found.max(axis=1, keepdims=True)
        log_sum = np.log(np.exp(found).sum(axis=1))
        chosen = found[np.arange(len(labels)), labels]
        return {
            "loss": float((log_sum - chosen).mean()),
            "accuracy": float((found.argmax(axis=1) == labels).mean()),
        }


def from_settings(settings: Mapping[str, Any], **changes: Any) -> Job:
    """The job that a worker is told of, with what one side changes in it."""
    return Job(**{**settings["job"], **changes})


@lru_cache(maxsize=2)
def _order(num_examples: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.RandomState([seed, epoch]).permutation(num_examples)


def _parts(inputs: np.ndarray) -> int:
    return max(len(inputs) // 1_000, 1)


@lru_cache(maxsize=2)
def mnist(part: str) -> tuple[np.ndarray, np.ndarray]:
    """MNIST as `(images, labels)`: float32 in [0, 1] of shape (n, 28, 28, 1), int32; "train" or "t10k".

    Read without importing fourbeat, so that a peer's process holds the peer alone.
    """
    found = importlib.util.find_spec("fourbeat")
    assert found is not None
    assert found.submodule_search_locations
    folder = Path(found.submodule_search_locations[0]) / "data" / "mnist_files"
    images = gzip.decompress((folder / f"{part}-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((folder / f"{part}-labels-idx1-ubyte.gz").read_bytes())
    pixels = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28, 1)
    return pixels.astype(np.float32) / 255, np.frombuffer(labels, np.uint8, offset=8).astype(np.int32)


@lru_cache(maxsize=1)
def points() -> tuple[np.ndarray, np.ndarray]:
    """4,096 points of 8 features whose class, of 10, is the largest of ten random projections."""
    random = np.random.RandomState(0)
    inputs = random.standard_normal((4_096, MLP_SIZES[0])).astype(np.float32)
    projection = random.standard_normal((MLP_SIZES[0], MLP_SIZES[-1]))
    return inputs, (inputs @ projection).argmax(axis=1).astype(np.int32)
