"""Checkpoints in an object store: whole or absent without a rename, on a real S3 server and in memory."""

import contextlib
import json
import resource
import tempfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from fourbeat.checkpoints import CheckpointError, Checkpoints, CheckpointWarning
from fourbeat.checkpoints.object_store import ObjectStore
from fourbeat.stores.holders import hold, let_go
from fourbeat.stores.store import StoreError
from tests.distributed import processes
from tests.stores import s3_server
from tests.stores.dying import Dying, Killed

MemoryFileSystem = pytest.importorskip("fsspec.implementations.memory").MemoryFileSystem

TREE = {"w": jnp.arange(6.0), "n": np.arange(3), "name": "a"}


@pytest.fixture
def memory():
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]
    yield MemoryFileSystem()
    MemoryFileSystem.store.clear()


def assert_same(restored, step):
    assert restored["step"] == step and restored["name"] == "a"
    for name in ("w", "n"):
        np.testing.assert_array_equal(restored[name], TREE[name])


def test_a_kill_before_any_change_leaves_a_whole_checkpoint(memory):
    like, seen = {**TREE, "step": 0}, []
    with Checkpoints("memory://run") as checkpoints:
        checkpoints.save(1, {**TREE, "step": 1})
    before = dict(memory.store)
    for Dying.left in range(0, 100, 2):
        memory.store.clear()
        memory.store.update(before)
        with contextlib.suppress(Killed):
            Checkpoints("dying://run", asynchronous=False).save(2, {**TREE, "step": 2})
        seen.append(checkpoints.latest)
        assert_same(checkpoints.restore(like), seen[-1])
        if len(seen) == 4:  # the next save removes what was left behind
            assert len({path.split("/")[2] for path in memory.store}) == 2
            Checkpoints("memory://run", asynchronous=False).save(3, {**TREE, "step": 3})
            assert {path.split("/")[2].split("-save")[0] for path in memory.store} == {"step-3"}
        if Dying.left >= 0:
            break
    assert seen[0] == 1 and seen[-1] == 2 and sorted(seen) == seen and len(seen) > 5


def test_a_damaged_object_is_named_and_the_save_before_is_taken(memory):
    like = {**TREE, "step": 0}
    with Checkpoints("memory://run", keep_last=2) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, {**TREE, "step": step})
    name = next(path for path in memory.store if "step-2" in path and path.endswith("state/_METADATA"))
    memory.pipe_file(name, memory.cat_file(name) + b" ")
    where = "step 2 in memory://run/step-2-save-2 is damaged: arrays/state/_METADATA"
    with pytest.warns(CheckpointWarning) as warned:
        assert_same(checkpoints.restore(like), 1)
    assert str(warned[0].message) == (
        f"{where} is not as it was written: its sha256 differs.\nStep 1 was restored instead."
    )
    memory.rm_file(name)
    with pytest.raises(CheckpointError) as error:
        checkpoints.restore(like, 2)
    assert str(error.value) == f"{where} is missing.\nRestore another: 1."


def test_a_checkpoint_that_cannot_be_copied_is_not_taken_to_be_damaged(memory):
    tree = {"w": np.frombuffer(np.random.default_rng(0).bytes(300_000), np.uint8)}
    with Checkpoints("memory://run", keep_last=2) as checkpoints:
        checkpoints.save(1, tree)
        checkpoints.save(2, tree)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # as of a full disk
    try:
        with pytest.raises(StoreError) as error:
            checkpoints.restore(tree)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(error.value) == (
        "memory://run cannot be read, as its copy on this machine cannot be: OSError: [Errno 27] File too "
        f"large. Make room in {tempfile.gettempdir()}, or name another folder by TMPDIR."
    )


