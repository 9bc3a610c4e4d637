import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fourbeat as fb
from fourbeat.data import Arrays, ExampleError, Examples, StalledSourceWarning, reading_ahead

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


class Reusing:
    """A source and a collate function that fill the same memory for every batch."""

    def __init__(self):
        self.memory = np.zeros((2, 16), np.float32)

    def __len__(self):
        return 12

    def __getitem__(self, number):
        return {"x": self.memory[number]}

    def __getitems__(self, numbers):
        self.memory[:] = np.asarray(numbers)[:, None]
        return {"x": self.memory}

    def collate(self, examples):
        return self.__getitems__([example["i"] for example in examples])


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("who", ["the source", "collate"])
def test_memory_that_is_filled_again_reaches_no_batch_given_before(who, workers):
    reusing = Reusing()
    examples = (
        Examples(reusing)
        if who == "the source"
        else Examples(range(12), decode=lambda i: {"i": i}, collate=reusing.collate)
    )
    batches = list(examples.batches(2, workers=workers, ahead=workers and 4))
    assert [batch["x"][:, 0].tolist() for batch in batches] == [[i, i + 1] for i in range(0, 12, 2)]


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


def waits_for(event):
    def decode(example):
        if example[1] == 9:
            event.wait()
        return named(example)

    return decode


def test_a_source_that_stalls_is_named(monkeypatch):
    monkeypatch.setattr(reading_ahead, "_STALLED_S", 0.0)
    monkeypatch.setattr(reading_ahead, "_LOOK_S", 0.01)
    event = threading.Event()
    warning = reading_ahead.warnings.warn

    def warn_and_go_on(*args, **kwargs):
        warning(*args, **kwargs)
        event.set()

    monkeypatch.setattr(reading_ahead.warnings, "warn", warn_and_go_on)
    batches = Examples(Photos(), decode=waits_for(event)).batches(4, workers=1)
    with pytest.warns(StalledSourceWarning) as caught:
        assert [tick.step for tick in fb.loop(batches, until=fb.at(steps=3))] == [1, 2, 3]
    (said,) = {str(each.message) for each in caught if "step 3" in str(each.message)}
    assert said == (
        "step 3 has waited 0 s for its batch: the Photos stalls. Its examples are [8, 9, 10, 11]."
    )


def test_a_stop_ends_the_wait_for_a_source_that_stalls(monkeypatch):
    monkeypatch.setattr(reading_ahead, "_LOOK_S", 0.01)
    event, stop = threading.Event(), fb.stop_signal(install=False)
    batches = Examples(Photos(), decode=waits_for(event)).batches(4, workers=1)
    threading.Timer(0.05, stop.request).start()
    steps = [tick.step for tick in fb.loop(batches, until=fb.at(steps=5) | stop)]
    event.set()
    assert steps == [1, 2]


