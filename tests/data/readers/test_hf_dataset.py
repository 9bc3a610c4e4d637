"""What Hugging Face decodes, what it leaves in Python, and a data set that travels to another process."""

import pickle

import numpy as np
import pytest

from fourbeat.data import ExampleError, Examples

datasets = pytest.importorskip("datasets")


def test_images_are_decoded_by_the_library_and_made_arrays_by_decode():
    from PIL import Image

    images = [Image.fromarray(np.full((2, 3), i, np.uint8)) for i in range(4)]
    features = datasets.Features(
        image=datasets.Image(), label=datasets.ClassLabel(2), name=datasets.Value("string")
    )
    columns = {"image": images, "label": [0, 1, 0, 1], "name": ["a", "b", "c", "d"]}
    source = datasets.Dataset.from_dict(columns, features)
    data = Examples(source, lambda example: {**example, "image": np.asarray(example["image"])})
    batch = data[1:].batches(2)[0]
    assert batch["image"].tolist() == [[[1] * 3] * 2, [[2] * 3] * 2] and batch["image"].dtype == np.uint8
    assert batch["label"].tolist() == [1, 0] and batch.texts["name"].tolist() == ["b", "c"]
    with pytest.raises(
        ExampleError, match=r"^example 0 of the Dataset: its 'image' is of type PIL\.\w+, no array"
    ):
        Examples(source).batches(2)[0]


def test_ragged_lists_are_padded_by_collate_or_refused():
    source = datasets.Dataset.from_dict({"tokens": [[1], [2, 3], [4]]})
    with pytest.raises(
        ExampleError, match=r"^example 1 of the Dataset: its 'tokens' has shape \(2,\), where"
    ):
        Examples(source).batches(3)[0]

    def padded(examples):
        tokens = np.zeros((len(examples), 2), np.int32)
        for row, example in zip(tokens, examples, strict=True):
            row[: len(example["tokens"])] = example["tokens"]
        return {"tokens": tokens}

    assert Examples(source, collate=padded).batches(3)[0]["tokens"].tolist() == [[1, 0], [2, 3], [4, 0]]


def test_a_chosen_format_is_kept():
    source = datasets.Dataset.from_dict({"x": [1, 2], "y": [3, 4]})
    doubled = source.with_transform(lambda batch: {"x": [2 * x for x in batch["x"]]})
    assert Examples(doubled).batches(2)[0]["x"].tolist() == [2, 4]
    assert Examples(source.with_format("numpy", dtype=np.float32)).batches(2)[0]["x"].dtype == np.float32
    assert "y" not in Examples(source.with_format("numpy", columns=["x"])).batches(2)[0]


def test_a_reader_travels_to_another_process():
    source = datasets.Dataset.from_dict({"x": list(range(9))}).train_test_split(3, seed=0)["test"]
    data = Examples(source)
    travelled = pickle.loads(pickle.dumps(data))
    assert np.array_equal(travelled.batches(3)[0]["x"], data.batches(3)[0]["x"])
    assert travelled.batches(3)[0]["x"].tolist() == source["x"]
