"""Damage on the disk: every file of a checkpoint truncated, flipped, removed in turn."""

import re
import shutil
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fourbeat.checkpoints import CheckpointError, Checkpoints, storage
from fourbeat.checkpoints.digest import Digest
from fourbeat.checkpoints.folders import entries


def make_tree(step):
    random = np.random.default_rng(step)
    return {
        "w": jnp.asarray(random.standard_normal((300, 50)), jnp.float32),
        "b": jnp.asarray(random.standard_normal(50), jnp.bfloat16),
        "key": jax.random.key_data(jax.random.key(step)),
        "step": jnp.int32(step),
    }


def is_of(tree, step):
    pairs = zip(jax.tree.leaves(tree), jax.tree.leaves(make_tree(step)), strict=True)
    return all(np.asarray(leaf).tobytes() == np.asarray(other).tobytes() for leaf, other in pairs)


@pytest.fixture(scope="module")
def intact(tmp_path_factory):
    directory = tmp_path_factory.mktemp("intact")
    with Checkpoints(directory, keep_last=2, mode="max") as checkpoints:
        checkpoints.save(1, make_tree(1), score=0.1)
        checkpoints.save(2, make_tree(2), score=0.2)
    return directory


@pytest.fixture
def directory(intact, tmp_path):
    return Path(shutil.copytree(intact, tmp_path / "copy"))


def files_of_step(directory, step):
    folder = next(entry.folder for entry in entries(directory) if entry.step == step)
    return sorted(path for path in folder.rglob("*") if path.is_file())


