"""Values that cannot stand side by side are named with their example, their column and the repair."""

import decimal

import numpy as np
import pytest

from fourbeat.data import ExampleError, Examples

LEAVE_OUT = "leave the example out by its place, data[np.delete(np.arange(len(data)), place)]"


def image():
    return pytest.importorskip("PIL.Image").fromarray(np.zeros((2, 2), np.uint8))


WRONG = {
    "null": (
        lambda: None,
        "its 'x' is null (None), and nothing stands for a missing value: fill it in decode=, or " + LEAVE_OUT,
    ),
    "of another shape": (
        lambda: np.zeros((3,)),
        "its 'x' has shape (3,), where that of example 0 has (2,): bring them to one shape in "
        "decode=, or "
        "pad them with collate=fourbeat.data.pad_to(...)",
    ),
    "an image": (
        image,
        "its 'x' is of type PIL.Image, no array of numbers: make one in decode=, as in lambda example: "
        "{**example, 'x': "
        "np.asarray(example['x'].convert('RGB'))}",
    ),
    "a dict": (
        lambda: {"a": 1},
        "its 'x' is of type dict, no array of numbers: make one in decode=, as in lambda example: "
        "{**example, "
        "'x': ...}",
    ),
    "a list of unlike lists": (
        lambda: [[1], [1, 2]],
        "its 'x' is of type list, no array of numbers: make one in decode=, as in lambda example: "
        "{**example, "
        "'x': ...}",
    ),
    "an object": (
        lambda: decimal.Decimal(1),
        "its 'x' is of type decimal.Decimal, no array of numbers: make one in decode=, as in lambda example: "
        "{**example, 'x': ...}",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_value_that_is_no_array_like_the_others_is_named(kind):
    make, text = WRONG[kind]
    data = Examples([{"x": np.zeros(2)}, {"x": make()}, {"x": np.zeros(2)}], decode=dict)
    with pytest.raises(ExampleError) as caught:
        data.batches(3)[0]
    assert str(caught.value) == f"example 1 of the list: {text}."
    assert caught.value.number == 1


def test_examples_that_are_none_are_named():
    with pytest.raises(ExampleError) as caught:
        Examples([{"x": 1}, None]).batches(2)[0]
    assert str(caught.value) == (
        "example 1 of the list: it is None, as what a Grain filter(...) takes out: leave it out by its "
        "place, "
        "data[np.delete(np.arange(len(data)), place)]."
    )


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([np.int32(7), -1, np.int32(9)], np.int32),  # as a decode fills in what is null
        ([255, np.uint8(0), np.uint8(3)], np.uint8),
        ([np.float16(0.5), 2, 0.25], np.float16),
    ],
)
def test_numbers_of_python_take_the_type_of_those_beside_them(values, dtype):
    data = Examples([{"x": value, "y": 0} for value in values], decode=dict)
    (column,) = (batch["x"] for batch in data.batches(3))
    assert column.dtype == dtype and column.tolist() == values


@pytest.mark.parametrize("other", [-1, 256, 0.5])
def test_numbers_of_python_that_do_not_fit_are_named(other):
    data = Examples([{"x": np.uint8(3)}, {"x": other}], decode=dict)
    with pytest.raises(ExampleError) as caught:
        data.batches(2)[0]
    assert str(caught.value) == (
        f"example 1 of the list: its 'x' has dtype {np.asarray(other).dtype}, where that of example 0 has "
        "uint8: bring them to one type in decode=."
    )


def test_columns_keep_their_types():
    torch = pytest.importorskip("torch")
    values = {
        "uint8": np.uint8([1, 2]),
        "float16": np.float16(0.5),
        "bool": True,
        "bfloat16": torch.tensor([1.5], dtype=torch.bfloat16),
        "int8": torch.tensor(3, dtype=torch.int8),
        "float32": torch.tensor([[1.0]], requires_grad=True),
    }
    batch = Examples([values, values]).batches(2)[0]
    for name, value in values.items():
        assert batch[name].dtype == name
        value = value.detach().float().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
        assert np.array_equal(batch[name].astype(value.dtype), np.stack([value, value]))


def test_strings_and_bytes_stay_on_the_host_as_they_are():
    data = Examples([{"x": i, "name": f"photo {i}", "raw": bytes([i, 0])} for i in range(3)])
    batch = data.batches(2, resident=False)[0]
    assert list(batch) == ["x", "weight"]
    assert batch.texts["name"].tolist() == ["photo 0", "photo 1"]
    assert batch.texts["raw"].tolist() == [b"\0\0", b"\1\0"]
    with pytest.raises(ExampleError) as caught:
        Examples([{"name": "photo"}]).batches(1)[0]
    assert str(caught.value) == "the list: its columns hold no numbers: name. Make some in decode=."
