"""Saving and restoring: the same bits, the same types, the values of the moment."""

import gc
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fourbeat as fb
from fourbeat.checkpoints import CheckpointError, Checkpoints, storage
from fourbeat.testing import expect_compilations, no_host_reads
from tests.kinds import KINDS, OPTIMIZERS

NUMPY_DTYPES = [
    "bool",
    "int8",
    "uint8",
    "int32",
    "uint64",
    "int64",
    "float16",
    "float64",
    "complex128",
    ">f4",
]
JAX_DTYPES = [
    "bool",
    "int8",
    "uint16",
    "int32",
    "float16",
    "bfloat16",
    "float32",
    "complex64",
    "float8_e4m3fn",
    "int4",
]


def random_bits(dtype, shape=(3, 5)):
    """Every bit pattern, NaN payloads and negative zeros among them."""
    dtype = jnp.dtype(dtype)
    raw = np.random.default_rng(0).integers(0, 256, (*shape, dtype.itemsize), dtype=np.uint8)
    if dtype.name in ("bool", "int4"):
        return (raw[..., 0] % 2).astype(dtype)
    return np.ascontiguousarray(raw).view(dtype)[..., 0]


def train_state(kind="cnn", optimizer="adamw"):
    beats = fb.four_beats(
        lambda model, batch: KINDS[kind].items(model, batch)[0],
        OPTIMIZERS[optimizer](),
        metrics=fb.metrics.Collection(loss=fb.metrics.Mean("loss")),
    )
    return beats.init(KINDS[kind].make(0), key=7)


TREES = {
    "TrainState": train_state,
    "TrainState and controllers": lambda: {
        "state": train_state("dict", "chain"),
        "stopping": fb.EarlyStopping(patience=2, mode="max").update(0.25),
        "plateau": fb.ReduceOnPlateau(0.5, 2).update(float("nan")),
    },
    "jax dtypes": lambda: {name: jnp.asarray(random_bits(name)) for name in JAX_DTYPES},
    "NumPy dtypes": lambda: {name: random_bits(name) for name in NUMPY_DTYPES},
    "NumPy scalars": lambda: [np.float32(-0.0), np.int64(-(2**63)), np.bool_(True), jnp.bfloat16(1.5)],
    "NumPy layouts": lambda: [np.ones((4, 6)).T, np.arange(9)[::-2], np.asfortranarray(np.eye(3))],
    "empty": lambda: [jnp.zeros((0, 3)), np.zeros((2, 0)), jax.random.split(jax.random.key(0), 0)],
    "zeros": lambda: [jnp.zeros(4), jnp.asarray([-0.0] * 4), np.full(3, np.nan), np.zeros(())],
    "typed keys": lambda: {
        impl: jax.random.split(jax.random.key(3, impl=impl), 2) for impl in ("threefry2x32", "rbg")
    },
    "Python": lambda: (True, -(2**63), 2.5, float("nan"), 1 - 2j, "two\nlines, ü", "", None),
    "weak types": lambda: [jnp.asarray(1.5), jnp.asarray(-3), jnp.asarray(True)],
    "awkward keys": lambda: {"../../x": 1, "a/b": {".": jnp.zeros(1)}, "": {0: 1, 10: 2}, "0": {"'": 3}},
    "one array": lambda: jnp.arange(3),
    "optax": lambda: optax.adamw(1e-3).init({"w": jnp.ones(3), "b": None}),
    "no leaves": lambda: {"a": None, "b": ()},
}  # fmt: skip


def bits(leaf):
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.asarray(leaf).tobytes()


def assert_same(restored, tree):
    assert jax.tree.structure(restored) == jax.tree.structure(tree)
    for leaf, expected in zip(jax.tree.leaves(restored), jax.tree.leaves(tree), strict=True):
        assert type(leaf) is type(expected)
        assert bits(leaf) == bits(expected)
        assert np.shape(leaf) == np.shape(expected)
        assert getattr(leaf, "dtype", None) == getattr(expected, "dtype", None)
        if isinstance(expected, jax.Array):
            assert leaf.aval == expected.aval  # weak types too
            assert leaf.sharding == expected.sharding and leaf.committed == expected.committed


@pytest.mark.parametrize("kind", TREES)
def test_restored_is_what_was_saved(kind, tmp_path):
    tree, expected = TREES[kind](), TREES[kind]()
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(3, tree)
    assert_same(checkpoints.restore(tree), expected)
    assert_same(checkpoints.restore_or(tree), expected)


