import operator
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fourbeat.data import Arrays, packed, weighted
from fourbeat.data.stored import RESIDENT_LIMIT_BYTES

LAW = settings(deadline=None, max_examples=80, derandomize=True)
SIZES = st.tuples(st.integers(1, 40), st.integers(1, 15))
SEEDS = st.integers(0, 2**32 - 1)


def examples_and_weights(batch):
    """What an oracle needs of a resident batch, without compiling a gather for each shape."""
    places = np.asarray(batch.resident["x"])[batch.index]
    weight = batch.padding_weight
    return places, np.ones(places.shape, np.float32) if weight is None else np.asarray(weight)


def hand_written(size, batch_size, step, *, seed, remainder):
    """The places and weights of a global step, by a loop over examples."""
    num_steps = size // batch_size if remainder == "drop" else -(-size // batch_size)
    epoch, place = step // num_steps, step % num_steps
    order = np.random.RandomState([seed, epoch]).permutation(size)
    places, weights = [], []
    for position in range(place * batch_size, (place + 1) * batch_size):
        places.append(int(order[position % size]))
        weights.append(float(position < size))
    return places, weights


@LAW
@given(SIZES, SEEDS, st.integers(0, 3), st.sampled_from(["pad", "drop"]))
def test_every_example_once_an_epoch(sizes, seed, epoch, remainder):
    size, batch_size = sizes
    batch_size = min(size, batch_size) if remainder == "drop" else batch_size
    data = Arrays(x=np.arange(size))
    batches = data.batches(batch_size, shuffle=True, seed=seed, remainder=remainder)
    seen = Counter()
    for step in range(epoch * len(batches), (epoch + 1) * len(batches)):
        places, weights = examples_and_weights(batches[step])
        assert places.shape == weights.shape == (batch_size,)
        seen.update(places[weights > 0].tolist())
    assert set(seen.values()) == {1} and seen.total() == batches.num_examples
    assert batches.num_examples + batches.dropped == size
    assert batches.dropped == (size % batch_size if remainder == "drop" else 0)


@LAW
@given(SIZES, SEEDS, st.lists(st.integers(0, 200), min_size=1, max_size=8), st.booleans())
def test_a_step_is_the_hand_written_one_in_any_order_of_access(sizes, seed, steps, resident):
    size, batch_size = sizes
    data = Arrays(x=np.arange(size))
    batches = data.batches(batch_size, shuffle=True, seed=seed, resident=resident)
    for step in steps:
        batch = batches[np.int32(step)]
        places, weights = hand_written(size, batch_size, step, seed=seed, remainder="pad")
        if resident:
            seen, seen_weights = examples_and_weights(batch)
        else:
            seen = np.asarray(batch.columns["x"])
            seen_weights = np.ones(batch_size)
            if batch.padding_weight is not None:
                seen_weights = batch.padding_weight
        assert seen.tolist() == places
        assert seen_weights.tolist() == weights
        assert (batch.padding_weight is None) == (size % batch_size == 0)


@LAW
@given(SIZES, st.integers(0, 100), st.integers(1, 6), st.integers(0, 4), st.booleans())
def test_a_stack_holds_its_steps_across_epochs(sizes, step, num_steps, spare, resident):
    size, batch_size = sizes
    data = Arrays(x=np.arange(size)).map(lambda batch, key: batch)
    batches = data.batches(batch_size, shuffle=True, seed=1, resident=resident)
    stacked = batches.stacked(step, num_steps, num_steps + spare)
    where = "index" if resident else "columns"
    leaves = (getattr(stacked, where), stacked.padding_weight, stacked.step)
    assert {len(leaf) for leaf in jax.tree.leaves(leaves)} == {num_steps + spare}
    for i in range(num_steps):
        one = batches[step + i]
        expected = (getattr(one, where), one.padding_weight, one.step)
        for leaf, other in zip(jax.tree.leaves(leaves), jax.tree.leaves(expected), strict=True):
            assert np.array_equal(leaf[i], other) and leaf.dtype == other.dtype
    if stacked.padding_weight is not None:
        assert not stacked.padding_weight[num_steps:].any()
    assert stacked.resident is (batches[0].resident if resident else None)


