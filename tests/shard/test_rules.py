"""Where the arrays of a state lie, by rules over meshes of which only the shape is known."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AbstractMesh, PartitionSpec

import fourbeat as fb
from fourbeat.shard.batch_layout import batch_shardings
from fourbeat.shard.laying_out import shardings_of
from fourbeat.shard.rows import split_rows
from fourbeat.trees.paths import leaves_with_paths

MESH = AbstractMesh((2, 4), ("data", "fsdp"))


def specs_of(tx, make, rules=None, **options):
    """The spec of each leaf of a state by its place; of the state only shapes are made."""
    beats = fb.four_beats(lambda model, batch: batch["x"] @ model["w"], tx, **options)
    state = jax.eval_shape(lambda: beats.init(make()))
    found = shardings_of(state, MESH, fb.shard.fsdp(min_size=1) if rules is None else rules)
    places = [place for place, _ in leaves_with_paths(state, "state")]
    return {
        place: tuple(each.spec)
        for place, each in zip(places, jax.tree.leaves(found), strict=True)
        if each.spec
    }


def make():
    return {"w": jnp.ones((3, 8)), "b": jnp.ones(3)}


def test_what_an_optimizer_stacks_for_a_parameter_is_split_as_it():
    specs = specs_of(optax.scale_by_lbfgs(memory_size=5), make)
    assert specs["state.params['w']"] == specs["state.opt_state.params['w']"] == (None, "fsdp")
    for name in ("diff_params_memory", "diff_updates_memory"):
        assert specs[f"state.opt_state.{name}['w']"] == (None, None, "fsdp")  # of shape (5, 3, 8)
        assert f"state.opt_state.{name}['b']" not in specs


def test_what_an_optimizer_keeps_in_two_arrays_for_a_parameter_is_split_as_it():
    tx = optax.contrib.split_real_and_imaginary(optax.sgd(0.1, momentum=0.9))
    specs = specs_of(tx, lambda: {"w": jnp.ones((3, 8), jnp.complex64)})
    traces = {place: spec for place, spec in specs.items() if "trace" in place}
    assert len(traces) == 2
    assert set(traces.values()) == {(None, "fsdp")}


def test_factors_of_a_matrix_lie_whole():
    specs = specs_of(optax.adafactor(0.1, min_dim_size_to_factor=2), make)
    assert list(specs) == ["state.params['w']"]


def test_a_large_array_that_cannot_be_split_is_named():
    with pytest.warns(fb.shard.WholeArrayWarning) as caught:
        specs = specs_of(optax.adam(0.1), lambda: {"w": jnp.ones((50257, 11)), "b": jnp.ones((9, 7))})
    assert specs == {}
    assert [str(each.message) for each in caught] == [
        "w of shape (50257, 11) lies whole on every device, and so does what the optimizer keeps for it: "
        "none of its lengths is a multiple of 4, the size of the axis 'fsdp'. Make 50257 50260, or give it "
        "a rule of its own by fourbeat.shard.by_path."
    ]


def test_a_large_array_of_an_optimizer_that_belongs_to_no_parameter_is_named():
    large = lambda: {"w": jnp.ones((512, 1024))}
    tx = optax.flatten(optax.sgd(0.1, momentum=0.9))
    with pytest.warns(fb.shard.WholeArrayWarning) as caught:
        specs_of(tx, large)
    assert [str(each.message) for each in caught] == [
        "state.opt_state[0].trace of shape (524288,) lies whole on every device, beside parameters that are "
        "split: nothing tells to which of them it belongs. What an optimizer keeps in the tree of the "
        "parameters is split as they are; optax.flatten makes one array of all."
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        specs_of(tx, large, fb.shard.replicated())  # here all is to lie whole


@pytest.mark.parametrize("given", [{"w": ("fsdp",)}, PartitionSpec("fsdp"), fb.shard.fsdp])
def test_what_is_no_rules_is_refused(given):
    beats = fb.four_beats(lambda model, batch: batch["x"] @ model["w"], optax.sgd(0.1))
    expected = (
        f"shard is {given!r:.80}; expected rules, such as fourbeat.shard.fsdp() or "
        'fourbeat.shard.by_path({"head/kernel": (None, "tensor")}).'
    )
    for use in (
        lambda: beats.init(make, mesh=fb.mesh(data=-1), shard=given),
        lambda: fb.shard.place(make(), fb.mesh(data=-1), given),
        lambda: fb.shard.memory(beats, make, {"x": jnp.ones((8, 3))}, mesh=fb.mesh(data=-1), rules=given),
    ):
        with pytest.raises(TypeError) as caught:
            use()
        assert str(caught.value) == expected


def test_rules_that_forget_to_return_are_refused():
    class Forgetful(fb.shard.Rules):
        def spec(self, path, shape, mesh):
            pass

    with pytest.raises(TypeError) as caught:
        specs_of(optax.sgd(0.1), make, Forgetful())
    assert str(caught.value) == (
        "the rules give None for state.params['b']; expected a jax.sharding.PartitionSpec, such as P() for "
        "an array that is whole on every device."
    )


def split_columns(batch):
    return {name for name, each in batch_shardings(batch, MESH).items() if each.spec}


def test_a_table_that_all_rows_share_lies_whole_beside_the_rows():
    rows, table = {"x": np.ones((16, 3)), "y": np.ones(16)}, np.ones((1000, 64))
    weight = {"weight": np.ones(16)}
    assert split_columns({**rows, "table": table}) == {"x", "y"}
    assert split_columns({"x": rows["x"], "table": table, **weight}) == {"x", "weight"}
    for batch in ({**rows, "table": table}, {"x": rows["x"], "table": table, **weight}):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            shapes = jax.eval_shape(lambda batch: split_rows(batch, MESH), batch)
        assert shapes["table"].shape == (1000, 64)
    # nothing tells which of two is the table, and rows that do not divide are not split on a guess
    for batch in (
        {"x": rows["x"], "table": table},
        {"x": np.ones((12, 3)), "y": np.ones(12), "table": table},
    ):
        assert split_columns(batch) == set()
        with pytest.warns(fb.shard.WholeBatchWarning, match="nothing tells the rows of the batch"):
            jax.eval_shape(lambda batch: split_rows(batch, MESH), batch)
