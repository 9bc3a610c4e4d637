"""Where batches come from: what is read when, what is copied, and what is refused."""

from collections import UserDict

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fourbeat.compiling import compile as fb_compile
from fourbeat.compiling.blocks import Block
from fourbeat.data import Arrays
from fourbeat.looping import at, every, loop, stop_signal


def batch_of(value, num=2):
    return {"x": np.full((num, 3), value, np.float32), "y": np.arange(num)}


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


def test_a_batch_that_was_read_before_a_body_is_not_changed_by_it():
    """The third has another shape, so it waits while the body fills the buffer that it lies in."""
    buffer, seen = np.zeros((4, 3), np.float32), []

    def batches():
        for value, num in enumerate((4, 4, 2, 2)):
            buffer[:] = value
            yield {"x": buffer[:num], "y": np.arange(num)}

    for tick in loop(batches(), until=at(steps=4), steps_per_call=3):
        buffer[:] = -1
        seen.append(values(tick))
    assert seen == [[0, 1], [2, 3]]


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("wrap", [list, iter])
def test_numpy_stays_numpy_that_nobody_can_write_and_jax_arrays_pass(wrap, size):
    given, mine = jnp.ones((2, 2)), np.zeros(2, np.int32)
    batches = wrap([{"x": given, "y": {"z": mine}}, {"x": given, "y": {"z": mine}}])
    for tick in loop(batches, until=at(steps=2), steps_per_call=size):
        assert isinstance(tick.batch, Block) == (size > 1)
        batch = tick.batch.batch if size > 1 else tick.batch
        assert isinstance(batch["x"], jax.Array) and (size > 1 or batch["x"] is given)
        assert type(batch["y"]["z"]) is np.ndarray
        assert not np.shares_memory(batch["y"]["z"], mine)
        if size == 1:
            with pytest.raises(ValueError, match="read-only"):
                batch["y"]["z"][0] = 1
    mine[0] = 1  # the user's own stays as it was


def test_what_a_generator_has_freshly_made_is_not_copied():
    made = []

    def batches():
        for value in range(3):
            batch = batch_of(value)
            made.append(batch["x"].ctypes.data)
            yield {"x": batch.pop("x")}

    ticks = list(loop(batches(), until=at(steps=3)))
    assert [tick.batch["x"].ctypes.data for tick in ticks] == made
    assert [values(tick) for tick in ticks] == [[0], [1], [2]]


KINDS_OF_COLUMNS = {
    "float64": np.linspace(0, 1, 4),
    "int64": np.arange(4),
    "bool": np.arange(4) > 1,
    "bfloat16": np.arange(4).astype(jnp.bfloat16),
    "number of NumPy": np.float64(0.5),
    "number of Python": 3,
    "big-endian": np.arange(4).astype(">f4"),
}


def test_one_program_serves_batches_of_the_host_and_of_the_device(monkeypatch):
    """The types in the step are those that jax.device_put gives, and no call of it is needed."""
    first, dtypes = {**batch_of(0), **KINDS_OF_COLUMNS}, []

    def step(total, batch):
        dtypes.append({name: (column.dtype, column.weak_type) for name, column in batch.items()})
        return total + batch["x"].sum() + batch["int64"].sum(), {}

    step = fb_compile(step, on_recompile="raise")
    native = {name: np.asarray(column) for name, column in first.items() if name != "big-endian"}
    placed = jax.device_put({**native, "big-endian": np.arange(4, dtype=np.float32)})
    total, _ = step(jnp.float32(0), placed)
    monkeypatch.setattr(jax, "device_put", lambda *args, **kwargs: pytest.fail("placed"))
    for batches in ([first] * 2, (dict(first) for _ in range(2))):
        for tick in loop(batches, until=at(steps=2)):
            total, _ = step(total, tick.batch)
    assert dtypes == [{name: (column.dtype, False) for name, column in placed.items()}]
    assert step.num_compilations == 1 and float(total) == 30


def test_a_mapping_that_jax_does_not_know_becomes_a_dict():
    (tick,) = loop([UserDict(batch_of(3))], until=at(steps=1))
    assert values(tick) == [3]


class Logged:
    """Three batches a pass, with a note of each pass and of each batch that is read."""

    def __init__(self):
        self.log = []

    def __iter__(self):
        self.log.append("pass")
        for value in range(3):
            self.log.append(value)
            yield batch_of(value)


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("until", [at(epochs=2), at(steps=6), at(examples=12)])
def test_a_batch_is_read_when_its_tick_begins_and_a_pass_when_its_first_batch_is_wanted(until, size):
    batches = Logged()
    for tick in loop(batches, until=until, marks=[every(epochs=1), every(steps=2)], steps_per_call=size):
        batches.log.append(f"step {tick.step}")
        assert (every(steps=2) in tick) == (tick.step % 2 == 0)  # counted: nothing is read for it
    assert batches.log == (
        ["pass", 0, "step 1", 1, "step 2", 2, "step 3", "pass", 0, "step 4", 1, "step 5", 2, "step 6"]
        if size == 1
        else ["pass", 0, 1, "step 2", 2, "step 3", "pass", 0, "step 4", 1, 2, "step 6"]
    )