@LAW
@given(SIZES, st.integers(0, 60), st.sampled_from(["pad", "drop"]))
def test_examples_counts_what_the_steps_before_hold(sizes, step, remainder):
    size, batch_size = sizes
    batch_size = min(size, batch_size) if remainder == "drop" else batch_size
    batches = Arrays(x=np.arange(size)).batches(batch_size, remainder=remainder)
    counted = sum(int(examples_and_weights(batches[before])[1].sum()) for before in range(step))
    assert batches.examples(step) == counted
    assert type(batches.examples(np.int32(step))) is int


def test_examples_stay_right_beyond_32_bits():
    batches = Arrays(x=np.arange(1000)).batches(300)
    assert batches.examples(2**31 - 1) == (2**31 - 1) // 4 * 1000 + 900


def test_iterating_gives_the_first_epoch():
    batches = Arrays(x=range(10)).batches(4)
    assert [batch["x"].tolist() for batch in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 0, 1]]
    assert len(list(batches)) == len(batches) == 3


def test_without_shuffling_every_epoch_is_in_order():
    batches = Arrays(x=range(10)).batches(5, seed=3)
    assert batches[0]["x"].tolist() == batches[200]["x"].tolist() == [0, 1, 2, 3, 4]


def test_epochs_and_seeds_have_orders_of_their_own():
    data = Arrays(x=np.arange(50))
    first, other = (data.batches(50, shuffle=True, seed=seed) for seed in (0, 1))
    orders = [first[0], first[1], other[0], other[1]]
    assert len({tuple(batch.index.tolist()) for batch in orders}) == 4


def test_the_device_copy_is_made_on_first_use_and_shared():
    data = Arrays(x=np.arange(8))
    train, valid = data.batches(2, shuffle=True), data.map(dict).batches(4)
    assert data._columns._device is None
    column = train[0].resident["x"]
    assert valid[0].resident["x"] is column and train[9].resident["x"] is column
    assert not column.committed


def test_a_first_use_inside_a_trace_keeps_no_tracer():
    batches = Arrays(x=np.arange(8)).batches(2)
    with jax.checking_leaks():
        assert jax.jit(lambda: batches[1]["x"])().tolist() == [2, 3]
    assert batches[2]["x"].tolist() == [4, 5]


@pytest.mark.parametrize("resident", [True, False])
def test_writing_to_the_users_buffer_changes_no_batch_on_the_device(resident):
    buffer = np.zeros(1024 + 64, np.uint8)
    start = -buffer.ctypes.data % 64  # an aligned buffer is what device_put aliases
    own = buffer[start : start + 1024]
    batch = Arrays(x=own).batches(1024, resident=resident)[0]
    own[:] = 1
    assert int(batch["x"].max()) == 0


def test_batches_of_the_host_go_into_the_compiled_step_as_they_are(monkeypatch):
    def placed(*args, **kwargs):
        raise AssertionError("a device_put costs ten times what a NumPy array does in a compiled call")

    columns = {"x": np.arange(24, dtype=np.float32).reshape(12, 2), "y": np.arange(12)}
    batches = Arrays(**columns).batches(4, resident=False, shuffle=True)
    traces = []

    def step(total, batch):
        traces.append(batch.columns["y"].dtype)
        return total + batch["x"].sum() * batch["y"][0]

    step = jax.jit(step)
    by_hand, zero = 0.0, jnp.float32(0)
    total = step(zero, jax.device_put(batches[0]))  # as a user may do it
    monkeypatch.setattr(jax, "device_put", placed)
    for number in range(6):
        total = step(total if number else zero, batches[number])
        numbers = batches.numbers_of(number)
        by_hand += columns["x"][numbers].sum() * columns["y"][numbers[0]]
    assert traces == [jnp.int32]
    assert float(total) == by_hand
    held = batches[0].columns
    assert all(type(column) is np.ndarray for column in held.values())
    assert isinstance(batches[0]["x"], jax.Array)


@pytest.mark.parametrize("excess", [0, 1])
def test_auto_is_resident_up_to_the_limit(excess):
    # A broadcast column has the size without the memory.
    column = np.broadcast_to(np.uint8(0), (RESIDENT_LIMIT_BYTES + excess,))
    assert Arrays(x=column).batches(4).resident == (excess == 0)


