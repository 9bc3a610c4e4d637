"""Batches of 256 examples out of a source: by fourbeat, and by the loader that the source has itself.

Each class is a source. Its `ours` and `own` give batches for ever as pairs `(images, labels)`, shuffled anew
each epoch.
"""

import os
import time
from pathlib import Path

import numpy as np

from benchmarks.peers.scratch import scratch_folder

BATCH_SIZE = 256
SHAPE = (32, 32, 3)


class Reading:
    """A side: a source, and who reads it.

    Args:
      settings: with `num_examples`.
      source: the name of a class here.
      by: "ours" or the name of a method of that class.
      workers: threads of fourbeat, or processes of the peer.
      processes: of fourbeat.
      shuffle: of fourbeat; a peer that cannot says so.
    """

    def __init__(self, settings, *, source, by, workers=0, processes=0, shuffle=True):
        num = settings["num_examples"]
        random = np.random.RandomState(0)
        images = random.randint(0, 256, (num, *SHAPE), np.uint8)
        self.images, self.labels = images, np.arange(num, dtype=np.int64)
        made = globals()[source](self.images, self.labels, Path(scratch_folder(self)))
        reading = {"workers": workers, "processes": processes, "shuffle": shuffle}
        self._batches = self._ours(made, reading) if by == "ours" else getattr(made, by)(workers)
        self.facts = {}

    def _ours(self, made, reading):
        batches = made.ours().batches(BATCH_SIZE, remainder="drop", resident=False, **reading)
        step = 0
        if not (reading["workers"] or reading["processes"]):  # on the host, as the peers leave them
            while True:
                columns = batches.read(step).columns
                yield columns["image"], columns["label"]
                step += 1
        with batches.reading() as reading:
            while True:
                columns = reading.batch(step).columns
                yield columns["image"], columns["label"]
                step += 1

    def run(self, amount):
        """Reads so many batches. CPU time of this process does not depend on what else the machine does."""
        began_s = time.process_time()
        for _ in range(amount):
            self._last = next(self._batches)
        cpu_ms = 1e3 * (time.process_time() - began_s) / amount
        if amount > 1:  # the first batch of all imports and compiles
            self.facts["CPU ms a batch"] = min(cpu_ms, self.facts.get("CPU ms a batch", cpu_ms))
        return {"facts": self.facts}

    def scores(self):
        """How many images of a batch are not those of their labels, and how many are missing."""
        images, labels = (
            np.asarray(each.to_pylist() if hasattr(each, "to_pylist") else each) for each in self._last
        )
        wrong = (images.reshape(-1, *SHAPE) != self.images[labels.astype(int)]).any(axis=(1, 2, 3)).sum()
        return {"wrong": float(wrong + abs(len(images) - BATCH_SIZE))}


def indices(num):
    """The examples of each batch, for ever."""
    epoch = 0
    while True:
        order = np.random.RandomState([0, epoch]).permutation(num)
        yield from (order[i : i + BATCH_SIZE] for i in range(0, num - BATCH_SIZE + 1, BATCH_SIZE))
        epoch += 1


def torch_loader(photos, workers, **options):
    """The `DataLoader` of a torch data set: shuffled, whole batches, its workers kept from pass to pass."""
    from torch.utils.data import DataLoader

    return DataLoader(
        photos,
        BATCH_SIZE,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        **options,
    )


class Memmap:
    """A file of images that is mapped into memory."""

    def __init__(self, images, labels, folder):
        images.tofile(folder / "images")
        self.images = np.memmap(folder / "images", np.uint8, "r", shape=images.shape)
        self.labels = labels

    def ours(self):
        """As columns."""
        import fourbeat as fb

        return fb.data.Arrays(image=self.images, label=self.labels)

    def gathered(self, workers):
        """NumPy's own gather."""
        for index in indices(len(self.labels)):
            yield self.images[index], self.labels[index]


class Windows(Memmap):
    """Windows of tokens, of which one begins where the last ended."""

    def __init__(self, images, labels, folder):
        super().__init__(images, labels, folder)
        tokens = np.append(self.images.reshape(-1), np.uint8(0))
        size = images[0].size
        self.windows = np.lib.stride_tricks.sliding_window_view(tokens, size + 1)[::size]

    def ours(self):
        """As columns; the label is there to say which window it is."""
        import fourbeat as fb

        return fb.data.Arrays(image=self.windows[:, :-1], label=self.labels)

    def gathered(self, workers):
        """NumPy's own gather."""
        for index in indices(len(self.labels)):
            yield self.windows[index][:, :-1], self.labels[index]


