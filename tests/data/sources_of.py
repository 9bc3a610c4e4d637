"""Sources of the same 23 examples, each of a real library: by name, what makes it and what decodes it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from fourbeat.data import Examples, folder, parquet

NUM = 23
IMAGES = np.random.RandomState(0).randint(0, 256, (NUM, 4, 4, 1)).astype(np.uint8)
LABELS = np.arange(NUM, dtype=np.int64)
SCORES = np.linspace(0, 1, NUM, dtype=np.float32)
COLUMNS = {"image": IMAGES, "label": LABELS, "score": SCORES}


class Source(NamedTuple):
    """How to make a source.

    Attributes:
      make: from an empty folder to the source.
      decode: of its examples; None where they are dicts.
      needs: the module without which there is no such source.
      examples: what makes the data set of the source.
      is_permuted: whether a shuffle is a permutation of all examples.
      is_slow: whether its library takes more than 0.3 ms to read an example.
    """

    make: Callable[[Path], Any]
    decode: Callable[[Any], dict[str, Any]] | None = None
    needs: str = "numpy"
    examples: Callable[..., Examples] = Examples
    is_permuted: bool = True
    is_slow: bool = False


def named(example):
    image, label, score = example
    return {"image": image, "label": label, "score": score}


def one(i):
    return {"image": IMAGES[i], "label": int(LABELS[i]), "score": SCORES[i]}


RECORD = np.dtype([("image", np.uint8, (4, 4, 1)), ("label", np.int64), ("score", np.float32)])


def records():
    array = np.empty(NUM, RECORD)
    for name, column in COLUMNS.items():
        array[name] = column
    return array


def of_record(record):
    return {name: record[name] for name in RECORD.names}


def of_bytes(written):
    return of_record(np.frombuffer(written, RECORD)[0])


def memmap(folder):
    records().tofile(folder / "records")
    return np.memmap(folder / "records", RECORD, "r")


def windows(folder):
    """Windows of 17 tokens, of which the last begins the next: `image` is their first 16."""
    tokens = np.append(IMAGES.reshape(-1), np.uint8(0))
    tokens.tofile(folder / "tokens")
    mapped = np.memmap(folder / "tokens", np.uint8, "r")
    return np.lib.stride_tricks.sliding_window_view(mapped, 17)[::16]


def of_window(window):
    image = window[:-1].reshape(4, 4, 1)
    number = int(np.flatnonzero((image == IMAGES).all(axis=(1, 2, 3)))[0])
    return {"image": image, "label": LABELS[number], "score": SCORES[number]}


class Photos:
    """A map-style data set of tuples that holds its own arrays."""

    def __len__(self):
        return NUM

    def __getitem__(self, number):
        return IMAGES[number], int(LABELS[number]), SCORES[number]


class ManyPhotos(Photos):
    """One that gives many at once."""

    def __getitems__(self, numbers):
        return [self[number] for number in numbers]


def tensors(folder):
    torch = pytest.importorskip("torch")
    return torch.utils.data.TensorDataset(*(torch.tensor(column) for column in COLUMNS.values()))


def subset(folder):
    from torch.utils.data import Subset

    return Subset(Twice(ManyPhotos()), range(2 * NUM - 1, NUM - 1, -1))


class Twice:
    """The examples forwards and backwards."""

    def __init__(self, photos):
        self._photos = photos

    def __getitem__(self, number):
        return self._photos[number if number < NUM else 2 * NUM - 1 - number]

    def __len__(self):
        return 2 * NUM


def concatenated(folder):
    from torch.utils.data import ConcatDataset, Subset

    return ConcatDataset([Subset(Photos(), range(10)), Subset(Photos(), range(10, NUM))])


def hf(folder, **options):
    import datasets

    features = datasets.Features(
        image=datasets.Array3D((4, 4, 1), "uint8"),
        label=datasets.Value("int64"),
        score=datasets.Value("float32"),
    )
    return datasets.Dataset.from_dict({name: list(column) for name, column in COLUMNS.items()}, features)


def hf_nested(folder):
    """Lists in lists in place of an `Array3D`, in a file of several record batches, selected and shuffled."""
    import datasets

    twice = {name: [*column[::-1].tolist(), *column.tolist()] for name, column in COLUMNS.items()}
    nested = datasets.List(datasets.List(datasets.List(datasets.Value("uint8"))))
    features = datasets.Features(image=nested, label=datasets.Value("int64"), score=datasets.Value("float32"))
    made = datasets.Dataset.from_dict(twice, features)
    made.save_to_disk(str(folder / "saved"), num_shards=3)
    return datasets.load_from_disk(str(folder / "saved")).select(range(NUM, 2 * NUM))


def hf_numpy(folder):
    return hf(folder).with_format("numpy")


def hf_torch(folder):
    import datasets

    torch = pytest.importorskip("torch")
    features = datasets.Features(
        image=datasets.Array3D((4, 4, 1), "uint8"),
        label=datasets.Value("int64"),
        score=datasets.Value("float32"),
    )
    columns = {name: list(column) for name, column in COLUMNS.items()}
    return datasets.Dataset.from_dict(columns, features).with_format("torch", dtype=torch.float32)


def as_they_were(example):
    """What a format that the user chose made floats of."""
    image, label, score = (np.asarray(example[name]) for name in COLUMNS)
    return {"image": image.astype(np.uint8), "label": label.astype(np.int64), "score": score}


class Records:
    """A random access source of Grain."""

    def __len__(self):
        return NUM

    def __getitem__(self, number):
        return number


def grain_map(folder):
    import grain

    return grain.MapDataset.source(Records()).map(one)


def array_record(folder):
    from array_record.python.array_record_data_source import ArrayRecordDataSource
    from array_record.python.array_record_module import ArrayRecordWriter

    path = str(folder / "photos.array_record")
    writer = ArrayRecordWriter(path, "group_size:1")
    for record in records():
        writer.write(record.tobytes())
    writer.close()
    return ArrayRecordDataSource(path)


def tfds(folder):
    import tensorflow_datasets as tfds

    class Photos(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            image = tfds.features.Tensor(shape=(4, 4, 1), dtype=np.uint8)
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict({"image": image, "label": np.int64, "score": np.float32}),
                disable_shuffling=True,
            )

        def _split_generators(self, manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            return ((i, one(i)) for i in range(NUM))

    builder = Photos(data_dir=str(folder), file_format="array_record")
    builder.download_and_prepare()
    return builder.as_data_source(split="train")


def parquet_files(path):
    """Row groups of 4, 4 and 1 rows, and of 5, 5 and 4, in two files; lists in lists."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = path / "photos"
    path.mkdir()
    for name, part, size in ("a", slice(0, 9), 4), ("b", slice(9, NUM), 5):
        image = pa.array(IMAGES[part].tolist(), pa.list_(pa.list_(pa.list_(pa.uint8()))))
        columns = {"image": image, "label": LABELS[part], "score": SCORES[part], "left_out": LABELS[part]}
        pq.write_table(pa.table(columns), path / f"{name}.parquet", row_group_size=size)
    return path


