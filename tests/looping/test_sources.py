"""Where batches come from: what is read when, what is copied, and what is refused."""

from collections import UserDict

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fourbeat.compiling.blocks import Block
from fourbeat.data import Arrays
from fourbeat.looping import at, every, loop


def batch_of(value, rows=2):
    return {"x": np.full((rows, 3), value, np.float32), "y": np.arange(rows)}


def values(tick):
    if isinstance(tick.batch, Block):
        return [float(tick.batch.take(i)["x"][0, 0]) for i in range(int(tick.batch.num_steps))]
    return [float(tick.batch["x"][0, 0])]


class Filling:
    """Gives one buffer again and again, filled anew, aligned so that a device could share it."""

    def __init__(self, count):
        memory = np.zeros(64 + 4 * 64, np.uint8)
        offset = -memory.ctypes.data % 64
        self.buffer = memory[offset : offset + 256].view(np.float32).reshape(16, 4)
        self.count = count

    def fill(self, value):
        self.buffer[:] = value
        return {"x": self.buffer}

    def generate(self):
        return (self.fill(value) for value in range(self.count))


class FillingSequence(Filling):
    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return self.fill(index)


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("kind", ["iterator", "sequence"])
def test_a_buffer_that_is_filled_again_does_not_reach_batches_given_before(kind, size):
    batches = Filling(7).generate() if kind == "iterator" else FillingSequence(7)
    ticks = list(loop(batches, until=at(steps=7), steps_per_call=size))
    assert [value for tick in ticks for value in values(tick)] == list(range(7))


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("wrap", [list, iter])
def test_numpy_goes_to_the_device_and_jax_arrays_pass(wrap, size):
    given = jnp.ones((2, 2))
    batches = wrap([{"x": given, "y": {"z": np.zeros(2, np.int32)}}] * 2)
    for tick in loop(batches, until=at(steps=2), steps_per_call=size):
        assert isinstance(tick.batch, Block) == (size > 1)
        leaves = jax.tree.leaves(tick.batch.batch if size > 1 else tick.batch)
        assert all(isinstance(leaf, jax.Array) and not leaf.committed for leaf in leaves)
        assert size > 1 or tick.batch["x"] is given


def test_a_mapping_that_jax_does_not_know_becomes_a_dict():
    (tick,) = loop([UserDict(batch_of(3))], until=at(steps=1))
    assert values(tick) == [3]


@pytest.mark.parametrize("size", [1, 2])
def test_an_iterable_is_read_one_ahead_and_never_into_the_next_pass(size):
    log = []

    class Logged:
        def __iter__(self):
            log.append("pass")
            for value in range(3):
                log.append(value)
                yield batch_of(value)

    for tick in loop(Logged(), until=at(epochs=2), steps_per_call=size):
        log.append(f"step {tick.step}")
    passes = {
        1: ["pass", 0, 1, "step {}", 2, "step {}", "step {}"],
        2: ["pass", 0, 1, 2, "step {}", "step {}"],
    }[size]
    steps = iter([1, 2, 3, 4, 5, 6] if size == 1 else [2, 3, 5, 6])
    assert log == [x.format(next(steps)) if "step" in str(x) else x for x in passes * 2]


def test_a_start_drops_the_batches_before_it_and_counts_them():
    read = []

    def batches():
        for value in range(5):
            read.append(value)
            yield batch_of(value, rows=value + 1)

    ticks = loop(batches(), until=at(steps=9), start=3)
    assert read == []
    assert [(tick.step, tick.examples, *values(tick)) for tick in ticks] == [(4, 10, 3), (5, 15, 4)]


def test_a_list_is_not_read_up_to_its_start_unless_examples_are_asked_for():
    class Logged(list):
        def __init__(self, batches):
            super().__init__(batches)
            self.read = []

        def __getitem__(self, index):
            self.read.append(index)
            return super().__getitem__(index)

    batches = Logged([batch_of(value, rows=value + 1) for value in range(4)])
    (tick,) = loop(batches, until=at(steps=7), start=6)
    assert batches.read == [2]
    assert tick.examples == 10 + 1 + 2 + 3
    assert batches.read == [2, 0, 1, 2, 3]


def test_an_iterator_that_ends_before_the_start_gives_nothing():
    assert list(loop(iter([batch_of(0)] * 3), until=at(steps=9), start=3)) == []
    assert list(loop(iter([batch_of(0)] * 3), until=at(steps=9), start=5)) == []