class TorchDataset:
    """A map-style data set of PyTorch: tensors, one by one."""

    def __init__(self, images, labels, folder):
        import torch

        class Photos(torch.utils.data.Dataset):
            def __init__(self):
                self.images, self.labels = torch.from_numpy(images), torch.from_numpy(labels)

            def __len__(self):
                return len(self.labels)

            def __getitem__(self, number):
                return self.images[number], self.labels[number]

        self.photos = Photos()

    def ours(self):
        """Named."""
        import fourbeat as fb

        return fb.data.Examples(self.photos, lambda pair: {"image": pair[0], "label": pair[1]})

    def loader(self, workers):
        """The `DataLoader`."""
        loader = torch_loader(self.photos, workers)
        while True:
            yield from loader


class TorchMany(TorchDataset):
    """One that gives many at once, as arrays side by side."""

    def __init__(self, images, labels, folder):
        import torch

        class Photos(torch.utils.data.Dataset):
            def __len__(self):
                return len(labels)

            def __getitems__(self, numbers):
                return {"image": images[numbers], "label": labels[numbers]}

        self.photos = Photos()

    def ours(self):
        """As it is."""
        import fourbeat as fb

        return fb.data.Examples(self.photos)

    def loader(self, workers):
        """The `DataLoader`, told to leave batches as they are."""
        loader = torch_loader(self.photos, workers, collate_fn=lambda batch: batch)
        while True:
            for batch in loader:
                yield batch["image"], batch["label"]


class HuggingFace:
    """A `datasets.Dataset` in a memory-mapped Arrow file."""

    def __init__(self, images, labels, folder):
        import datasets

        features = datasets.Features(image=datasets.Array3D(SHAPE, "uint8"), label=datasets.Value("int64"))
        made = datasets.Dataset.from_dict({"image": list(images), "label": labels}, features)
        made.save_to_disk(str(folder / "saved"))
        self.dataset = datasets.load_from_disk(str(folder / "saved"))

    def ours(self):
        """As it is."""
        import fourbeat as fb

        return fb.data.Examples(self.dataset)

    def arrow(self, workers):
        """The rows as an Arrow table, out of which nobody has made arrays yet."""
        dataset = self.dataset.with_format("arrow")
        for index in indices(len(dataset)):
            table = dataset[index]
            yield table["image"], table["label"].to_numpy()

    def numpy(self, workers):
        """Its NumPy format, with uint8 images."""
        images = self.dataset.select_columns(["image"]).with_format("numpy", dtype=np.uint8)
        labels = self.dataset.select_columns(["label"]).with_format("numpy")
        for index in indices(len(images)):
            yield images[index]["image"], labels[index]["label"]


class Parquet:
    """A Parquet file of 32 row groups whose images are lists of bytes."""

    def __init__(self, images, labels, folder):
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.path = folder / "photos.parquet"
        image = pa.FixedSizeListArray.from_arrays(pa.array(images.reshape(-1)), images[0].size)
        pq.write_table(
            pa.table({"image": image, "label": labels}), self.path, row_group_size=len(labels) // 32
        )

    def ours(self):
        """By row group; all of them fit into the window, and stay in memory."""
        import fourbeat as fb

        return fb.data.parquet(self.path)

    @staticmethod
    def arrays(rows):
        """Images and labels of an Arrow table or record batch."""
        images = rows["image"]
        images = images.combine_chunks() if hasattr(images, "chunks") else images
        return images.flatten().to_numpy().reshape(len(rows), -1), rows["label"].to_numpy()

    def whole_table(self, workers):
        """The whole file in memory, and `take`."""
        import pyarrow.parquet as pq

        table = pq.read_table(self.path)
        for index in indices(len(table)):
            yield self.arrays(table.take(index))

    def in_order(self, workers):
        """`iter_batches`, which cannot shuffle."""
        import pyarrow.parquet as pq

        while True:
            for rows in pq.ParquetFile(self.path).iter_batches(BATCH_SIZE):
                yield self.arrays(rows)