def of_parquet(path, decode=None):
    return parquet(path, COLUMNS, decode=decode, window=8)


def pngs(path):
    from PIL import Image

    path = path / "photos"
    for number, image in enumerate(IMAGES):
        (path / f"{number:02d}").mkdir(parents=True)
        Image.fromarray(image[..., 0]).save(path / f"{number:02d}" / "photo.png")
    return path


def with_score(example):
    return {**example, "score": SCORES[example["label"]]}


def of_folder(path, decode=None):
    return folder(path, decode=decode)


SOURCES = {
    "a list of dicts": Source(lambda folder: [one(i) for i in range(NUM)]),
    "an object with len and [i]": Source(lambda folder: Photos(), named),
    "an object with __getitems__": Source(lambda folder: ManyPhotos(), named),
    "a memmap": Source(memmap, of_record),
    "windows of a memmap": Source(windows, of_window),
    "torch: TensorDataset": Source(tensors, named, "torch"),
    "torch: Subset": Source(subset, named, "torch"),
    "torch: ConcatDataset": Source(concatenated, named, "torch"),
    "datasets: Dataset": Source(hf, None, "datasets"),
    "datasets: nested lists": Source(hf_nested, None, "datasets"),
    "datasets: numpy format": Source(hf_numpy, None, "datasets"),
    "datasets: torch format": Source(hf_torch, as_they_were, "datasets", is_slow=True),
    "grain: MapDataset": Source(grain_map, None, "grain"),
    "array_record": Source(array_record, of_bytes, "array_record", is_slow=True),
    "tfds: data_source": Source(tfds, None, "tensorflow_datasets", is_slow=True),
    "parquet": Source(parquet_files, None, "pyarrow", of_parquet, is_permuted=False),
    "folder": Source(pngs, with_score, "PIL", of_folder),
}
