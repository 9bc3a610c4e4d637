"""Arrays, examples from elsewhere, batches that any step can name, streams, idx files, MNIST."""

from typing import TYPE_CHECKING

from fourbeat._lazy_names import lazy_names

if TYPE_CHECKING:
    from fourbeat.data.agreeing import UnevenPassWarning
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
    from fourbeat.data.process_batches import global_batches, local_batches
    from fourbeat.data.reading_ahead import StalledSourceWarning
    from fourbeat.data.stacking import UnlikeError
    from fourbeat.data.streams import Stream
    from fourbeat.data.weighting import weighted

_NAMES = {
    "agreeing": ("UnevenPassWarning",),
    "arrays": ("Arrays",),
    "balancing": ("balanced",),
    "batch": ("Batch",),
    "batches": ("Batches",),
    "buckets": ("by_length",),
    "collating": ("pad_to",),
    "decoded": ("ExampleError",),
    "examples": ("Examples",),
    "idx_format": ("idx",),
    "image_folder": ("Folder", "folder"),
    "mixing": ("mix",),
    "mnist_digits": ("mnist",),
    "order": ("Order", "StepOrder"),
    "packing": ("packed",),
    "padding": ("padded",),
    "parquet_files": ("parquet",),
    "process_batches": ("global_batches", "local_batches"),
    "reading_ahead": ("StalledSourceWarning",),
    "stacking": ("UnlikeError",),
    "streams": ("Stream",),
    "weighting": ("weighted",),
}

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
    "UnevenPassWarning",
    "UnlikeError",
    "balanced",
    "by_length",
    "folder",
    "global_batches",
    "idx",
    "local_batches",
    "mix",
    "mnist",
    "packed",
    "pad_to",
    "padded",
    "parquet",
    "weighted",
]

__getattr__, __dir__ = lazy_names(__name__, _NAMES)
