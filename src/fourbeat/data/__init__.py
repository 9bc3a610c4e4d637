"""Arrays, batches that any step can name, idx files, MNIST."""

from fourbeat.data.arrays import Arrays
from fourbeat.data.batch import Batch
from fourbeat.data.batches import Batches
from fourbeat.data.idx_format import idx
from fourbeat.data.mnist_digits import mnist

__all__ = ["Arrays", "Batch", "Batches", "idx", "mnist"]
