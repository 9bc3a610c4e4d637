"""What is no source of examples by number is refused by its name, with the repair."""

import numpy as np
import pytest

from fourbeat.data import Arrays, Examples

BATCH = {"x": np.zeros((4, 2)), "y": np.zeros(4)}


class Stream:
    def __iter__(self):
        return iter([BATCH])


def hf_parts():
    datasets = pytest.importorskip("datasets")
    return datasets.DatasetDict(train=datasets.Dataset.from_dict({"x": [1]}))


def grain_batched():
    return pytest.importorskip("grain").MapDataset.range(6).batch(2).map(abs)


def grain_repeated():
    return pytest.importorskip("grain").MapDataset.range(6).repeat(2)


def frame():
    return pytest.importorskip("pandas").DataFrame({"x": [1.0, 2.0], "y": [3, 4]})


REFUSED = {
    "pandas: a frame": (
        frame,
        "source is a pandas DataFrame, which is columns, not examples by number. Its columns are "
        "fourbeat.data.Arrays(**frame), its rows fourbeat.data.Examples(frame.to_dict('records')).",
    ),
    "columns": (
        lambda: BATCH,
        "source is one dict of columns, not examples by number. Columns of equal length are "
        "fourbeat.data.Arrays(**columns).",
    ),
    "a data set": (
        lambda: Arrays(x=[1]),
        "source is the Arrays, which is a data set already: use its batches(...).",
    ),
    "batches": (
        lambda: Arrays(x=[1]).batches(1),
        "source is the Batches, which is batches already: pass it to fourbeat.loop.",
    ),
    "a list of batches": (
        lambda: [BATCH, BATCH],
        "source is a list that may hold batches: its first entry has arrays that share a leading axis: "
        "batch['x'] (4, 2), batch['y'] (4,). If these are batches, pass the list to fourbeat.loop. If they "
        "are "
        "examples, say so: decode=dict.",
    ),
    "a path": (
        lambda: "photos",
        "source is of type str, which cannot be read by number: expected len() and [i].",
    ),
    "a stream": (
        Stream,
        "source is of type Stream, which cannot be read by number: expected len() and [i]. Examples that "
        "come one "
        "after the other are a stream: fourbeat.data.Stream(source).",
    ),
    "datasets: DatasetDict": (
        hf_parts,
        "source is the DatasetDict of train: name one of them, as in source['train'].",
    ),
    "grain: batched": (
        grain_batched,
        "source is a Grain data set that is batched already: BatchMapDataset(batch_size=2, "
        "drop_remainder=False). "
        "Leave its batch(...) out, or pass it to fourbeat.loop as it is: it is batches by itself.",
    ),
    "grain: repeated": (
        grain_repeated,
        "source is a Grain data set that repeats its examples: RepeatMapDataset(num_epochs=2). Leave its "
        "repeat(...) out: batches go from one epoch to the next by themselves.",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_source_is_refused(kind):
    make, text = REFUSED[kind]
    with pytest.raises(TypeError) as caught:
        Examples(make())
    assert str(caught.value) == text


def test_a_list_of_examples_with_a_common_axis_is_taken_where_it_is_said_to_be_one():
    batch = Examples([BATCH, BATCH], decode=dict).batches(2)[0]
    assert batch["x"].shape == (2, 4, 2)
    assert Examples([{"x": np.zeros(3), "label": 1}]).batches(1)[0]["x"].shape == (1, 3)


def test_what_the_refusal_of_a_frame_names_reads_it():
    for data in (Arrays(**frame()), Examples(frame().to_dict("records"))):
        batch = data.batches(2)[0]
        assert np.asarray(batch["x"]).tolist() == [1, 2] and np.asarray(batch["y"]).tolist() == [3, 4]
