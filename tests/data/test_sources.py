"""Laws of every source that is read by number, over the table of `tests.data.sources_of`."""

import contextlib
import importlib
import re
import threading
from pathlib import Path

import cloudpickle
import numpy as np
import pytest

import fourbeat as fb
from fourbeat.data import Arrays, ExampleError, Examples
from tests.data.leftovers import assert_memory_stays, assert_nothing_runs_on
from tests.data.sources_of import COLUMNS, NUM, SOURCES

EPOCHS = 2


@pytest.fixture(scope="module", params=SOURCES)
def source(request, tmp_path_factory):
    kind = SOURCES[request.param]
    pytest.importorskip(kind.needs)
    return kind.make(tmp_path_factory.mktemp("source")), kind


@pytest.fixture(scope="module")
def data(source):
    made, kind = source
    return kind.examples(made, decode=kind.decode)


def host(batch):
    return {name: np.asarray(column) for name, column in batch.columns.items()}


def assert_holds(batch, numbers):
    """The examples of some numbers as the plain arrays have them, in the types that JAX keeps."""
    found = host(batch)
    assert found.keys() == COLUMNS.keys()
    for name, column in COLUMNS.items():
        wanted = column[numbers].astype(np.int32) if name == "label" else column[numbers]
        assert found[name].dtype == wanted.dtype, name
        assert np.array_equal(found[name], wanted), name


def test_batches_are_those_of_the_same_arrays(source, data):
    batches = data.batches(4, shuffle=True, seed=3, remainder="drop")
    arrays = Arrays(**COLUMNS).batches(4, shuffle=True, seed=3, remainder="drop")
    assert len(data) == NUM and len(batches) == len(arrays)
    for step in range(EPOCHS * len(batches)):
        if source[1].is_permuted:
            assert batches.numbers_of(step) == arrays.numbers_of(step)
        assert_holds(batches[step], batches.numbers_of(step))


def test_each_example_comes_once_an_epoch_and_padding_weighs_nothing(data):
    batches = data.batches(5, shuffle=True)
    for epoch in range(EPOCHS):
        steps = range(epoch * len(batches), (epoch + 1) * len(batches))
        seen = [
            label
            for step in steps
            for label, weight in zip(
                host(batches[step])["label"], np.asarray(batches[step].padding_weight), strict=True
            )
            if weight
        ]
        assert sorted(seen) == list(range(NUM))


def test_a_run_goes_on_from_every_step_with_any_number_of_workers(data):
    before = set(threading.enumerate())
    for workers in (0, 1, 4):
        batches = data.batches(6, shuffle=True, seed=1, remainder="drop", workers=workers)
        end = EPOCHS * len(batches)
        for start in range(end):
            run = fb.loop(batches, start=start, until=fb.at(steps=end))
            steps = [
                tick.step
                for tick in run
                if assert_holds(tick.batch, batches.numbers_of(tick.step - 1)) is None
            ]
            assert steps == list(range(start + 1, end + 1))
    assert_nothing_runs_on(before)


def again(library):
    """Where a class may be made a second time: TensorFlow Datasets registers each by its name."""
    if library != "tensorflow_datasets":
        return contextlib.nullcontext()
    return importlib.import_module(library).core.registered.skip_registration()


def test_what_travels_to_another_process_reads_the_same(source, data):
    batches = data.batches(6, shuffle=True, seed=1, remainder="drop")
    with again(source[1].needs):
        read = cloudpickle.loads(cloudpickle.dumps(batches.step_reader))
    for step in range(EPOCHS * len(batches)):
        wanted = batches.read(step).columns
        for name, column in read(step).columns.items():
            assert column.dtype == wanted[name].dtype and np.array_equal(column, wanted[name])


def test_parts_keep_their_examples(data):
    kept, held_out = data[1:].split(4, seed=2)
    batches = held_out.batches(4), kept[::2].batches(9)
    arrays = [part.columns["label"] for part in Arrays(**COLUMNS)[1:].split(4, seed=2)]
    assert_holds(batches[0][0], arrays[1])
    assert_holds(batches[1][0], arrays[0][::2])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_example_in_the_middle_is_named(source, workers):
    made, kind = source

    def broken(example):
        example = example if kind.decode is None else kind.decode(example)
        if example["label"] == 7:
            raise OSError("image file is truncated")
        return example

    data = kind.examples(made, decode=broken)
    with pytest.raises(ExampleError) as caught:
        for _ in fb.loop(data.batches(4, workers=workers), until=fb.at(epochs=1)):
            pass
    whole = caught.value.source if isinstance(made, Path) else f"the {type(made).__name__}"
    assert re.sub(r" \(.*?\)", "", str(caught.value), count=isinstance(made, Path)) == (
        f"example 7 of {whole}: cannot decode it: OSError: image file is truncated. Mend it, or leave it out "
        "by its place: data[np.delete(np.arange(len(data)), place)]."
    )
    assert caught.value.number == 7
    seen = data[np.delete(np.arange(NUM), 7)].batches(NUM - 1)[0]
    assert_holds(seen, np.delete(np.arange(NUM), 7))


def test_memory_stays_the_same_over_many_steps(source, data):
    """Of the slow sources a thousand steps stand for ten thousand."""
    num_steps = 1_000 if source[1].is_slow else 10_000
    batches = data.batches(1, shuffle=True, resident=False)
    assert_memory_stays(fb.loop(batches, until=fb.at(steps=num_steps)), num_steps)


def test_memory_stays_the_same_where_threads_read(tmp_path):
    kind = SOURCES["a memmap"]
    batches = Examples(kind.make(tmp_path), kind.decode).batches(2, shuffle=True, workers=2)
    assert_memory_stays(fb.loop(batches, until=fb.at(steps=2_000)), 2_000)
