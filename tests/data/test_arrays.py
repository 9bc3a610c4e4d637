import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fourbeat.data.arrays import Arrays

LAW = settings(deadline=None, max_examples=60, derandomize=True)


def test_columns_are_read_only_and_the_users_own_stay_writable():
    own = np.arange(4, dtype=np.int32)
    data = Arrays(x=own)
    with pytest.raises(ValueError, match="read-only"):
        data.columns["x"][0] = 9
    with pytest.raises(TypeError):
        data.columns["y"] = own  # pyright: ignore
    own[0] = 9
    assert len(data) == 4


@pytest.mark.parametrize(
    ("given_dtype", "stored_dtype"),
    [
        (np.bool_, np.bool_),
        (np.uint8, np.uint8),
        (np.int16, np.int16),
        (np.int64, np.int32),
        (np.uint64, np.uint32),
        (np.float16, np.float16),
        (np.float64, np.float32),
        (np.complex128, np.complex64),
        (np.dtype(">f4"), np.float32),
        (np.dtype(">i8"), np.int32),
        (jnp.bfloat16, jnp.bfloat16),
    ],
)
def test_stored_types(given_dtype, stored_dtype):
    values = np.array([0, 1, 1, 0]).astype(given_dtype)
    stored = Arrays(x=values).columns["x"]
    assert stored.dtype == np.dtype(stored_dtype) and stored.dtype.isnative
    assert np.array_equal(stored, values)
    assert jnp.asarray(stored).dtype == stored.dtype


def test_64_bits_stay_where_they_are_on():
    with jax.enable_x64(True):
        data = Arrays(x=np.array([2**40]), y=[0.1], weight=[0.1])
    assert data.columns["x"].tolist() == [2**40] and data.columns["x"].dtype == np.int64
    assert data.columns["y"].dtype == np.float64
    assert data.columns["weight"].dtype == np.float32


@pytest.mark.parametrize("dtype", [np.bool_, np.int32, np.float64])
def test_weight_is_float32(dtype):
    assert Arrays(weight=np.ones(3, dtype)).columns["weight"].dtype == np.float32


BAD_WEIGHTS = {
    "negative": ([1, -1, -0.5, 1], "-1.0 at example 1, one of 2"),
    "nan": ([1, 1, 1, np.nan], "nan at example 3, one of 1"),
    "infinite": ([np.inf, 1, 1, 1], "inf at example 0, one of 1"),
    "a negative integer": (np.array([1, 2, -3, 0]), "-3.0 at example 2, one of 1"),
    "of a token": (np.array([[1, 1], [1, 1], [1, -2], [1, 1]]), "-2.0 at example 2, one of 1"),
}


@pytest.mark.parametrize("kind", BAD_WEIGHTS)
def test_a_weight_is_a_finite_number_of_at_least_0(kind):
    weight, seen = BAD_WEIGHTS[kind]
    with pytest.raises(ValueError) as caught:
        Arrays(x=np.arange(4.0), weight=weight)
    assert str(caught.value) == (
        f"column 'weight' holds {seen} that are negative or not finite. A weight says how much an example "
        "counts: a finite number of at least 0, and 0 for one that is left out."
    )
    assert len(Arrays(x=np.arange(4.0), other=weight, weight=[0, 0.0, 1e-30, 3])) == 4


@pytest.mark.parametrize(
    "places", [slice(2, 7), slice(None, None, -2), np.array([3, 3, -1]), np.arange(10) % 3 == 0]
)
def test_examples_are_those_that_numpy_selects(places):
    x, y = np.arange(10, dtype=np.int32), np.arange(20, dtype=np.float32).reshape(10, 2)
    part = Arrays(x=x, y=y).map(abs_x)[places]
    assert np.array_equal(part.columns["x"], x[places])
    assert np.array_equal(part.columns["y"], y[places])
    assert len(part) == len(x[places])
    assert [transform.function for transform in part._transforms] == [abs_x]


def abs_x(batch):
    return {**batch, "x": jnp.abs(batch["x"])}