ASKED = {
    "epoch": lambda tick: tick.epoch,
    "is_last": lambda tick: tick.is_last,
    "mark": lambda tick: every(epochs=1) in tick,
}


@pytest.mark.parametrize("question", ASKED)
def test_who_asks_for_the_end_of_a_pass_reads_one_batch_more_once(question):
    batches, answers = Logged(), []
    for tick in loop(batches, until=at(epochs=2), marks=[every(epochs=1), every(steps=2)]):
        batches.log.append("asked")
        answers.append(ASKED[question](tick))
        assert ASKED[question](tick) == answers[-1]
        batches.log.append("told")
    one_pass = ["pass", 0, "asked", 1, "told", "asked", 2, "told", "asked", "told"]
    assert batches.log == one_pass * 2
    assert [bool(answer) for answer in answers] == {
        "epoch": [False, False, True, True, True, True],
        "is_last": [False] * 5 + [True],
        "mark": [False, False, True] * 2,
    }[question]


def test_is_last_reads_nothing_where_the_end_of_a_pass_cannot_end_the_loop():
    batches = Logged()
    assert [tick.is_last for tick in loop(batches, until=at(steps=2))] == [False, True]
    assert batches.log == ["pass", 0, 1]


def test_ticks_kept_tell_later_what_the_loop_saw_after_them():
    *ticks, last = loop(Logged(), until=at(steps=6), marks=[every(epochs=1)])
    assert [tick.epoch for tick in ticks] == [0, 0, 1, 1, 1]
    assert [every(epochs=1) in tick for tick in ticks] == [False, False, True, False, False]
    assert (last.epoch, last.is_last) == (1, True)  # nobody looked whether the pass ended there
    assert repr(last) == "Tick(step=6, num_steps=1, epoch=1, is_last=True)"


def test_two_loops_over_one_iterator_lose_no_batch():
    batches = iter([batch_of(value) for value in range(6)])
    seen = [values(tick) for _ in range(2) for tick in loop(batches, until=at(steps=3))]
    assert seen == [[0], [1], [2], [3], [4], [5]]


