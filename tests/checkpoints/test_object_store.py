"""Checkpoints in an object store: whole or absent without a rename, on a real S3 server and in memory."""

import contextlib
import json
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from fourbeat.checkpoints import CheckpointError, Checkpoints, CheckpointWarning
from tests.distributed import processes

fsspec = pytest.importorskip("fsspec")
MemoryFileSystem = pytest.importorskip("fsspec.implementations.memory").MemoryFileSystem

TREE = {"w": jnp.arange(6.0), "n": np.arange(3), "name": "a"}


class Killed(BaseException):
    """Stands for SIGKILL: what is in the store stays as it is, and nothing more is done."""


class Dying(MemoryFileSystem):
    """The store in memory, in the hands of a program that is killed before its n-th change."""

    protocol = "dying"
    cachable = False
    left = 0

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.replace("dying://", "memory://"))

    def _change(self):
        Dying.left -= 1
        if Dying.left < 0:
            raise Killed

    def put_file(self, *args, **kwargs):
        self._change()
        return super().put_file(*args, **kwargs)

    def pipe_file(self, *args, **kwargs):
        self._change()
        return super().pipe_file(*args, **kwargs)

    def rm_file(self, *args, **kwargs):
        self._change()
        return super().rm_file(*args, **kwargs)

    def rm(self, *args, **kwargs):
        self._change()
        return super().rm(*args, **kwargs)

    def cat_file(self, *args, **kwargs):
        if Dying.left < 0:
            raise Killed
        return super().cat_file(*args, **kwargs)


fsspec.register_implementation("dying", Dying, clobber=True)


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


def test_an_address_that_cannot_be_used():
    with pytest.raises(ValueError) as error:
        Checkpoints("no-such-store://run")
    assert str(error.value) == (
        "there can be no checkpoints in no-such-store://run: Protocol not known: no-such-store."
    )
    with pytest.raises(ValueError) as error:
        Checkpoints(Path("s3://bucket/run"))
    assert str(error.value) == (
        "s3:/bucket/run is a path that was an address: it has lost a slash. Give the text itself."
    )


@pytest.fixture(scope="module")
def server():
    """The environment for a real S3 server on this machine."""
    pytest.importorskip("moto")
    pytest.importorskip("s3fs")
    port = processes.free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        address = f"http://127.0.0.1:{port}"
        while running.poll() is None:
            with contextlib.suppress(urllib.error.URLError):
                urllib.request.urlopen(address).close()
                break
        yield {
            "AWS_ENDPOINT_URL": address,
            "AWS_ACCESS_KEY_ID": "any",
            "AWS_SECRET_ACCESS_KEY": "any",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        running.kill()


def test_one_process_and_two_share_an_s3_server(server, tmp_path):
    script = Path(__file__).with_name("object_store_saves.py")
    two, one = "s3://bucket/runs/two", "s3://bucket/one"
    both = processes.succeed(script, 2, tmp_path / "2", devices=2, environment=server, arguments=[2, two])
    alone = processes.succeed(
        script, 1, tmp_path / "1", devices=4, environment=server, arguments=[1, one, two]
    )
    seen = [json.loads(output.splitlines()[-1]) for output in (*both, *alone)]
    assert [each["steps"] for each in seen] == [[[1, 3], 3], [[1, 3], 3], [[3], 3]]
    why = "The specified bucket does not exist\nNo checkpoint is there."
    assert [each["refused"] for each in seen] == [
        f"step 1 was not saved in s3://nowhere/run: FileNotFoundError: {other}{why} See to its space and "
        "permissions, then save again."
        for other in ("", "process 0: ", "")
    ]
    assert {name.split("/")[0] for name in seen[2]["objects"]} == {"step-3-save-1"}
    kept = [name.split("/") for name in seen[0]["objects"]]
    assert {name[0] for name in kept} == {"step-1-save-1", "step-3-save-3"}
    assert {tuple(name[1:]) for name in kept if len(name) < 4} == {("digest.json",), ("arrays", "_METADATA")}