def test_an_older_one_that_is_another_process_s_by_now_is_not_removed(memory):
    def is_held():
        if any("step-2-save-2/digest.json" in path for path in memory.store):
            raise StoreError("the run is another's. Nothing more is written to it.")

    checkpoints = Checkpoints("memory://run", asynchronous=False)
    checkpoints.save(1, TREE)
    hold("memory://run", is_held)
    try:
        with pytest.raises(CheckpointError) as error:
            checkpoints.save(2, TREE)
    finally:
        let_go("memory://run")
    assert str(error.value) == (
        "step 2 is saved in memory://run, but an older one cannot be removed: the run is another's. "
        "Nothing more is written to it."
    )
    assert checkpoints.steps == (1, 2)


def test_an_address_that_cannot_be_used():
    with pytest.raises(ValueError) as error:
        Checkpoints("no-such-store://run")
    assert str(error.value) == (
        "no-such-store://run is no address of a store: Protocol not known: no-such-store."
    )
    for address in ("s3://", Path("s3://")):
        with pytest.raises(ValueError) as error:
            Checkpoints(address)
        assert str(error.value) == "s3:// names no bucket. Give one, as in s3://bucket/run."


def test_a_path_that_was_an_address_is_the_address(memory):
    Checkpoints(Path("memory://run"), asynchronous=False).save(1, {**TREE, "step": 1})
    assert Checkpoints("memory://run").steps == (1,)


def test_names_with_the_signs_of_a_pattern_are_names(memory):
    other, pattern = Checkpoints("memory://lr=1/*"), Checkpoints("memory://lr=[12]/*")
    for checkpoints in (other, pattern, pattern):
        checkpoints.save(2, {**TREE, "step": 2})
        checkpoints.wait()
    assert other.latest == pattern.latest == 2
    assert {path.split("/")[3] for path in memory.store} == {"step-2-save-1", "step-2-save-2"}
    assert len([path for path in memory.store if path.endswith("digest.json")]) == 2
    assert_same(other.restore({**TREE, "step": 0}), 2)


def test_two_savers_that_listed_the_same_names_write_to_two_folders(memory, monkeypatch):
    checkpoints, list_names = Checkpoints("memory://run", asynchronous=False), ObjectStore._names

    def another_reserves(self):
        found = list_names(self)
        if not memory.exists("/run/step-1-save-1"):
            memory.pipe("/run/step-1-save-1/begun-by-process-0", b"another")
            memory.pipe("/run/step-1-save-1/arrays/d/another", b"of another")
        return found

    monkeypatch.setattr(ObjectStore, "_names", another_reserves)
    checkpoints.save(1, {**TREE, "step": 1})
    found = [path for path in memory.store if "step-1-save-1/" in path]
    assert found == ["/run/step-1-save-1/begun-by-process-0", "/run/step-1-save-1/arrays/d/another"]
    assert_same(checkpoints.restore({**TREE, "step": 0}), 1)


@pytest.fixture(scope="module")
def server():
    with s3_server.running() as environment:
        yield environment


def test_one_process_and_two_share_an_s3_server(server, tmp_path):
    script = Path(__file__).with_name("object_store_saves.py")
    two, one = "s3://bucket/runs/two", "s3://bucket/one"
    both = processes.succeed(script, 2, tmp_path / "2", devices=2, environment=server, arguments=[2, two])
    alone = processes.succeed(
        script, 1, tmp_path / "1", devices=4, environment=server, arguments=[1, one, two]
    )
    seen = [json.loads(output.splitlines()[-1]) for output in (*both, *alone)]
    assert [each["steps"] for each in seen] == [[[1, 3], 3], [[1, 3], 3], [[3], 3]]
    assert [each["refused"] for each in seen] == [
        f"step 1 was not saved: {other}s3://nowhere/run cannot be written: FileNotFoundError: The specified "
        "bucket does not exist. Look at the address, at the permissions, and whether the store answers."
        for other in ("", "process 0: ", "")
    ]
    assert {name.split("/")[0] for name in seen[2]["objects"]} == {"step-3-save-1"}
    kept = [name.split("/") for name in seen[0]["objects"]]
    assert {name[0] for name in kept} == {"step-1-save-1", "step-3-save-3"}
    assert {tuple(name[1:]) for name in kept if len(name) < 4} == {("digest.json",), ("arrays", "_METADATA")}
