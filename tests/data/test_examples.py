import threading
import time

import numpy as np
import pytest

import fourbeat as fb
from fourbeat.data import Arrays, ExampleError, Examples

IMAGES = np.random.RandomState(0).randint(0, 256, (23, 4, 4), np.uint8)
LABELS = np.arange(23, dtype=np.int64)


class Photos:
    """A map-style data set that holds its own arrays."""

    def __len__(self):
        return len(LABELS)

    def __getitem__(self, number):
        return IMAGES[number], int(LABELS[number])


def named(example):
    image, label = example
    return {"image": image, "label": label}


BATCHES = {
    "in order": {},
    "shuffled": {"shuffle": True, "seed": 3},
    "without a remainder": {"shuffle": True, "remainder": "drop"},
}


def columns(batch):
    return {name: np.asarray(column) for name, column in batch.materialize().items()}


def assert_same(batch, wanted):
    batch, wanted = columns(batch), columns(wanted)
    assert batch.keys() == wanted.keys()
    for name, column in wanted.items():
        assert batch[name].dtype == column.dtype
        assert np.array_equal(batch[name], column), name


@pytest.mark.parametrize("workers", [0, 1, 4])
@pytest.mark.parametrize("kind", BATCHES)
def test_examples_are_batched_as_the_same_arrays_are(kind, workers):
    arrays = Arrays(image=IMAGES, label=LABELS).split(5, seed=1)[0].batches(4, **BATCHES[kind])
    examples = (
        Examples(Photos(), decode=named).split(5, seed=1)[0].batches(4, **BATCHES[kind], workers=workers)
    )
    assert len(examples) == len(arrays)
    for step in range(2 * len(arrays)):
        assert_same(examples[step], arrays[step])
    run = fb.loop(examples, start=3, until=fb.at(epochs=2))
    steps = [
        (tick.step, tick.examples) for tick in run if assert_same(tick.batch, arrays[tick.step - 1]) is None
    ]
    assert steps == [(step, arrays.examples(step)) for step in range(4, 2 * len(arrays) + 1)]


@pytest.mark.parametrize("workers", [0, 2])
def test_blocks_hold_the_same_batches(workers):
    examples = Examples(Photos(), decode=named).batches(4, shuffle=True, workers=workers)
    arrays = Arrays(image=IMAGES, label=LABELS).batches(4, shuffle=True)
    for tick in fb.loop(examples, until=fb.at(epochs=2), steps_per_call=5):
        for i in range(tick.num_steps):
            assert_same(tick.batch.batch.take(i), arrays[tick.step - tick.num_steps + i])


def reading_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("fourbeat-reads")]


@pytest.mark.parametrize("end", ["break", "error", "limit"])
def test_workers_end_with_the_loop(end):
    batches = Examples(Photos(), decode=named).batches(4, workers=2)
    with pytest.raises(KeyError) if end == "error" else pytest.MonkeyPatch.context():
        for tick in fb.loop(batches, until=fb.at(steps=9)):
            assert reading_threads()
            if tick.step == 4 and end == "break":
                break
            if tick.step == 4 and end == "error":
                raise KeyError
    for thread in reading_threads():
        thread.join(timeout=10)
    assert not reading_threads()


def broken_decode(example):
    if example[1] == 7:
        raise OSError("image file is truncated")
    return named(example)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_example_is_named(workers):
    data = Examples(Photos(), decode=broken_decode)[2:]
    with pytest.raises(ExampleError) as caught:
        for _ in fb.loop(data.batches(4, shuffle=True, workers=workers), until=fb.at(epochs=1)):
            pass
    assert str(caught.value) == (
        "example 7 of the Photos: cannot decode it: OSError: image file is truncated. Mend it, or leave it "
        "out by its place: data[np.delete(np.arange(len(data)), place)]."
    )
    assert caught.value.number == 7 and isinstance(caught.value.__cause__, OSError)
    mended = data[np.delete(np.arange(len(data)), 5)]
    seen = [label for batch in mended.batches(4, workers=workers) for label in columns(batch)["label"]]
    assert 7 not in seen and set(seen) == set(range(2, 23)) - {7}


def test_a_slow_source_shows_as_waiting():
    def slow(example):
        time.sleep(0.002)
        return named(example)

    run = fb.loop(Examples(Photos(), decode=slow).batches(4), until=fb.at(steps=3))
    waited = [run.data_wait_s for _ in run]
    assert waited[0] >= 0.008
    assert waited[2] >= waited[1] + 0.008
    run = fb.loop(Arrays(label=LABELS).batches(4), until=fb.at(steps=3))
    assert [run.data_wait_s for _ in run] == [0, 0, 0]
