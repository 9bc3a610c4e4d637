"""Arrays, examples from elsewhere, batches that any step can name, streams, idx files, MNIST."""

from fourbeat.data.arrays import Arrays
from fourbeat.data.balancing import balanced
from fourbeat.data.batch import Batch
from fourbeat.data.batches import Batches
from fourbeat.data.buckets import by_length
from fourbeat.data.collating import pad_to
from fourbeat.data.decoded import ExampleError
from fourbeat.data.examples import Examples
from fourbeat.data.idx_format import idx
from fourbeat.data.image_folder import Folder, folder
from fourbeat.data.mixing import mix
from fourbeat.data.mnist_digits import mnist
from fourbeat.data.order import Order, StepOrder
from fourbeat.data.packing import packed
from fourbeat.data.padding import padded
from fourbeat.data.parquet_files import parquet
from fourbeat.data.reading_ahead import StalledSourceWarning
from fourbeat.data.stacking import UnlikeError
from fourbeat.data.streams import Stream
from fourbeat.data.weighting import weighted

__all__ = [
    "Arrays",
    "Batch",
    "Batches",
    "ExampleError",
    "Examples",
    "Folder",
    "Order",
    "StalledSourceWarning",
    "StepOrder",
    "Stream",
    "UnlikeError",
    "balanced",
    "by_length",
    "folder",
    "idx",
    "mix",
    "mnist",
    "packed",
    "pad_to",
    "padded",
    "parquet",
    "weighted",
]