UNREADABLE = {
    "columns": (
        lambda: Examples({"x": IMAGES}),
        "source is one dict of columns, not examples by number. Columns of equal length are "
        "fourbeat.data.Arrays(**columns).",
    ),
    "a data set": (
        lambda: Examples(Arrays(x=IMAGES)),
        "source is the Arrays, which is a data set already: use its batches(...).",
    ),
    "a generator": (
        lambda: Examples(iter([1])),
        "source is of type list_iterator, which cannot be read by number: expected len() and [i]. Examples "
        "that come one after the other are a stream: fourbeat.data.Stream(source).",
    ),
    "workers": (
        lambda: Examples(Photos()).batches(4, workers=-1),
        "workers is -1; expected a number of threads, 0 for none.",
    ),
    "ahead": (
        lambda: Examples(Photos()).batches(4, ahead=3),
        "ahead is 3 with workers=0; expected at least 1 with workers, and none without.",
    ),
    "no columns": (
        lambda: Examples(Photos()).batches(4)[0],
        "example 0 of the Photos: an example is a tuple, and a batch needs named columns: pass decode=, a "
        'function of one example that returns a dict, as {"image": ..., "label": ...}.',
    ),
    "other columns": (
        lambda: Examples([{"x": 1}, {"y": 1}]).batches(2)[0],
        "example 1 of the list: it has the columns y, where example 0 has x: all examples need the same.",
    ),
    "other shapes": (
        lambda: Examples([{"x": np.ones(2)}, {"x": np.ones(3)}], decode=dict).batches(2)[0],
        "example 1 of the list: its 'x' has shape (3,), where that of example 0 has (2,): bring them to one "
        "shape in decode=, or pad them with collate=fourbeat.data.pad_to(...).",
    ),
    "other types": (
        lambda: [*Examples([{"x": 1}, {"x": 1.5}]).batches(1)],
        "the list: a batch has the columns x float32, where an earlier one has x int32: convert them "
        "in decode=.",
    ),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_errors_name_the_source_and_the_repair(name):
    act, text = UNREADABLE[name]
    with pytest.raises((TypeError, ValueError, ExampleError)) as caught:
        act()
    assert str(caught.value) == text


def test_texts_stay_beside_the_batch():
    data = Examples([{"x": i, "name": f"n{i}"} for i in range(5)])
    batches = data.batches(2, shuffle=True)
    for tick in fb.loop(batches, until=fb.at(epochs=1)):
        assert tick.batch.texts["name"].tolist() == [f"n{i}" for i in tick.batch["x"].tolist()]
    step = jax.jit(lambda batch: batch["x"].sum() if batch.texts is None else 1 / 0)
    assert int(step(batches[0])) == int(batches[0]["x"].sum())


def test_all_examples_can_live_on_the_device():
    batches = Examples(Photos(), decode=named).batches(4, shuffle=True, resident=True)
    arrays = Arrays(image=IMAGES, label=LABELS).batches(4, shuffle=True)
    assert batches[0].columns is None
    for step in range(8):
        assert_same(batches[step], arrays[step])


def test_an_evaluation_reads_ahead_and_sees_every_example_once():
    counted = fb.metrics.Collection(labels=fb.metrics.Mean("label"))
    beats = fb.four_beats(lambda model, batch: batch["label"] * model["w"], optax.sgd(0.1), metrics=counted)
    state = beats.init({"w": jnp.ones(())})
    evaluate = fb.evaluator(beats)
    scores = evaluate(state, Examples(Photos(), decode=named).batches(4, workers=2))
    assert scores == evaluate(state, Arrays(image=IMAGES, label=LABELS).batches(4))
    assert scores["labels"] == LABELS.mean()


BUFFER, CONSTANT = np.zeros((2, 4, 4), np.uint8), np.ones(3, np.float32)


def into_a_buffer(example):
    BUFFER[1] = example[0]
    return {"label": example[1], "image": BUFFER[1]}


class Refilled:
    """A source that gives the same array for each example, filled anew."""

    def __init__(self):
        self._held = np.zeros(2, np.int32)

    def __len__(self):
        return 6

    def __getitem__(self, number):
        self._held[:] = number
        return {"x": self._held}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("data", "column", "source"),
    [
        (Examples(Photos(), decode=into_a_buffer), "image", "Photos"),
        (Examples(Refilled()), "x", "Refilled"),
    ],
    ids=["decode", "source"],
)
def test_examples_that_are_written_into_one_buffer_are_refused(data, column, source, workers):
    with pytest.raises(ExampleError) as caught:
        list(data.batches(3, workers=workers))
    assert str(caught.value) == (
        f"the {source}: each example is written into the same memory: a batch would hold the last one's "
        f"{column!r} again and again. Return an array of its own, such as np.array({column})."
    )


def test_an_array_that_all_examples_share_stays():
    data = Examples(Photos(), decode=lambda example: {"label": example[1], "scale": CONSTANT})
    assert columns(data.batches(4)[0])["scale"].tolist() == [[1, 1, 1]] * 4