@pytest.mark.parametrize("until", [at(steps=6), at(epochs=1), at(examples=12), stop_signal()])
@pytest.mark.parametrize("asks_after_the_step", [False, True])
def test_a_generator_sees_the_state_of_the_step_before(until, asks_after_the_step):
    state = 0

    def rollouts():
        while state < 6:
            yield batch_of(state)

    epoch_end, seen = every(epochs=1), []
    for tick in loop(rollouts(), until=until, marks=[epoch_end, every(steps=2)]):
        seen += values(tick)
        state += 1
        if asks_after_the_step:
            assert (epoch_end in tick, tick.epoch, tick.is_last) == ((state == 6), state // 6, state == 6)
    assert seen == [0, 1, 2, 3, 4, 5]


@pytest.mark.filterwarnings("ignore::fourbeat.looping.InexactResumeWarning")
def test_a_start_drops_the_batches_before_it_and_counts_them():
    read = []

    def batches():
        for value in range(5):
            read.append(value)
            yield batch_of(value, num=value + 1)

    ticks = loop(batches(), until=at(epochs=1), start=3)
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

    batches = Logged([batch_of(value, num=value + 1) for value in range(4)])
    (tick,) = loop(batches, until=at(steps=7), start=6)
    assert batches.read == [2]
    assert tick.examples == 10 + 1 + 2 + 3
    assert batches.read == [2, 0, 1, 2, 3]


@pytest.mark.filterwarnings("ignore::fourbeat.looping.LoopWarning")
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
        expected = batches[step].materialize()
        jax.tree.map(np.testing.assert_array_equal, batch.materialize(), expected)


@pytest.mark.parametrize("size", [1, 2])
def test_batches_of_the_data_package_in_an_iterable(size):
    batches = Arrays(x=np.arange(6, dtype=np.float32)[:, None]).batches(2)
    ticks = loop(iter(batches), until=at(epochs=1), steps_per_call=size)
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


class DataSet:
    """A data set by number, of examples and not of batches."""

    def __init__(self, **example):
        self.example = example or {"image": np.zeros((28, 28)), "label": 7}

    def __len__(self):
        return 100

    def __getitem__(self, index):
        return self.example


EMPTY = (
    'gave no batch. Check the filter or the split that it comes from; with remainder="drop" fewer examples '
    "than one batch give none."
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
        "batches is one dict, not many batches. Pass the batches in a list: [batch].",
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
    "strings alone": (
        [{"name": ["a", "b"], "raw": [b"a", b"b"]}],
        TypeError,
        "batch holds no numbers: name, raw are strings, which no device can hold. Encode some as numbers of "
        "one shape: integer labels, padded token ids.",
    ),
    "a null among strings": (
        [{"x": np.zeros(2), "name": ["a", None]}],
        TypeError,
        "batch['name'] is a list of 2, which is no array. Use np.asarray(batch['name']).",
    ),
    "text": (
        [{"x": np.zeros(2), "name": {"first": np.array(["a", "b"])}}],
        TypeError,
        "batch['name']['first'] has dtype <U1, which no device can hold. Encode it as numbers of one "
        "shape (integer labels, padded token ids, float features), or leave the column out.",
    ),
    "no examples": (
        [{"x": 1.0, "y": np.float32(2)}],
        ValueError,
        "cannot count the examples of batch: no column has a leading axis: batch['x'] (), batch['y'] (). A "
        "column has one entry an example along its leading axis; a single example gets one with x[None].",
    ),
    "a data set of examples": (
        DataSet(),
        TypeError,
        "batches is the DataSet, which gives single examples: batch['image'] (28, 28), batch['label'] (), "
        "without an axis of examples that all share. Batch them: fb.data.Examples(source).batches(32). If "
        "it gives batches, with a scalar for all of their examples, pass iter(batches).",
    ),
    "a data set of examples of many shapes": (
        DataSet(image=np.zeros((28, 28)), box=np.zeros(4)),
        TypeError,
        "batches is the DataSet, which gives single examples: batch['box'] (4,), batch['image'] (28, 28), "
        "without an axis of examples that all share. Batch them: fb.data.Examples(source).batches(32). If "
        "it gives batches, with a scalar for all of their examples, pass iter(batches).",
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


@pytest.mark.parametrize("wrap", [list, iter, DataSet], ids=["list", "iterator", "data set"])
def test_rows_are_counted_by_the_common_leading_axis(wrap):
    batch = {"beta": np.float32(0.5), "grid": {"y": np.zeros((8, 2)), "x": np.zeros((8, 3))}}
    batches = DataSet(**batch["grid"]) if wrap is DataSet else wrap([batch] * 3)
    assert [tick.examples for tick in loop(batches, until=at(steps=3))] == [8, 16, 24]
    weighted = {"nodes": np.zeros((5, 3)), "edges": np.zeros((9, 2)), "weight": np.ones(2)}
    assert [tick.examples for tick in loop([weighted], until=at(examples=4))] == [2, 4]
    assert [tick.examples for tick in loop([{}], until=at(steps=2))] == [1, 2]


@pytest.mark.parametrize("batch_size", [3, 7])
@pytest.mark.parametrize("shuffle", [False, True])
def test_rows_of_batches_of_the_data_package_in_a_list(batch_size, shuffle):
    batches = list(Arrays(x=np.arange(7.0)).batches(batch_size, shuffle=shuffle))
    assert next(iter(loop(batches, until=at(steps=1)))).examples == batch_size


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


def test_tensors_keep_their_types_and_are_copied():
    torch = pytest.importorskip("torch")
    dtypes = ("uint8", "int8", "int16", "int32", "bool", "float16", "bfloat16", "float32", "float8_e4m3fn")
    buffer = {name: torch.tensor([1, 0]).to(getattr(torch, name)) for name in dtypes}
    buffer["trained"] = torch.ones(2, requires_grad=True)
    buffer["long"], buffer["double"] = torch.tensor([1, 0]), torch.tensor([1.0, 0], dtype=torch.float64)

    def fill():
        for _ in range(2):
            yield buffer
            for name in dtypes:
                buffer[name].zero_()

    first, second = (tick.batch for tick in loop(fill(), until=at(epochs=1)))
    kept = {name: jnp.dtype(name) for name in dtypes}
    assert {name: first[name].dtype for name in first} == {
        **kept,
        "trained": jnp.float32,
        "long": jnp.int32,
        "double": jnp.float32,
    }
    assert all(np.asarray(first[name]).tolist() == [1, 0] for name in dtypes)
    assert all(np.asarray(second[name]).tolist() == [0, 0] for name in dtypes)
    with pytest.raises(ValueError, match=r"batch\['x'\] holds int64 values from 1099511627776 to"):
        list(loop([{"x": torch.tensor([2**40])}], until=at(steps=1)))