def truncated(data):
    return data[: len(data) // 2]


def flipped(data, at):
    place = int(at * (len(data) - 1))
    return data[:place] + bytes(byte ^ 8 for byte in data[place : place + 1]) + data[place + 1 :]


DAMAGE = {
    "removed": None,
    "emptied": lambda data: b"",
    "half of it": truncated,
    "longer": lambda data: data + b"\0",
    "flipped at the start": lambda data: flipped(data, 0.0),
    "flipped in the middle": lambda data: flipped(data, 0.5),
    "flipped at the end": lambda data: flipped(data, 1.0),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_every_file_counts(damage, directory):
    """By its number a damaged step is an error; the latest and the best fall back, and say so."""
    change = DAMAGE[damage]
    files = files_of_step(directory, 2)
    assert len(files) > 8
    for path in files:
        data = path.read_bytes()
        if change is None:
            path.unlink()
        elif change(data) == data:
            continue  # an empty file stays as it is
        else:
            path.write_bytes(change(data))
        checkpoints = Checkpoints(directory, mode="max")
        with pytest.raises(CheckpointError, match=r"step 2 in .* is damaged: .*\nRestore another: 1\.$"):
            checkpoints.restore(make_tree(0), step=2)
        for step in ("latest", "best"):
            with pytest.warns(UserWarning, match="damaged") as caught:
                assert is_of(checkpoints.restore(make_tree(0), step=step), 1)
            (warning,) = caught
            assert re.fullmatch(
                r"step 2 in .*/step-2-save-2 is damaged: .*\nStep 1 was restored instead\.",
                str(warning.message),
            )
            assert warning.filename == __file__
        path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert is_of(Checkpoints(directory).restore(make_tree(0)), 2)


TEXTS = {
    "arrays/_CHECKPOINT_METADATA": (
        lambda path: path.unlink(),
        "arrays/_CHECKPOINT_METADATA is missing",
    ),
    "arrays/state/manifest.ocdbt": (
        lambda path: path.write_bytes(truncated(path.read_bytes())),
        "arrays/state/manifest.ocdbt is not as it was written: its sha256 differs",
    ),
    "arrays/state/more": (
        lambda path: path.write_text("a stranger's"),
        "arrays/state/more does not belong to it",
    ),
    "digest.json": (
        lambda path: path.unlink(),
        "digest.json is missing, or no plain file",
    ),
    "digest.json ": (
        lambda path: path.write_text("{}"),
        "digest.json cannot be read: it is no digest of a checkpoint",
    ),
    "digest.json  ": (
        lambda path: path.write_bytes(path.read_bytes().replace(b'"score": 0.2', b'"score": 0.9')),
        "digest.json cannot be read: its own sha256 does not match",
    ),
}


@pytest.mark.parametrize("name", TEXTS)
def test_the_error_says_what_is_damaged(name, directory):
    damage, reason = TEXTS[name]
    damage(directory / "step-2-save-2" / name.strip())
    with pytest.raises(CheckpointError) as error:
        Checkpoints(directory).restore(make_tree(0), step=2)
    assert str(error.value) == (
        f"step 2 in {directory}/step-2-save-2 is damaged: {reason}.\nRestore another: 1."
    )


def test_where_all_are_damaged_all_are_named(directory):
    for step in (1, 2):
        (directory / f"step-{step}-save-{step}" / "digest.json").unlink()
    checkpoints = Checkpoints(directory, mode="max")
    text = (
        f"step 2 in {directory}/step-2-save-2 is damaged: digest.json is missing, or no plain file.\n"
        f"step 1 in {directory}/step-1-save-1 is damaged: digest.json is missing, or no plain file.\n"
        "There is no other checkpoint."
    )
    for restore in (checkpoints.restore, checkpoints.restore_or):  # never a fresh start in silence
        with pytest.raises(CheckpointError) as error:
            restore(make_tree(0))
        assert str(error.value) == text
    assert checkpoints.best is None


def test_a_best_one_that_cannot_be_read_is_not_passed_over_in_silence(directory):
    (directory / "step-1-save-1" / "digest.json").unlink()
    with pytest.warns(UserWarning, match="step 1 .* is damaged"):
        tree = Checkpoints(directory, mode="min").restore(make_tree(0), step="best")
    assert is_of(tree, 2)


def test_a_renamed_checkpoint_is_refused(directory):
    (directory / "step-2-save-2").rename(directory / "step-7-save-2")
    with pytest.raises(CheckpointError, match="its digest is of step 2: it was renamed, or mixed up"):
        Checkpoints(directory).restore(make_tree(0), step=7)


def test_another_tree_is_no_damage(directory):
    with pytest.raises(ValueError, match="not of the same tree"):
        Checkpoints(directory).restore({"w": jnp.ones(1)})


def test_another_tree_after_a_damaged_one_is_told_with_it(directory):
    (directory / "step-2-save-2" / "digest.json").unlink()
    with pytest.raises(ValueError, match="cannot restore step 1") as error:
        Checkpoints(directory).restore({"w": jnp.ones(1)})
    assert "step 2 in" in error.value.__notes__[0] and "is damaged" in error.value.__notes__[0]


def test_a_reader_follows_the_process_that_saves(directory, monkeypatch):
    """Between looking and reading, all that was there has been replaced."""
    real = storage.read_digest

    def late(folder):
        monkeypatch.setattr(storage, "read_digest", real)
        with Checkpoints(directory, keep_last=1) as writer:
            writer.save(3, make_tree(3))
        return real(folder)

    monkeypatch.setattr(storage, "read_digest", late)
    assert is_of(Checkpoints(directory).restore(make_tree(0)), 3)


def test_values_that_orbax_gives_wrongly_are_caught(directory):
    """The sha256 of a leaf holds whatever the files say: here they are as they were written."""
    path = directory / "step-2-save-2" / "digest.json"
    digest = Digest.decode(path.read_bytes())
    leaves = list(digest.leaves)
    i = next(i for i, leaf in enumerate(leaves) if leaf.path == "['w']")
    leaves[i] = leaves[i].__class__(**{**vars(leaves[i]), "sha256": "0" * 64})
    path.write_bytes(Digest(2, {"score": 0.2}, None, tuple(leaves), digest.files).encode())
    with pytest.raises(CheckpointError, match=r"tree\['w'\] is not as it was saved: its sha256 differs"):
        Checkpoints(directory).restore(make_tree(0), step=2)


def test_a_digest_of_another_format_is_refused(directory):
    path = directory / "step-2-save-2" / "digest.json"
    digest = Digest.decode(path.read_bytes())
    text = digest.encode().decode()
    assert Digest.decode(text.encode()) == digest
    with pytest.raises(ValueError, match="its own sha256 does not match"):
        Digest.decode(text.replace('"format": 1', '"format": 2').encode())


def test_a_save_goes_on_over_a_damaged_one(directory):
    (directory / "step-2-save-2" / "digest.json").unlink()
    with Checkpoints(directory, keep_last=1, keep_best=1, mode="max") as checkpoints:
        checkpoints.save(3, make_tree(3), score=0.0)
    assert checkpoints.steps == (1, 3)
    assert is_of(checkpoints.restore(make_tree(0)), 3)


def flip_a_leaf(folder):
    """Turns a bit in the largest file: that of the arrays' bytes."""
    path = max((folder / "arrays").rglob("*"), key=lambda path: path.stat().st_size * path.is_file())
    path.write_bytes(flipped(path.read_bytes(), 0.5))


def remove_a_file(folder):
    (folder / "arrays" / "_CHECKPOINT_METADATA").unlink()


@pytest.mark.parametrize("moment", ["before the files are hashed", "after"])
@pytest.mark.parametrize("damage", [flip_a_leaf, remove_a_file])
def test_what_does_not_read_back_takes_no_older_one_s_place(damage, moment, tmp_path, monkeypatch):
    """The disk damages what was just written: keep_last=1 must keep the one before."""
    name, of = ("save", storage.stored_arrays) if moment.startswith("before") else ("flush", storage)
    real = getattr(of, name)
    checkpoints = Checkpoints(tmp_path, keep_last=1, asynchronous=False)
    checkpoints.save(1, make_tree(1))

    def damaging(folder, *arguments):
        real(folder, *arguments)
        damage(folder.parent if moment.startswith("before") else folder)

    monkeypatch.setattr(of, name, damaging)
    with pytest.raises(CheckpointError) as error:
        checkpoints.save(2, make_tree(2))
    monkeypatch.undo()
    first, last = str(error.value).splitlines()
    assert first.startswith(f"step 2 was not saved in {tmp_path}: what was written does not read back: ")
    assert last == "The newest whole one is of step 1. See to its space and permissions, then save again."
    assert [path.name for path in tmp_path.iterdir()] == ["step-1-save-1"]
    assert is_of(checkpoints.restore(make_tree(0)), 1)
    checkpoints.save(3, make_tree(3), score=float("nan"))
    checkpoints.close()
    assert is_of(checkpoints.restore(make_tree(0)), 3)


@pytest.mark.parametrize("damaged", [None, 1, 6])
def test_large_arrays_are_read_back_a_part_at_a_time_and_every_one_of_them(damaged, tmp_path, monkeypatch):
    """Read back at once they would take more memory than the copies that were written."""
    monkeypatch.setattr(storage, "PART_BYTES", 0)
    tree = {str(i): np.full(1_000 if i < 8 else 0, i, np.float32) for i in range(9)}
    parts, real_load, real_save = [], storage.stored_arrays.load, storage.stored_arrays.save

    def load(folder, like):
        parts.append([name for name, array in like.items() if array is not None])
        return real_load(folder, like)

    def save(folder, arrays):
        if damaged is not None:
            arrays = {**arrays, f"leaf_{damaged}": np.zeros(1_000, np.float32)}
        real_save(folder, arrays)

    monkeypatch.setattr(storage.stored_arrays, "load", load)
    monkeypatch.setattr(storage.stored_arrays, "save", save)
    checkpoints = Checkpoints(tmp_path, asynchronous=False)
    if damaged is None:
        checkpoints.save(1, tree)
        assert parts == [[f"leaf_{i}", f"leaf_{i + 1}"] for i in range(0, 8, 2)]
    else:
        with pytest.raises(CheckpointError, match=f"tree\\['{damaged}'\\] is not as it was saved"):
            checkpoints.save(1, tree)
        assert checkpoints.steps == ()