class ParquetInWindows(Parquet):
    """The same file, of which a quarter may be in memory."""

    def ours(self):
        """By row group, read anew each epoch."""
        import fourbeat as fb

        return fb.data.parquet(self.path, window=len(fb.data.parquet(self.path)) // 4)


class ArrayRecord:
    """An ArrayRecord file of images and labels as bytes."""

    def __init__(self, images, labels, folder):
        from array_record.python.array_record_data_source import ArrayRecordDataSource
        from array_record.python.array_record_module import ArrayRecordWriter

        self.kind = np.dtype([("image", np.uint8, SHAPE), ("label", np.int64)])
        path = str(folder / "photos.array_record")
        writer = ArrayRecordWriter(path, "group_size:1")
        for image, label in zip(images, labels, strict=True):
            writer.write(image.tobytes() + label.tobytes())
        writer.close()
        self.source = ArrayRecordDataSource(path)

    def decode(self, written):
        record = np.frombuffer(written, self.kind)[0]
        return {"image": record["image"], "label": record["label"]}

    def ours(self):
        """Each example made of its bytes."""
        import fourbeat as fb

        return fb.data.Examples(self.source, self.decode)

    def many(self, workers):
        """Its `__getitems__`, and `np.stack`."""
        for index in indices(len(self.source)):
            examples = [self.decode(written) for written in self.source.__getitems__(index.tolist())]
            yield tuple(np.stack([example[name] for example in examples]) for name in ("image", "label"))


class Tfds:
    """A data set of TensorFlow Datasets, without TensorFlow."""

    def __init__(self, images, labels, folder):
        import tensorflow_datasets as tfds

        with tfds.core.registered.skip_registration():

            class Photos(tfds.core.GeneratorBasedBuilder):
                VERSION = tfds.core.Version("1.0.0")

                def _info(self):
                    image = tfds.features.Tensor(shape=SHAPE, dtype=np.uint8)
                    features = tfds.features.FeaturesDict({"image": image, "label": np.int64})
                    return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

                def _split_generators(self, manager):
                    return {"train": self._generate_examples()}

                def _generate_examples(self):
                    return ((i, {"image": images[i], "label": labels[i]}) for i in range(len(labels)))

        builder = Photos(data_dir=str(folder), file_format="array_record")
        builder.download_and_prepare()
        self.source = builder.as_data_source(split="train")

    def ours(self):
        """As it is."""
        import fourbeat as fb

        return fb.data.Examples(self.source)

    def many(self, workers):
        """Its `__getitems__`, and `np.stack`."""
        for index in indices(len(self.source)):
            examples = self.source.__getitems__(index.tolist())
            yield tuple(np.stack([example[name] for example in examples]) for name in ("image", "label"))


class Grain:
    """A Grain `MapDataset` over arrays in memory."""

    def __init__(self, images, labels, folder):
        import grain

        class Photos:
            def __len__(self):
                return len(labels)

            def __getitem__(self, number):
                return {"image": images[number], "label": labels[number]}

        self.photos = grain.MapDataset.source(Photos())

    def ours(self):
        """As it is."""
        import fourbeat as fb

        return fb.data.Examples(self.photos)

    def batched(self, workers):
        """Its own `shuffle` and `batch`, by index."""
        import grain

        batched = self.photos.seed(0).shuffle().repeat().batch(BATCH_SIZE, drop_remainder=True)
        read = grain.ReadOptions(num_threads=workers, prefetch_buffer_size=2 * workers)
        for batch in batched.to_iter_dataset(read):
            yield batch["image"], batch["label"]


class Folder:
    """PNG files in class folders."""

    def __init__(self, images, labels, folder):
        from PIL import Image

        self.folder = folder / "photos"
        for number, image in enumerate(images):
            name = self.folder / f"{number:05d}"
            name.mkdir(parents=True)
            Image.fromarray(image).save(name / "photo.png")

    def ours(self):
        """`fb.data.folder`."""
        import fourbeat as fb

        return fb.data.folder(self.folder)

    def loader(self, workers):
        """The `DataLoader` over a data set that opens each file, as torchvision's `ImageFolder` does."""
        import torch
        from PIL import Image

        paths = sorted(self.folder.glob("*/*.png"))
        assert os.path.exists(paths[0])

        class Photos(torch.utils.data.Dataset):
            def __len__(self):
                return len(paths)

            def __getitem__(self, number):
                with Image.open(paths[number]) as image:
                    return np.array(image), number

        loader = torch_loader(Photos(), workers)
        while True:
            yield from loader
