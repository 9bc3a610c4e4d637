"""Restoring into another tree: every place is listed, side by side; what fits can be taken."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fourbeat as fb
from fourbeat.checkpoints import Checkpoints, Mismatch
from tests.kinds import KINDS


@pytest.fixture
def saved(tmp_path):
    tree = {
        "params": {"body": jnp.arange(3.0), "head": jnp.ones((3, 10))},
        "ema": {"body": jnp.zeros(3)},
        "key": jax.random.key(1),
        "count": 4,
        "half": jnp.ones(2, jnp.bfloat16),
    }
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(300, tree)
    return checkpoints, tree


def other_tree():
    return {
        "params": {"body": jnp.full((3,), -1.0), "head": jnp.full((3, 5), 7.0), "scale": np.ones(1)},
        "ema": None,
        "key": jax.random.key(2, impl="rbg"),
        "count": np.int64(4),
        "half": jnp.ones(2, jnp.float32),
    }


TABLE = """\
place                    checkpoint    like
tree['count']            Python int    int64[]
tree['half']             bfloat16[2]   float32[2]
tree['key']              key<fry>[]    key<rbg>[]
tree['params']['head']   float32[3,10] float32[3,5]
tree['params']['scale']  -             float64[1]
tree['ema']['body']      float32[3]    None""".replace("] float32[3,5]", "]  float32[3,5]")


def lines(text):
    return [line.split() for line in text.splitlines()]


def test_every_difference_is_listed_side_by_side(saved):
    checkpoints, _ = saved
    with pytest.raises(ValueError) as error:
        checkpoints.restore(other_tree())
    first, *table, last = str(error.value).splitlines()
    assert first == (
        f"cannot restore step 300 of {checkpoints.directory}: it is not of the same tree as `like`."
    )
    assert lines("\n".join(table)) == lines(TABLE)
    starts = {line.index(line.split()[-1]) for line in table if not line.endswith("-")}
    assert len(starts) == 1, "the columns stand below each other"
    assert last == "Build `like` as it was when saving, or take what fits: restore(like, partial=True)."


def test_partial_takes_what_fits_and_lists_the_rest(saved):
    checkpoints, tree = saved
    like = other_tree()
    restored, mismatch = checkpoints.restore(like, partial=True)
    np.testing.assert_array_equal(restored["params"]["body"], tree["params"]["body"])
    np.testing.assert_array_equal(restored["params"]["head"], like["params"]["head"])
    assert restored["ema"] is None and restored["count"] == 4
    restored["params"]["head"].delete()  # a donated step must not reach what the caller still holds
    restored["params"]["scale"] += 1
    np.testing.assert_array_equal(like["params"]["head"], np.full((3, 5), 7.0))
    assert like["params"]["scale"] == 1
    assert mismatch.missing == ("tree['params']['scale']",)
    assert mismatch.extra == ("tree['ema']['body']",)
    assert mismatch.differing == (
        "tree['count']", "tree['half']", "tree['key']", "tree['params']['head']",
    )  # fmt: skip
    assert lines(str(mismatch)) == lines(TABLE)


def test_partial_of_the_same_tree_has_no_mismatch(saved):
    checkpoints, tree = saved
    restored, mismatch = checkpoints.restore(tree, partial=True)
    assert not mismatch and mismatch == Mismatch(())
    assert jax.tree.structure(restored) == jax.tree.structure(tree)


def test_partial_needs_values_for_the_rest(saved):
    checkpoints, _ = saved
    like = other_tree()
    like["params"]["head"].delete()
    with pytest.raises(ValueError) as error:
        checkpoints.restore(like, partial=True)
    assert str(error.value) == (
        f"cannot take a part of step 300 of {checkpoints.directory}: nothing saved fits "
        "tree['params']['head'], and `like` has no values there. Give a tree of living arrays."
    )
    with pytest.raises(ValueError) as error:
        checkpoints.restore({"other": jnp.ones(1)}, partial=True)
    assert str(error.value).startswith(f"nothing in step 300 of {checkpoints.directory} fits `like`.\nplace ")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int32", "uint32"])
def test_a_dtype_is_never_cast(dtype, tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, [jnp.ones(2)])
    with pytest.raises(ValueError, match=rf"tree\[0\] +float32\[2\] +{dtype}\[2\]"):
        checkpoints.restore([jnp.ones(2, dtype)])


def test_none_hides_only_what_lies_below_it(tmp_path):
    state = fb.four_beats(lambda model, batch: batch["x"], optax.sgd(0.1)).init({"w": jnp.ones(1)})
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"a": state, "a2": 1, "b": 2})
    with pytest.raises(ValueError) as error:
        checkpoints.restore({"a": None, "b": 2})
    rows = {row[0]: row[-1] for row in lines(str(error.value))[2:-1]}
    assert rows.pop("tree['a2']") == "-"
    assert set(rows.values()) == {"None"} and "tree['a'].params['w']" in rows


def test_dtypes_that_jax_would_shorten_are_refused(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"x": np.ones(2)})
    with pytest.raises(ValueError) as error:
        checkpoints.restore({"x": jax.ShapeDtypeStruct((2,), np.float64)})
    assert str(error.value) == (
        "cannot restore tree['x']: JAX would shorten float64 to float32. "
        "Call jax.config.update('jax_enable_x64', True) first, as the run that saved it did."
    )


def test_a_new_head_on_a_trained_body(tmp_path):
    """The use of it: another model's state takes over all that it shares with the saved one."""

    def init(num_classes):
        model = KINDS["dict"].make(0)
        model["b"] = jnp.zeros(num_classes)
        loss = lambda model, batch: batch["x"]
        return fb.four_beats(loss, optax.adam(0.1)).init(model)

    trained = init(2).replace(params={"w": 3.0 * jnp.ones((3, 2)), "b": jnp.ones(2)})
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, trained)
    state, mismatch = checkpoints.restore(init(4), partial=True)
    assert mismatch.differing == (
        "tree.params['b']", "tree.opt_state[0].mu['b']", "tree.opt_state[0].nu['b']",
    )  # fmt: skip
    np.testing.assert_array_equal(state.params["w"], trained.params["w"])
    assert state.params["b"].shape == (4,)
