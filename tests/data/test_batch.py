import copy
import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fourbeat.data.arrays import Arrays
from fourbeat.data.batch import Batch


def to_float(batch):
    return {**batch, "x": batch["x"].astype(jnp.float32) / 4}


def jitter(batch, key):
    return {**batch, "x": batch["x"] + jax.random.randint(key, batch["x"].shape, 0, 9)}


RNG = np.random.RandomState(0)
COLUMNS = {"x": RNG.randint(0, 256, (11, 2, 3), dtype=np.uint8), "label": np.arange(11)}
KINDS = {
    "plain": Arrays(**COLUMNS),
    "mapped": Arrays(**COLUMNS).map(to_float),
    "keyed": Arrays(**COLUMNS).map(to_float).map(jitter),
    "weighted": Arrays(**COLUMNS, weight=RNG.rand(11)).map(to_float),
    "token weights": Arrays(**COLUMNS, weight=RNG.rand(11, 2)),
}
STEPS = [0, 2, 3, 7]  # of three an epoch: 2 is padded, 3 and 7 are of later epochs


def assert_equal(batch, other):
    assert batch.keys() == other.keys()
    for name in batch:
        assert batch[name].dtype == other[name].dtype
        assert np.array_equal(batch[name], other[name]), name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("remainder", ["pad", "drop"])
def test_host_and_resident_eager_and_compiled_have_the_same_bits(kind, remainder):
    host, resident = (
        KINDS[kind].batches(4, shuffle=True, seed=3, remainder=remainder, resident=resident)
        for resident in (False, True)
    )
    compiled = jax.jit(lambda batch: batch.materialize())
    for step in STEPS:
        expected = compiled(host[step])
        assert_equal(compiled(resident[step]), expected)
        assert_equal(host[step].materialize(), expected)
        assert_equal(resident[step].materialize(), expected)
    assert compiled._cache_size() == 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("resident", [True, False])
def test_a_step_taken_from_a_stack_is_that_step(kind, resident):
    batches = KINDS[kind].batches(4, shuffle=True, seed=3, resident=resident)
    compiled_read = jax.jit(lambda batch: batch.materialize())
    compiled_take = jax.jit(lambda batch, i: batch.take(i).materialize())
    for step, num_steps in [(0, 1), (1, 5), (2, 3)]:
        stacked = batches.stacked(step, num_steps, 5)
        for i in range(num_steps):
            assert_equal(compiled_take(stacked, i), compiled_read(batches[step + i]))
    assert_equal(stacked.take(0).materialize(), batches[2].materialize())
    assert compiled_take._cache_size() == 1


def test_a_loop_takes_each_step_with_a_traced_number():
    batches = KINDS["plain"].batches(4, shuffle=True)
    total = jax.jit(
        lambda stacked, num_steps: jax.lax.fori_loop(
            0, num_steps, lambda i, total: total + jnp.vdot(*weighted(stacked.take(i))), 0.0
        )
    )
    assert float(total(batches.stacked(0, 3, 6), 3)) == sum(range(11))


def weighted(batch):
    return batch["label"].astype(jnp.float32), batch["weight"]


def test_a_mapping_by_its_transformed_names():
    data = Arrays(a=[1, 2], b=[3, 4])
    batch = data.map(lambda batch: {"total": batch["a"] + batch["b"]}).batches(2)[0]
    assert list(batch) == ["total"] and len(batch) == 1
    assert "a" not in batch and batch.get("weight") is None
    assert {name: column.tolist() for name, column in batch.items()} == {"total": [4, 6]}
    with pytest.raises(KeyError, match="'a': this batch has the columns total"):
        batch["a"]
    assert list(data.batches(3)[0]) == ["a", "b", "weight"]
    assert batch == batch and batch != data.batches(2)[0]


@pytest.mark.parametrize("resident", [True, False])
def test_a_pytree_whose_paths_name_the_columns(resident):
    batch = KINDS["keyed"].batches(4, resident=resident)[1]
    leaves, treedef = jax.tree_util.tree_flatten_with_path(batch)
    where = "resident" if resident else "columns"
    paths = [jax.tree_util.keystr(path) for path, _ in leaves]
    index = [".index"] if resident else []
    assert paths == [
        f".{where}['label']",
        f".{where}['x']",
        *index,
        ".padding_weight",
        ".step",
    ]
    again = jax.tree.unflatten(treedef, [leaf for _, leaf in leaves])
    assert_equal(again.materialize(), batch.materialize())
    assert repr(jax.tree.map(lambda leaf: None, batch)).startswith("Batch(")
    assert_equal(copy.deepcopy(batch).materialize(), batch.materialize())


@pytest.mark.parametrize("kind", KINDS)
def test_steps_and_batches_of_one_data_set_have_one_structure(kind):
    structures = {
        jax.tree.structure(KINDS[kind].batches(4, shuffle=shuffle, seed=3)[step])
        for shuffle in (True, False)
        for step in STEPS
    }
    assert len(structures) == 1


def test_seeds_share_a_structure_where_no_key_is_drawn():
    structure = {
        kind: {jax.tree.structure(KINDS[kind].batches(4, seed=seed)[0]) for seed in (0, 1)}
        for kind in ("mapped", "keyed")
    }
    assert {kind: len(found) for kind, found in structure.items()} == {"mapped": 1, "keyed": 2}


def test_a_batch_keeps_nothing_that_a_trace_made():
    batch = KINDS["keyed"].batches(4)[0]
    traced = []

    def step(batch):
        traced.append(weakref.ref(batch["x"]))
        return jax.lax.cond(True, lambda: batch["x"], lambda: batch["x"] * 0)

    with jax.checking_leaks():
        jax.jit(step)(batch)
        jax.jit(lambda: step(batch))()
    gc.collect()
    assert [reference() for reference in traced] == [None, None]


def test_weights_of_padding_are_zero_even_beside_bad_weights():
    batch = Arrays(x=[1, 2, 3], weight=[7, 2, 3]).batches(2)[1]
    assert batch["x"].tolist() == [3, 1]
    assert batch["weight"].tolist() == [3.0, 0.0]
    bad = Batch({"weight": np.array([3, np.inf], np.float32)}, padding_weight=np.array([1, 0], np.float32))
    assert bad["weight"].tolist() == [3.0, 0.0]


def test_reprs():
    data = Arrays(x=range(6), y=range(6))
    batches = data.batches(4)
    assert repr(batches[0]) == "Batch(4 examples: x, y, weight)"
    assert repr(batches.stacked(0, 1, 3)) == "Batch(3 steps of 4 examples: x, y, weight)"
    host = data.map(to_float).batches(3, resident=False)
    assert repr(host[0]) == "Batch(3 examples: x, y, mapped)"
    assert repr(Batch()) == "Batch(? examples: )"


def test_reading_a_stack_and_stacking_a_step_are_errors():
    batches = Arrays(x=range(6)).batches(2)
    with pytest.raises(ValueError) as caught:
        batches.stacked(0, 2, 2)["x"]
    assert str(caught.value) == (
        "cannot read a stacked batch: it holds several steps. Take one of them first: "
        "batch.take(i)[...] or batch.take(i).materialize()."
    )
    with pytest.raises(ValueError) as caught:
        batches[0].take(1)
    assert str(caught.value) == (
        "cannot take(1) from a batch of one step: it is not stacked. Stacked batches come from "
        "batches.stacked(step, num_steps, size)."
    )
