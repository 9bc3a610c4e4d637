"""Arrays, examples from elsewhere, batches that any step can name, streams, idx files, MNIST."""

from fourbeat.data.arrays import Arrays
from fourbeat.data.batch import Batch
from fourbeat.data.batches import Batches
from fourbeat.data.buckets import by_length
from fourbeat.data.collating import pad_to
from fourbeat.data.decoded import ExampleError
from fourbeat.data.examples import Examples
from fourbeat.data.idx_format import idx
from fourbeat.data.image_folder import Folder, folder
from fourbeat.data.mnist_digits import mnist
from fourbeat.data.padding import padded
from fourbeat.data.parquet_files import parquet
from fourbeat.data.reading_ahead import StalledSourceWarning
from fourbeat.data.stacking import UnlikeError
from fourbeat.data.streams import Stream

__all__ = [
    "Arrays",
    "Batch",
    "Batches",
    "ExampleError",
    "Examples",
    "Folder",
    "StalledSourceWarning",
    "Stream",
    "UnlikeError",
    "by_length",
    "folder",
    "idx",
    "mnist",
    "pad_to",
    "padded",
    "parquet",
]
