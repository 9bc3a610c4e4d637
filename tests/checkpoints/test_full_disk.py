"""A disk that takes no more, and a directory that cannot be written."""

import asyncio
import gc
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from fourbeat.checkpoints import CheckpointError, Checkpoints, messages, stored_arrays
from fourbeat.distributed import PeerError

TREE = {"w": np.random.default_rng(0).standard_normal(100_000)}
SMALL = {"w": np.zeros(1)}
ADVICE = "See to its space and permissions, then save again."
LIMIT_ADVICE = "Raise the limit on the size of a file (`ulimit -f`), then save again."


def named_file(text):
    """The text before a path between quotes, the path, and the text after it."""
    before, where, after = text.split("'", 2)
    return before, Path(where), after


@contextmanager
def files_end_at(size_bytes):
    """As on a full disk, writing fails in the middle of a file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def as_another_user():
    """Root may write everywhere: so the user `nobody` takes its place."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def readable_by_all():
    path = Path(tempfile.mkdtemp())
    path.chmod(0o755)
    yield path
    path.chmod(0o755)
    shutil.rmtree(path)


@pytest.mark.parametrize("asynchronous", [True, False])
def test_a_disk_that_takes_no_more(asynchronous, tmp_path):
    checkpoints = Checkpoints(tmp_path, asynchronous=asynchronous)
    checkpoints.save(1, TREE)
    checkpoints.wait()

    def save():
        with files_end_at(100_000):
            checkpoints.save(2, TREE)
            checkpoints.wait()

    with pytest.raises(CheckpointError) as error:
        save()
    why, where, rest = named_file(str(error.value))
    assert why == f"step 2 was not saved in {tmp_path}: OSError: [Errno 27] File too large: "
    assert where.is_relative_to(tmp_path / "step-2-save-2.saving") and where.name
    assert rest == f"\nThe newest whole one is of step 1. {LIMIT_ADVICE}"
    assert os.listdir(tmp_path) == ["step-1-save-1"], "what was begun makes room again"
    np.testing.assert_array_equal(checkpoints.restore(TREE)["w"], TREE["w"])
    checkpoints.save(3, TREE)
    checkpoints.close()
    assert checkpoints.steps == (3,)


def test_a_digest_that_does_not_fit(tmp_path):
    """The last file to be written is small; without it there is no checkpoint either."""
    tree = {f"{'name' * 20}{i}": np.zeros(0) for i in range(200)}
    checkpoints = Checkpoints(tmp_path, asynchronous=False)
    with pytest.raises(CheckpointError) as error, files_end_at(10_000):
        checkpoints.save(1, tree)
    assert str(error.value) == (
        f"step 1 was not saved in {tmp_path}: OSError: [Errno 27] File too large: "
        f"'{tmp_path}/step-1-save-1.saving/digest.json'\nNo checkpoint is there. {LIMIT_ADVICE}"
    )
    assert os.listdir(tmp_path) == []


def test_a_directory_that_cannot_be_written(readable_by_all):
    directory = readable_by_all
    checkpoints = Checkpoints(directory)
    checkpoints.save(1, SMALL)
    checkpoints.wait()
    directory.chmod(0o555)
    with as_another_user():
        with pytest.raises(ValueError) as error:
            Checkpoints(directory / "new")
        assert str(error.value) == (
            f"there can be no checkpoints in {directory}/new: {directory} cannot be written."
        )
        checkpoints.save(2, SMALL)
        with pytest.raises(CheckpointError) as error:
            checkpoints.close()
        assert checkpoints.restore(SMALL) == SMALL, "reading is allowed"
    assert str(error.value) == (
        f"step 2 was not saved in {directory}: PermissionError: [Errno 13] Permission denied: "
        f"'{directory}/step-2-save-2.saving'\nThe newest whole one is of step 1. {ADVICE}"
    )