def test_a_stream_is_let_go_when_the_loop_ends():
    closed = []

    class Passes:
        def __iter__(self):
            try:
                yield from [batch_of(0)] * 5
            finally:
                closed.append(True)

    ticks = loop(Passes(), until=at(epochs=1))
    for _ in ticks:
        break
    assert closed == [True]


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("resident", [True, False])
def test_batches_of_the_data_package(size, resident):
    data = Arrays(x=np.arange(10, dtype=np.float32))
    batches = data.batches(4, shuffle=True, seed=1, resident=resident)
    ticks = loop(batches, until=at(steps=7), start=2, marks=[every(epochs=1)], steps_per_call=size)
    seen, shape = {}, []
    for tick in ticks:
        assert tick.examples == batches.examples(tick.step)
        shape.append((tick.step, tick.epoch, every(epochs=1) in tick))
        if size == 1:
            seen[tick.step - 1] = tick.batch
            continue
        assert tick.batch.size == 3 and int(tick.batch.num_steps) == tick.num_steps
        for i in range(tick.num_steps):
            seen[tick.step - tick.num_steps + i] = tick.batch.take(i)
    ends = [3, 4, 5, 6, 7] if size == 1 else [3, 6, 7]
    assert shape == [(step, step // 3, step % 3 == 0) for step in ends]
    assert list(seen) == [2, 3, 4, 5, 6]
    for step, batch in seen.items():
        expected = batches[step].materialise()
        jax.tree.map(np.testing.assert_array_equal, batch.materialise(), expected)


@pytest.mark.parametrize("size", [1, 2])
def test_batches_of_the_data_package_in_an_iterable(size):
    batches = Arrays(x=np.arange(6, dtype=np.float32)[:, None]).batches(2)
    ticks = loop(iter(batches), until=at(steps=9), steps_per_call=size)
    assert [(values(tick), tick.examples) for tick in ticks] == (
        [([0], 2), ([2], 4), ([4], 6)] if size == 1 else [([0, 2], 4), ([4], 6)]
    )


class Unlike:
    """Says two batches a pass and gives three."""

    def __len__(self):
        return 2

    def __iter__(self):
        return iter([batch_of(0)] * 3)


class Once:
    """Looks as if it could be iterated anew."""

    def __init__(self):
        self.batches = iter([batch_of(0)] * 2)

    def __iter__(self):
        return iter(list(self.batches))


EMPTY = (
    'gave no batch. Check the filter or the split that it comes from; with remainder="drop" fewer rows than '
    "one batch give none."
)
ERRORS = {
    "empty list": ([], ValueError, f"batches is empty: the list {EMPTY}"),
    "empty iterator": (
        iter([]),
        ValueError,
        f"batches is empty: the list_iterator {EMPTY}",
    ),
    "one batch": (
        batch_of(0),
        TypeError,
        "batches is one dict, not many batches. Pass the batches in a list: loop([batch], ...).",
    ),
    "no batch size": (
        Arrays(x=np.zeros(3)),
        TypeError,
        "batches is the Arrays itself, which has no batch size. Pass data.batches(32).",
    ),
    "number": (
        5,
        TypeError,
        "batches is of type int, which cannot be iterated. Pass data.batches(...), a list of dicts, or an "
        "iterable of dicts.",
    ),
    "tuples": (
        iter([(np.zeros(2), np.zeros(2))]),
        TypeError,
        "a batch is a dict of arrays, and this one is a tuple. Give each column a name, such as "
        '{"image": images, "label": labels}.',
    ),
    "list column": (
        [{"x": [1, 2, 3]}],
        TypeError,
        "batch['x'] is a list of 3, which is no array. Use np.asarray(batch['x']).",
    ),
    "text": (
        [{"x": np.zeros(2), "name": {"first": np.array(["a", "b"])}}],
        TypeError,
        "batch['name']['first'] has dtype <U1, which no device can hold. Leave the column out of the batch, "
        "or turn it into numbers.",
    ),
    "no rows": (
        [{"x": 1.0, "y": np.float32(2)}],
        ValueError,
        "cannot count the rows of a batch without a column that has any: {'x': float, 'y': float32}. A "
        "column is an array whose leading dimension is the batch; give a single row one with x[None].",
    ),
    "one pass only": (
        Once(),
        ValueError,
        "pass 2 over the Once gave no batch, after 2 in 1: it can only be iterated once. Pass iter(batches) "
        "for one epoch, or a list or a class whose __iter__ begins anew.",
    ),
    "a len that is not so": (
        Unlike(),
        ValueError,
        "pass 1 over the Unlike ended after step 3, where its len() of 2 says 2; fractions of an epoch "
        "cannot be placed. Make every pass as long as len(), or use marks in steps or whole epochs.",
    ),
}


def test_a_len_that_is_not_so_matters_only_where_it_is_used():
    assert len(list(loop(Unlike(), until=at(epochs=2)))) == 6
    with pytest.raises(ValueError, match="fractions of an epoch cannot be placed"):
        list(loop(Unlike(), until=at(epochs=2), marks=[every(fraction=0.5)]))


@pytest.mark.parametrize("kind", ERRORS)
def test_errors(kind):
    batches, error, text = ERRORS[kind]
    with pytest.raises(error) as caught:
        list(loop(batches, until=at(epochs=2.5) if kind == "a len that is not so" else at(steps=9)))
    assert str(caught.value) == text
