"""A block gives its batches back, padded to its size; one program serves every length."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fourbeat.compiling.blocks import Block


def batch_of(value, num=4):
    return {
        "x": np.full((num, 2), value, np.float32),
        "nested": {"label": np.arange(num, dtype=np.int32) + value},
    }


KINDS = {
    "numpy": lambda value: batch_of(value),
    "jax": lambda value: jax.tree.map(jnp.asarray, batch_of(value)),
    "mixed": lambda value: {**batch_of(value), "x": jnp.full((4, 2), value, jnp.float32)},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("count", "size"), [(1, None), (3, None), (1, 4), (3, 4)])
def test_every_valid_batch_comes_back_and_the_rest_repeats_the_last(kind, count, size):
    batches = [KINDS[kind](value) for value in range(count)]
    block = Block.stack(batches, size)
    assert block.size == (size or count)
    assert block.num_steps.dtype == np.int32 and block.num_steps.shape == ()
    assert int(block.num_steps) == count
    for index in range(block.size):
        expected = batches[min(index, count - 1)]
        taken = block.take(index)
        assert jax.tree.structure(taken) == jax.tree.structure(expected)
        jax.tree.map(np.testing.assert_array_equal, taken, expected)


def test_one_program_serves_every_number_of_valid_steps():
    traces = []

    @jax.jit
    def total(block):
        traces.append(block.size)

        def add(index, value):
            return value + block.take(index)["x"].sum()

        return jax.lax.fori_loop(0, block.num_steps, add, 0.0)

    for count in (1, 2, 3):
        batches = [batch_of(value) for value in range(count)]
        expected = sum(float(batch["x"].sum()) for batch in batches)
        assert float(total(Block.stack(batches, size=3))) == expected
    assert traces == [3]


def test_numpy_batches_are_stacked_on_the_host_by_copy():
    batch = batch_of(1)
    block = Block.stack([batch, batch])
    batch["x"][:] = 7
    assert isinstance(block.batch["x"], np.ndarray)
    assert (block.batch["x"] == 1).all()


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Gathered:
    """A stacked form with a `take` of its own: numbers of examples in one table."""

    examples: jax.Array
    table: jax.Array

    def take(self, index):
        return {"x": self.table[self.examples[index]]}


def test_take_is_left_to_a_stacked_form_that_has_one():
    block = Block(Gathered(jnp.array([[0, 2], [1, 1]]), jnp.arange(3.0)), np.int32(2))
    np.testing.assert_array_equal(jax.jit(lambda b, i: b.take(i)["x"])(block, 0), [0.0, 2.0])


def test_a_column_named_take_is_a_column():
    block = Block.stack([{"take": np.arange(3.0)}, {"take": np.ones(3)}])
    np.testing.assert_array_equal(block.take(1)["take"], np.ones(3))


UNLIKE = (
    "The batches of a block have the same columns, shapes and dtypes: put the odd one into a block "
    "of its own."
)
ERRORS = {
    "shape": (
        lambda: Block.stack([batch_of(0), batch_of(1, num=3)]),
        "cannot stack batches into a block: batch[1]['nested']['label'] is int32[3] and "
        f"batch[0]['nested']['label'] is int32[4]. {UNLIKE}",
    ),
    "dtype": (
        lambda: Block.stack([{"x": np.zeros(2, np.int32)}, {"x": np.zeros(2, np.float32)}]),
        "cannot stack batches into a block: batch[1]['x'] is float32[2] and batch[0]['x'] is "
        f"int32[2]. {UNLIKE}",
    ),
    "columns": (
        lambda: Block.stack([{"x": np.zeros(2)}, {"x": np.zeros(2), "y": np.zeros(2)}]),
        "cannot stack batches into a block: batch[1]['y'] is float64[2] and batch[0]['y'] is "
        f"not there. {UNLIKE}",
    ),
    "structure": (
        lambda: Block.stack([{"x": (np.zeros(2),)}, {"x": [np.zeros(2)]}]),
        "cannot stack batches into a block: batch[1] has the structure PyTreeDef({'x': [*]}) and "
        "batch[0] has PyTreeDef({'x': (*,)}). Build every batch in the same way.",
    ),
    "none": (
        lambda: Block.stack([]),
        "cannot stack 0 batches into a block of size 0: a block holds at least 1 batch and at most "
        "`size` of them.",
    ),
    "size": (
        lambda: Block.stack([batch_of(0)] * 3, size=2),
        "cannot stack 3 batches into a block of size 2: a block holds at least 1 batch and at most "
        "`size` of them.",
    ),
}


@pytest.mark.parametrize("kind", ERRORS)
def test_errors(kind):
    call, text = ERRORS[kind]
    with pytest.raises(ValueError) as caught:
        call()
    assert str(caught.value) == text
