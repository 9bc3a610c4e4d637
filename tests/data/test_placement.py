"""One file puts arrays onto devices; where they lie, and whose memory they use."""

import ast
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import fourbeat
from fourbeat.data.placement import copies_in_place, place_beside, place_like, place_resident

SOURCE = Path(fourbeat.__file__).parent
FRESH = {"array": lambda: jnp.arange(3.0), "key": lambda: jax.random.key(0), "weak": lambda: jnp.asarray(2.0)}


def calls_of_device_put(path):
    return [
        node.lineno
        for node in ast.walk(ast.parse(path.read_text()))
        if getattr(node, "attr", getattr(node, "id", "")) in ("device_put", "make_array_from_callback")
    ]


def test_no_other_file_puts_arrays_onto_a_device():
    found = {
        path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*.py") if calls_of_device_put(path)
    }
    assert found == {"data/placement.py"}


def test_resident_columns_share_no_memory_and_outlive_a_trace():
    column, kept = np.zeros(1024, np.float32), []
    jax.jit(lambda: kept.append(place_resident({"x": column})))()
    column[:] = 1
    assert float(kept[0]["x"].sum()) == 0 and not kept[0]["x"].committed


@pytest.mark.parametrize("kind", FRESH)
@pytest.mark.parametrize("is_sharded", [False, True], ids=["anywhere", "on purpose"])
def test_a_value_takes_the_place_of_another_in_a_buffer_of_its_own(kind, is_sharded):
    mesh = NamedSharding(Mesh(np.array(jax.devices()[:1]), "data"), PartitionSpec())
    like = jax.device_put(FRESH[kind](), mesh) if is_sharded else FRESH[kind]()
    value = FRESH[kind]()
    placed = place_like(value, like)
    assert placed.committed == like.committed and placed.sharding == like.sharding
    assert getattr(placed, "weak_type", None) == getattr(value, "weak_type", None)
    value.delete()
    assert bool((placed == FRESH[kind]()).all())
    beside = place_beside({"x": FRESH[kind]()}, like)["x"]
    assert beside.sharding == like.sharding


def test_copies_are_not_deleted_with_what_they_copy():
    array = jnp.arange(3.0)
    (copy,) = copies_in_place([array])
    array.delete()
    assert copy.tolist() == [0, 1, 2]
