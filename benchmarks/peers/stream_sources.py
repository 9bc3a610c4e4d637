"""Batches of 256 examples out of a source that is read in order: by fourbeat's loop, and by a plain `for`."""

from pathlib import Path

import numpy as np

from benchmarks.peers.data_sources import BATCH_SIZE, SHAPE, Grain, HuggingFace, Reading, TorchDataset
from benchmarks.peers.scratch import scratch_folder


def grain_pipeline(images, labels, folder):
    """A shuffled, batched Grain `IterDataset`, read ahead by its own threads."""
    photos = Grain(images, labels, folder).photos
    return photos.seed(0).shuffle().batch(BATCH_SIZE, drop_remainder=True).to_iter_dataset()


def hugging_face_iterable(images, labels, folder):
    """A Hugging Face `IterableDataset` of batches in its NumPy format."""
    dataset = HuggingFace(images, labels, folder).dataset.to_iterable_dataset()
    return dataset.with_format("numpy").batch(BATCH_SIZE, drop_last_batch=True)


def stateful_loader(images, labels, folder):
    """The `StatefulDataLoader` of torchdata over a map-style data set."""
    from torchdata.stateful_dataloader import StatefulDataLoader

    return StatefulDataLoader(
        TorchDataset(images, labels, folder).photos,
        BATCH_SIZE,
        shuffle=True,
        drop_last=True,
        collate_fn=lambda pairs: dict(
            zip(("image", "label"), map(np.stack, zip(*pairs, strict=True)), strict=True)
        ),
    )


class Streaming(Reading):
    """A side: a source that is read in order, and who reads it.

    Args:
      settings: with `num_examples`.
      source: the name of a function here.
      by: "ours", or "own" for a plain `for`.
    """

    def __init__(self, settings, *, source, by):
        num = settings["num_examples"]
        self.images = np.random.RandomState(0).randint(0, 256, (num, *SHAPE), np.uint8)
        self.labels = np.arange(num, dtype=np.int32)
        dataset = globals()[source](self.images, self.labels, Path(scratch_folder(self)))
        self._batches = looped(dataset) if by == "ours" else iterated(dataset)
        self.facts = {}


def iterated(dataset):
    """Its batches for ever."""
    while True:
        for batch in dataset:
            yield batch["image"], batch["label"]


def looped(dataset):
    """The same by `fb.loop` over a stream, whose place is kept for each batch."""
    import fourbeat as fb

    for tick in fb.loop(fb.data.Stream(dataset), until=fb.at(steps=1_000_000)):
        yield tick.batch["image"], tick.batch["label"]