def test_like_may_be_donated_or_abstract(tmp_path):
    tree, expected = train_state(), train_state()
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(3, tree)
    shapes = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), tree
    )
    jax.tree.map(lambda leaf: leaf.delete(), tree)
    assert_same(checkpoints.restore(tree), expected)
    restored = checkpoints.restore(shapes)
    assert [bits(leaf) for leaf in jax.tree.leaves(restored)] == [
        bits(leaf) for leaf in jax.tree.leaves(expected)
    ]


def test_abstract_keys_are_restored_as_keys(tmp_path):
    keys = jax.random.split(jax.random.key(3, impl="rbg"), 2)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(3, keys)
    restored = checkpoints.restore(jax.ShapeDtypeStruct(keys.shape, keys.dtype))
    assert restored.dtype == keys.dtype and bits(restored) == bits(keys)
    assert jax.random.key_impl(restored) == jax.random.key_impl(keys)


def test_another_process_with_the_same_code_restores_into_a_fresh_state(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(3, train_state().replace(lr_scale=0.25))
    assert float(Checkpoints(tmp_path).restore(train_state()).lr_scale) == 0.25


@settings(deadline=None, max_examples=12, derandomize=True)
@given(
    st.recursive(
        st.tuples(st.sampled_from(JAX_DTYPES), st.lists(st.integers(0, 4), max_size=3).map(tuple)),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=8,
    )
)
def test_any_tree_comes_back(tmp_path_factory, kinds):
    is_kind = lambda node: isinstance(node, tuple)
    tree = jax.tree.map(lambda kind: jnp.asarray(random_bits(*kind)), kinds, is_leaf=is_kind)
    with Checkpoints(tmp_path_factory.mktemp("any")) as checkpoints:
        checkpoints.save(0, tree)
    assert_same(checkpoints.restore(tree), tree)


def test_values_are_those_at_the_call_though_the_next_step_donates_them(tmp_path):
    @partial(jax.jit, donate_argnums=0)
    def step(tree):
        return jax.tree.map(lambda x: x * 3 + 1, tree)

    tree = {"w": jnp.ones((300, 300), jnp.uint32), "b": jnp.arange(7, dtype=jnp.uint32)}
    values = jax.tree.map(np.array, tree)
    with Checkpoints(tmp_path, keep_last=None) as checkpoints:
        for n in range(12):
            checkpoints.save(n, tree)
            for _ in range(3):
                tree = step(tree)
    for n in range(12):
        assert_same(checkpoints.restore(values, step=n), values)
        for _ in range(3):
            values = jax.tree.map(lambda x: x * 3 + np.uint32(1), values)


def test_numpy_leaves_are_those_at_the_call(tmp_path):
    tree = {"seen": np.zeros(1000)}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, tree)
        tree["seen"] += 1
    assert checkpoints.restore(tree)["seen"].sum() == 0


def test_restored_buffers_have_a_single_owner(tmp_path):
    tree = {"w": jnp.ones(4096), "n": np.ones(3)}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, tree)
    first, second = checkpoints.restore(tree), checkpoints.restore(tree)
    first["w"].delete()
    first["n"] += 1
    assert_same(second, tree)
    assert second["n"].flags.writeable


def test_shardings_are_those_of_like(tmp_path):
    script = Path(__file__).with_name("several_devices.py")
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    command = [sys.executable, "-W", "error", str(script), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_restored_state_needs_no_second_compilation(tmp_path):
    state = {"w": jnp.ones(3), "key": jax.random.key(0), "scale": jnp.asarray(0.5)}

    @jax.jit
    def step(state):
        return jax.random.normal(state["key"], 3) * state["w"] * state["scale"]

    expected = np.asarray(step(state))
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state)
        restored = checkpoints.restore(state)
    with expect_compilations(0):
        np.testing.assert_array_equal(step(restored), expected)


@pytest.mark.parametrize("asynchronous", [True, False])
def test_memory_returns_to_what_it_was(asynchronous, tmp_path):
    tree = {"w": jnp.ones((100, 100)), "n": np.ones(3)}
    with Checkpoints(tmp_path, asynchronous=asynchronous) as checkpoints:
        gc.collect()
        before = len(jax.live_arrays())
        for n in range(5):
            checkpoints.save(n, tree)
        checkpoints.wait()
        gc.collect()
        assert len(jax.live_arrays()) == before


def test_saving_does_not_read_the_device_on_the_main_thread(tmp_path, monkeypatch):
    tree = {"w": jnp.ones(10), "key": jax.random.key(0)}
    with Checkpoints(tmp_path) as checkpoints:
        work = []
        monkeypatch.setattr(checkpoints._background, "start", work.append)
        with no_host_reads():
            checkpoints.save(1, tree)
        work[0]()
    assert_same(checkpoints.restore(tree), tree)