def test_attributes_and_repr():
    batches = Arrays(x=np.arange(55)).batches(32, shuffle=True, remainder="drop")
    read = operator.attrgetter("batch_size", "num_examples", "dropped", "seed", "remainder")
    assert read(batches) == (32, 32, 23, 0, "drop")
    assert repr(batches) == ("Batches(1 steps of 32, shuffle=True, seed=0, remainder='drop', resident)")
    assert repr(Arrays(x=range(4)).batches(8, resident=False)) == (
        "Batches(1 steps of 8, shuffle=False, seed=0, remainder='pad', on the host)"
    )


DATA = Arrays(x=range(10))
HUGE = Arrays(x=np.broadcast_to(np.uint8(0), (2**31,)))
ERRORS = {
    "no whole batch": (
        lambda: DATA.batches(11, remainder="drop"),
        "batch_size 11 is larger than the 10 examples, so remainder='drop' would leave no batch. "
        "Use batch_size <= 10, or remainder='pad'.",
    ),
    "batch size": (
        lambda: DATA.batches(0),
        "batch_size is 0; a batch needs at least 1 example.",
    ),
    "a batch of too many": (
        lambda: DATA.batches(10**10),
        "batch_size is 10000000000; the examples of a batch are numbered in int32, so it has at most "
        "2147483647. "
        "All examples in one batch: batches(10).",
    ),
    "remainder": (
        lambda: DATA.batches(4, remainder="keep"),  # pyright: ignore
        "remainder is 'keep'; expected 'pad' (fill the short last batch with examples of weight 0) or "
        "'drop' (leave its examples out).",
    ),
    "resident": (
        lambda: DATA.batches(4, resident="gpu"),  # pyright: ignore
        "resident is 'gpu'; expected 'auto', True (columns live on the device) or False (batches "
        "are gathered on the host).",
    ),
    "seed": (
        lambda: DATA.batches(4, seed=2**32),
        "seed is 4294967296; expected an int from 0 to 2**32 - 1.",
    ),
    "empty": (
        lambda: DATA[:0].batches(4),
        "cannot make batches of 0 examples: the columns are empty.",
    ),
    "too many": (
        lambda: HUGE.batches(4),
        "cannot make batches of 2147483648 examples: they are numbered in int32, so at most "
        "2147483647. Slice the data into several.",
    ),
    "stack": (
        lambda: DATA.batches(4).stacked(0, 5, 4),
        "cannot stack 5 steps into a block of size 4: num_steps must be from 1 to 4.",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_value_errors(name):
    act, text = ERRORS[name]
    with pytest.raises(ValueError) as caught:
        act()
    assert str(caught.value) == text


WHOLE = {
    "batch_size": lambda value: DATA.batches(value),
    "seed": lambda value: DATA.batches(4, seed=value),
    "workers": lambda value: DATA.batches(4, resident=False, workers=value),
    "ahead": lambda value: DATA.batches(4, resident=False, workers=1, ahead=value),
    "examples": lambda value: DATA.batches(4).step_of(examples=value),
    "length": lambda value: packed([np.arange(3)], value),
    "before": lambda value: packed([np.arange(3)], 3, before=value),
    "weighted(...): num_examples": lambda value: DATA.batches(4, order=weighted(range(10), value)),
}


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("value", [4.0, "4", True])
def test_what_is_no_whole_number_is_named(name, value):
    with pytest.raises(TypeError) as caught:
        WHOLE[name](value)
    assert str(caught.value) == f"{name} is {value!r}; expected a whole number."


@pytest.mark.parametrize(
    "act",
    [
        lambda batches: batches[-1],
        lambda batches: batches.examples(-1),
        lambda batches: batches.stacked(-1, 1, 1),
    ],
)
def test_steps_count_from_zero(act):
    with pytest.raises(IndexError) as caught:
        act(DATA.batches(4))
    assert str(caught.value) == "step -1 is negative: global steps count from 0"


def test_a_batch_of_all_examples_in_order_is_the_columns_themselves_and_a_stack_of_them_has_none_to_gather():
    x = np.arange(12, dtype=np.float32).reshape(6, 2)
    batches = Arrays(x=x).batches(6, resident=True)
    batch, stacked = batches[7], batches.stacked(7, num_steps=2, size=3)
    assert batch.index is None
    assert stacked.index is None
    assert "gather" not in str(jax.make_jaxpr(lambda batch: batch["x"])(batch))
    for one in (batch, stacked.take(0), stacked.take(1)):
        np.testing.assert_array_equal(one["x"], x)
    assert repr(batch) == "Batch(6 examples: x)"
    assert repr(stacked) == "Batch(3 steps of 6 examples: x)"
    jax.tree.map(lambda leaf: leaf.delete(), batch.materialize())  # as a donated call would
    np.testing.assert_array_equal(batches[0]["x"], x)


def test_a_keyed_map_sees_the_step_of_a_batch_of_all_examples():
    mapped = Arrays(x=np.zeros(4, np.float32)).map(
        lambda batch, key: {"x": batch["x"] + jax.random.uniform(key, (4,))}
    )
    batches = mapped.batches(4, seed=3)
    stacked = batches.stacked(5, num_steps=2, size=2)
    for i in range(2):
        np.testing.assert_array_equal(stacked.take(i)["x"], batches[5 + i]["x"])
    assert not np.array_equal(batches[5]["x"], batches[6]["x"])


@LAW
@given(SIZES, st.integers(0, 300), st.sampled_from(["pad", "drop"]))
def test_the_step_of_examples_is_the_first_that_has_seen_them(sizes, examples, remainder):
    size, batch_size = sizes
    batch_size = min(size, batch_size)
    batches = Arrays(x=np.arange(size)).batches(batch_size, remainder=remainder)
    step = batches.step_of(examples=examples)
    assert batches.examples(step) >= examples
    assert step == 0 or batches.examples(step - 1) < examples


def test_a_negative_count_of_examples_is_refused():
    with pytest.raises(ValueError, match=r"^examples is -1; expected a count of at least 0\.$"):
        Arrays(x=np.arange(4)).batches(2).step_of(examples=-1)


KEYED = DATA.map(lambda batch, key: {"x": batch["x"] + jax.random.randint(key, (), 0, 100)})
NO_KEY = (
    "step 2147483648 has no key for the mapped functions: steps are counted in int32, as state.step is, from "
    "0 to 2147483647."
)
NO_ORDER = "epoch 4294967296 has no order: shuffled epochs are numbered from 0 to 2**32 - 1."
FAR = {
    "a keyed map": (lambda: KEYED.batches(4)[2**31], NO_KEY),
    "a stack of a keyed map": (lambda: KEYED.batches(4).stacked(2**31 - 1, 2, 4), NO_KEY),
    "an order": (lambda: DATA.batches(10, shuffle=True)[2**32], NO_ORDER),
    "a stacked order": (lambda: DATA.batches(10, shuffle=True).stacked(2**32 - 1, 2, 4), NO_ORDER),
}


@pytest.mark.parametrize("kind", FAR)
def test_steps_beyond_what_can_be_numbered_are_refused(kind):
    act, text = FAR[kind]
    with pytest.raises(IndexError) as caught:
        act()
    assert str(caught.value) == text


def test_the_last_steps_that_can_be_numbered_are_right():
    last = 2**31 - 1
    keyed = KEYED.batches(5)
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), last), 0)
    expected = [x + int(jax.random.randint(key, (), 0, 100)) for x in (5, 6, 7, 8, 9)]
    assert keyed[last]["x"].tolist() == keyed.stacked(last, 1, 4).take(0)["x"].tolist() == expected
    far = DATA.batches(4)[10**20]
    assert far["x"].tolist() == DATA.batches(4)[10**20 % 3]["x"].tolist()
    assert DATA.batches(10).stacked(10**20, 2, 4).take(1)["x"].tolist() == list(range(10))
    order = np.random.RandomState([0, 2**32 - 1]).permutation(10)
    assert DATA.batches(10, shuffle=True)[2**32 - 1]["x"].tolist() == order.tolist()