@LAW
@given(st.integers(2, 60), st.data())
def test_split_is_a_partition_in_order(size, data):
    n = data.draw(st.integers(1, size - 1))
    seed = data.draw(st.integers(0, 2**32 - 1))
    rest, held_out = Arrays(x=np.arange(size)).split(n, seed=seed)
    rest_places, held_out = rest.columns["x"].tolist(), held_out.columns["x"].tolist()
    assert len(held_out) == n
    assert sorted(rest_places + held_out) == list(range(size))
    assert rest_places == sorted(rest_places) and held_out == sorted(held_out)
    again = Arrays(x=np.arange(size)).split(n, seed=seed)[1]
    assert again.columns["x"].tolist() == held_out


def test_split_by_fraction_and_by_seed():
    data = Arrays(x=np.arange(1000))
    assert [len(part) for part in data.split(0.1)] == [900, 100]
    first, second = (data.split(100, seed=seed)[1].columns["x"] for seed in (0, 1))
    assert not np.array_equal(first, second)


def test_mapping_leaves_the_first_as_it_was():
    data = Arrays(x=[-1, 2])
    mapped = data.map(abs_x)
    assert data.batches(2)[0]["x"].tolist() == [-1, 2]
    assert mapped.batches(2)[0]["x"].tolist() == [1, 2]


def test_repr():
    data = Arrays(image=np.zeros((6, 28, 28, 1), np.uint8), label=range(6))
    assert repr(data) == "Arrays(6 examples: image uint8 (28, 28, 1), label int32 ())"


ERRORS = {
    "no columns": (
        lambda: Arrays(),
        "Arrays() has no columns. Name at least one: Arrays(image=images, label=labels).",
    ),
    "unequal lengths": (
        lambda: Arrays(image=np.zeros((3, 2)), label=[0, 1]),
        "columns differ in length: 'image' has 3, 'label' has 2. Entry i of every column is of example "
        "i, so all must have the same length.",
    ),
    "scalar": (
        lambda: Arrays(x=3),
        "column 'x' is a scalar of shape (): it has no axis of examples. Give one value an example.",
    ),
    "complex weight": (
        lambda: Arrays(weight=[1j]),
        "column 'weight' is complex; expected real numbers.",
    ),
    "hold out all": (
        lambda: Arrays(x=range(5)).split(5),
        "cannot hold out 5 of 5 examples: both parts need at least one. Give a number from 1 to 4, "
        "or a fraction between 0 and 1.",
    ),
    "hold out a float": (
        lambda: Arrays(x=range(5)).split(2.0),
        "cannot hold out 2.0 of 5 examples: both parts need at least one. Give a number from 1 to "
        "4, or a fraction between 0 and 1.",
    ),
    "split seed": (
        lambda: Arrays(x=range(5)).split(2, seed=-1),
        "seed is -1; expected an int from 0 to 2**32 - 1.",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_value_errors(name):
    act, text = ERRORS[name]
    with pytest.raises(ValueError) as caught:
        act()
    assert str(caught.value) == text


def test_a_single_row_is_no_slice():
    with pytest.raises(TypeError) as caught:
        Arrays(x=range(5))[3]  # pyright: ignore
    assert str(caught.value) == (
        "cannot index Arrays by an array of shape (): give a slice, as in data[10:20], or a 1-d "
        "index array. To read examples: data.columns['...'][i]. To iterate: data.batches(batch_size)."
    )


@pytest.mark.parametrize("size", [None, 5])
def test_a_view_of_windows_is_not_copied_to_take_some_of_them(size):
    tokens = np.arange(400_001, dtype=np.int32)
    windows = np.lib.stride_tricks.sliding_window_view(tokens, 101)[::100]
    batches = Arrays(window=windows).batches(4, shuffle=True, resident=False)
    stored, index = batches._stored, np.array([[3, 0], [9, 3999], [7, 7]])
    tracemalloc.start()
    found = stored.gather(index, size=size).columns["window"]
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.array_equal(found[:3], windows[index])
    assert found.shape == (size or 3, 2, 101) and not found[3:].any()
    assert peak_bytes < 100_000  # all windows are 1.6 MB