def test_restore_or_gives_the_tree_itself_where_nothing_was_saved(tmp_path):
    tree = {"w": jnp.ones(1)}
    checkpoints = Checkpoints(tmp_path / "later" / "still")
    assert checkpoints.restore_or(tree) is tree
    assert (checkpoints.latest, checkpoints.steps) == (None, ())
    assert not (tmp_path / "later").exists()
    with pytest.raises(FileNotFoundError) as error:
        checkpoints.restore(tree)
    assert str(error.value) == (
        f"there is no checkpoint in {tmp_path}/later/still. "
        "restore_or(tree) gives the tree itself in that case."
    )


def test_a_relative_directory_stays_where_it_was(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    checkpoints = Checkpoints("runs")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with checkpoints:
        checkpoints.save(1, {"a": 1})
    assert Checkpoints(tmp_path / "runs").steps == (1,)


BAD_CALLS = {
    "a function": (lambda c: c.save(1, {"f": len}), TypeError,
        "cannot save tree['f']: a builtins.builtin_function_or_method cannot be saved. "
        "Leaves are jax and NumPy arrays, typed keys, and Python numbers and strings."),
    "objects": (lambda c: c.save(1, [np.array([None])]), TypeError,
        "cannot save tree[0]: a NumPy array of dtype object cannot be saved. "
        "Leaves are jax and NumPy arrays, typed keys, and Python numbers and strings."),
    "a shape": (lambda c: c.save(1, jax.ShapeDtypeStruct((), np.float32)), TypeError,
        "cannot save tree: a jax.ShapeDtypeStruct has no values."),
    "a large integer": (lambda c: c.save(1, [2**63]), TypeError,
        "cannot save tree[0]: the integer 9223372036854775808 needs more than 64 bits."),
    "donated": (lambda c: c.save(1, {"w": deleted()}), ValueError,
        "cannot save tree['w']: the array was donated to a compiled step. "
        "Save the state that the step returned."),
    "a negative step": (lambda c: c.save(-1, {}), ValueError, "the step is -1. Give a whole number from 0."),
    "no step": (lambda c: c.save("1", {}), ValueError, "the step is '1'. Give a whole number from 0."),
    "a vector score": (lambda c: c.save(1, {}, score=np.ones(2)), TypeError,
        "the score is array([1., 1.]). Give one number."),
    "an odd step": (lambda c: c.restore({"a": 1}, step="newest"), ValueError,
        "the step is 'newest'. Give a whole number from 0."),
    "best without mode": (lambda c: c.best, ValueError,
        "which score is best? Give Checkpoints(..., mode='min') where a lower one is better, "
        "or mode='max'."),
    "restoring a function": (lambda c: c.restore({"a": len}), TypeError,
        "cannot restore into tree['a']: a builtins.builtin_function_or_method cannot be saved, "
        "nor restored."),
    "keep_last": (lambda c: Checkpoints("x", keep_last=0), ValueError,
        "Checkpoints: keep_last is 0. Give a whole number from 1, or None."),
    "keep_best": (lambda c: Checkpoints("x", keep_best=1.5), ValueError,
        "Checkpoints: keep_best is 1.5. Give a whole number from 1, or None."),
    "keep_best alone": (lambda c: Checkpoints("x", keep_best=1), ValueError,
        "Checkpoints: keep_best=1 needs mode='min', where a lower score is better, or mode='max'."),
    "mode": (lambda c: Checkpoints("x", mode="most"), ValueError,
        "Checkpoints: mode is 'most'. Give 'min' or 'max'."),
    "keep_every": (lambda c: Checkpoints("x", keep_every=0), ValueError,
        "Checkpoints: keep_every is 0. Give a whole number from 1, or None."),
    "keep_seconds": (lambda c: Checkpoints("x", keep_seconds=-1.0), ValueError,
        "Checkpoints: keep_seconds is -1.0. Give seconds above 0, or None."),
    "best without a count": (lambda c: Checkpoints("x", best={"loss": "min"}), ValueError,
        "Checkpoints: best['loss'] is 'min'. Give 'min' or 'max', and how many stay, from 1: "
        "best={'accuracy': ('max', 3), 'loss': ('min', 1)}."),
    "best without names": (lambda c: Checkpoints("x", best=3), ValueError,
        "Checkpoints: best is 3. Give names with pairs: best={'accuracy': ('max', 3), 'loss': ('min', 1)}."),
    "best and mode": (lambda c: Checkpoints("x", best={"a": ("max", 1)}, mode="max"), ValueError,
        "Checkpoints: best= says all that keep_best= and mode= say. Give only best=."),
    "a bare number for two": (lambda c: Checkpoints("x", best=TWO).save(1, {}, score=0.5), TypeError,
        "the score is 0.5, and several are ranked. Give score={'a': ..., 'b': ...}."),
    "a name that is missing": (lambda c: Checkpoints("x", best=TWO).save(1, {}, score={"a": 1}), TypeError,
        "the score has no 'b', which is ranked here; it has 'a'. "
        "Give None for a score that this step does not have."),
    "names for one number": (
        lambda c: Checkpoints("x", mode="max").save(1, {}, score={"accuracy": 1}), TypeError,
        "the score has names: 'accuracy'. With mode= it is one number; with Checkpoints(..., "
        "best={'accuracy': ('max', 1)}) scores have names."),
    "a text for a score": (lambda c: c.save(1, {}, score={"a": "b"}), TypeError,
        "score['a'] is 'b'. Give one number."),
}  # fmt: skip
TWO = {"a": ("max", 1), "b": ("min", 1)}


def deleted():
    array = jnp.ones(1)
    array.delete()
    return array


@pytest.mark.parametrize("case", BAD_CALLS)
def test_bad_calls_say_what_to_do(case, tmp_path):
    call, kind, text = BAD_CALLS[case]
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(5, {"a": 1})
        checkpoints.wait()
        with pytest.raises(kind) as error:
            call(checkpoints)
    assert str(error.value) == text


def test_a_step_that_is_not_there_names_those_that_are(tmp_path):
    with Checkpoints(tmp_path, keep_last=2) as checkpoints:
        for n in (1, 2, 3):
            checkpoints.save(jnp.int32(n), {"a": n})
    assert checkpoints.restore({"a": 0}, step=jnp.int32(2)) == {"a": 2}
    with pytest.raises(FileNotFoundError) as error:
        checkpoints.restore({"a": 0}, step=1)
    assert str(error.value) == f"there is no checkpoint of step 1 in {tmp_path}: it has 2, 3."
    with pytest.raises(ValueError) as error:
        checkpoints.save(4, {"a": 4})
    assert str(error.value) == f"cannot save step 4: these Checkpoints of {tmp_path} are closed."


def test_two_leaves_of_one_path_are_refused(tmp_path):
    class Key:
        def __repr__(self):
            return "k"

    class Pair:
        pass

    jax.tree_util.register_pytree_with_keys(
        Pair,
        lambda pair: ([(jax.tree_util.DictKey(Key()), 1), (jax.tree_util.DictKey(Key()), 2)], None),
        lambda _, leaves: Pair(),
    )
    checkpoints = Checkpoints(tmp_path, asynchronous=False)
    with pytest.raises(CheckpointError, match=r"two leaves have the path tree\[k\]"):
        checkpoints.save(1, Pair())


def test_many_leaves_are_copied_by_one_program_that_no_save_compiles(tmp_path, monkeypatch):
    tree = {f"{i:03}": jnp.full(3, i, jnp.float32) for i in range(250)}
    change = jax.jit(lambda tree: {name: leaf + 1 for name, leaf in tree.items()}, donate_argnums=0)

    def forbidden(*args, **kwargs):
        raise AssertionError("copied one by one")

    with Checkpoints(tmp_path, keep_last=None) as checkpoints:
        for step in range(3):
            checkpoints.save(step, tree)
            tree = change(tree)
            checkpoints.wait()
            monkeypatch.setattr(jax, "device_put", forbidden)  # what the first save copied with
        monkeypatch.undo()
        for step in range(3):
            restored = checkpoints.restore(tree, step=step)
            assert [leaf.tolist() for leaf in restored.values()] == [[i + step] * 3 for i in range(250)]


def test_a_save_hashes_every_leaf_twice_and_every_file_once_and_compresses_nothing(tmp_path, monkeypatch):
    leaves, files = [], []

    def spy(real, seen):
        return lambda *args: seen.append(args[0]) or real(*args)

    monkeypatch.setattr(storage, "sha256_of", spy(storage.sha256_of, leaves))
    monkeypatch.setattr(storage.hashlib, "file_digest", spy(storage.hashlib.file_digest, files))
    tree = {"zeros": jnp.zeros(2**16), "small": jnp.ones(3)}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, tree)
    (folder,) = tmp_path.iterdir()
    on_disk = [path for path in folder.rglob("*") if path.is_file()]
    assert len(leaves) == 2 * len(tree)
    assert len(files) == len(on_disk) - 1  # the digest has its own sha256 inside
    assert sum(path.stat().st_size for path in on_disk) > tree["zeros"].nbytes
