import numpy as np
import pytest

from fourbeat.data import ExampleError, Examples, pad_to


def tokens(*lengths, dtype=np.uint16):
    return [{"tokens": np.arange(1, length + 1, dtype=dtype)} for length in lengths]


def test_columns_are_padded_behind_their_end_and_the_others_stacked():
    examples = [
        {"tokens": np.array([5, 6], np.uint16), "points": np.ones((2, 3), np.float32), "label": np.int8(1)},
        {"tokens": np.array([7], np.uint16), "points": np.full((4, 3), 2, np.float32), "label": np.int8(2)},
    ]
    made = pad_to(tokens=3, points=(2, 5, 9)).fill(tokens=9)(examples)
    points = np.zeros((2, 5, 3), np.float32)
    points[0, :2], points[1, :4] = 1, 2
    wanted = {
        "tokens": np.array([[5, 6, 9], [7, 9, 9]], np.uint16),
        "points": points,
        "label": np.array([1, 2], np.int8),
    }
    assert made.keys() == wanted.keys()
    for name, column in wanted.items():
        assert made[name].dtype == column.dtype
        np.testing.assert_array_equal(made[name], column)


@pytest.mark.parametrize(("lengths", "padded"), [((1, 2), 2), ((2, 3), 4), ((4, 4), 4), ((0, 5), 8)], ids=str)
def test_the_shortest_length_that_fits_is_taken(lengths, padded):
    assert pad_to(tokens=(8, 2, 4))(tokens(*lengths))["tokens"].shape == (2, padded)


def test_columns_of_the_same_lengths_go_together():
    examples = [{"source": np.ones(1), "target": np.ones(3), "other": np.ones(1)}]
    made = pad_to(source=(2, 4), target=(4, 2), other=(2, 5))(examples)
    assert {name: column.shape[1] for name, column in made.items()} == {"source": 4, "target": 4, "other": 2}


def test_a_fill_that_is_not_a_number_fits_floats():
    (row,) = pad_to(tokens=3).fill(tokens=np.nan)(tokens(2, dtype=np.float32))["tokens"]
    np.testing.assert_array_equal(row, [1, 2, np.nan])


def ragged(collate, *examples):
    return lambda: Examples(examples, decode=dict, collate=collate)[1:].batches(2)[0]


ERRORS = {
    "too long": (
        ragged(pad_to(tokens=(2, 4)), *tokens(1, 2, 6)),
        ExampleError,
        "example 2 of the tuple: its 'tokens' has length 6, and pad_to(...) ends at 4. Cut it in decode=, or "
        "name a greater length: pad_to(tokens=(..., 6)).",
    ),
    "stacked": (
        ragged(None, *tokens(1, 2, 6)),
        ExampleError,
        "example 2 of the tuple: its 'tokens' has shape (6,), where that of example 1 has (2,): "
        "bring them to one shape in decode=, or pad them with collate=fourbeat.data.pad_to(...).",
    ),
    "a number": (
        ragged(pad_to(tokens=4), *tokens(1, 2), {"tokens": np.int32(3)}),
        ExampleError,
        "example 2 of the tuple: its 'tokens' has shape (), and pad_to(...) expects (length,).",
    ),
    "another shape": (
        ragged(pad_to(tokens=4), {}, {"tokens": np.ones((2, 3))}, {"tokens": np.ones((3, 2))}),
        ExampleError,
        "example 2 of the tuple: its 'tokens' has shape (3, 2), and pad_to(...) expects (length, 3).",
    ),
    "other columns": (
        ragged(pad_to(tokens=4), {}, *tokens(2), {"token": np.ones(3)}),
        ExampleError,
        "example 2 of the tuple: it has the columns token, where the first has tokens: all "
        "examples need the same.",
    ),
    "no such column": (
        ragged(pad_to(labels=4), *tokens(1, 2, 3)),
        ExampleError,
        "the tuple: collate fails: ValueError: pad_to(...) names 'labels', and the examples have the columns "
        "tokens.",
    ),
    "a fill that does not fit": (
        lambda: pad_to(tokens=4).fill(tokens=-100)(tokens(1)),
        ValueError,
        "pad_to(...) fills 'tokens' with -100, which does not fit its type, uint16.",
    ),
    "a fill of no column": (
        lambda: pad_to(tokens=(2, 4)).fill(labels=-100),
        ValueError,
        "fill names 'labels', which is not padded: pad_to(...) names tokens=(2, 4).",
    ),
    "nothing": (
        lambda: pad_to(),
        ValueError,
        "pad_to() names no column. Name what is to be padded: pad_to(tokens=(64, 128, 256)).",
    ),
    "no length": (
        lambda: pad_to(tokens=0),
        ValueError,
        "pad_to(tokens=...) is 0; expected one or several whole numbers of at least 1.",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_name_the_example_and_the_repair(name):
    fails, kind, message = ERRORS[name]
    with pytest.raises(kind) as raised:
        fails()
    assert str(raised.value) == message


def test_a_collate_function_sees_one_batch_at_a_time():
    sizes = []

    def collate(examples):
        sizes.append(len(examples))
        return {"longest": np.full(len(examples), max(len(example["tokens"]) for example in examples))}

    batches = Examples(tokens(3, 1, 2, 5), collate=collate).batches(2)
    assert np.asarray(batches.stacked(0, 2, 3).take(0)["longest"]).tolist() == [3, 3]
    assert sizes == [2, 2]