def test_old_ones_that_cannot_be_removed(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, SMALL)
        checkpoints.wait()
        (tmp_path / "step-1-save-1.removing").touch()
        checkpoints.save(2, SMALL)
        with pytest.raises(CheckpointError) as error:
            checkpoints.wait()
    assert str(error.value).startswith(
        f"step 2 is saved in {tmp_path}, but an older one cannot be removed: "
        "NotADirectoryError: [Errno 20] Not a directory:"
    )
    assert str(error.value).endswith("\nMake the directory writable, then save again.")
    assert checkpoints.restore(SMALL, step=2) == SMALL


def test_a_file_where_the_directory_should_be(tmp_path):
    (tmp_path / "file").touch()
    for directory in (tmp_path / "file", tmp_path / "file" / "deeper"):
        with pytest.raises(ValueError) as error:
            Checkpoints(directory)
        assert str(error.value) == f"there can be no checkpoints in {directory}: {tmp_path}/file is a file."


def test_a_full_disk_is_named_among_what_tensorstore_says():
    error = ValueError("RESOURCE_EXHAUSTED: Error writing \"leaf_0/c/0\": failed [os_error_code='28'] [more]")
    assert messages.in_a_line(error) == "OSError: [Errno 28] No space left on device"
    error = ValueError(
        'at file "/a/b/": writing "leaf_0" to "/a/b/d/1": failed [os_error_code=\'28\'] [more]'
    )
    assert messages.in_a_line(error) == "OSError: [Errno 28] No space left on device: '/a/b/d/1'"
    assert messages.in_a_line(ValueError("a\nb")) == "ValueError: a"
    assert messages.in_a_line(ValueError("x" * 300)) == "ValueError: " + "x" * 240 + " ..."


MANY_LEAVES = """
import gc, resource, sys, numpy
from fourbeat.checkpoints import CheckpointError, Checkpoints
tree = {f"w{i}": numpy.random.default_rng(i).standard_normal(100_000) for i in range(12)}
checkpoints = Checkpoints(sys.argv[1])
checkpoints.save(1, tree)
checkpoints.wait()
unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
for _ in range(3):
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, unlimited[1]))
    try:
        checkpoints.save(2, tree)
        checkpoints.wait()
    except CheckpointError as error:
        print(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
gc.collect()
checkpoints.save(3, tree)
checkpoints.close()
"""


def test_a_failure_is_one_error_however_many_leaves_there_are(tmp_path):
    """What Orbax leaves running for the other leaves prints nothing of its own."""
    command = [sys.executable, "-W", "error", "-c", MANY_LEAVES, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    text = (
        rf"step 2 was not saved in {tmp_path}: OSError: \[Errno 27\] File too large: "
        rf"'{tmp_path}/step-2-\S+'\n"
        rf"The newest whole one is of step 1. {re.escape(LIMIT_ADVICE)}\n"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(f"({text}){{3}}", done.stdout), done.stdout
    assert Checkpoints(tmp_path).steps == (3,)


def test_a_process_that_is_lost_is_no_fault_of_the_disk():
    lost = PeerError("process 1 of 2 did not come")
    told = "step 3 was not saved: PeerError: process 1 of 2 did not come"
    assert messages.not_saved("run", 3, lost, 2) == told


def test_a_task_that_orbax_left_is_not_reported_and_one_of_the_users_is(caplog):
    from orbax.checkpoint._src.serialization.type_handlers import NumpyHandler

    async def of_the_user():
        raise ValueError("of the user")

    async def leave_both():
        both = NumpyHandler._open_and_write(*4 * [None]), of_the_user()
        left = [asyncio.ensure_future(each) for each in both]
        await asyncio.sleep(0)
        del left
        await asyncio.sleep(0)

    stored_arrays._hide_strays()
    asyncio.run(leave_both())
    gc.collect()
    [told] = [record.getMessage() for record in caplog.records if "never retrieved" in record.getMessage()]
    assert "of_the_user" in told
