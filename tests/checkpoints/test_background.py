"""A failure in the background comes back at the next call, once."""

import subprocess
import sys

import pytest

from fourbeat.checkpoints import CheckpointError, Checkpoints

CALLS = {
    "save": lambda c: c.save(3, {"a": 3}),
    "restore": lambda c: c.restore({"a": 0}),
    "restore_or": lambda c: c.restore_or({"a": 0}),
    "wait": lambda c: c.wait(),
    "close": lambda c: c.close(),
    "leaving the with": lambda c: c.__exit__(None, None, None),
}


@pytest.fixture
def failing(tmp_path):
    """Checkpoints of which step 2 could not be written: its name is taken."""
    checkpoints = Checkpoints(tmp_path, keep_last=None)
    checkpoints.save(1, {"a": 1})
    checkpoints.wait()
    (tmp_path / "step-2-save-2.saving").write_text("in the way")
    checkpoints.save(2, {"a": 2})
    return checkpoints


@pytest.mark.parametrize("call", CALLS)
def test_a_failure_is_raised_at_the_next_call(call, failing, tmp_path):
    with pytest.raises(CheckpointError) as error:
        CALLS[call](failing)
    assert str(error.value) == (
        f"step 2 was not saved in {tmp_path}: FileExistsError: [Errno 17] File exists: "
        f"'{tmp_path}/step-2-save-2.saving'\n"
        "The newest whole one is of step 1. See to its space and permissions, then save again."
    )
    assert failing.steps == (1,)
    failing.wait()  # raised once
    if call in ("save", "restore", "restore_or", "wait"):
        failing.save(5, {"a": 5})
        failing.close()
        assert failing.steps == (1, 5)


def test_a_failure_does_not_hide_the_error_of_the_body(failing):
    with pytest.raises(ZeroDivisionError) as error, failing:
        raise ZeroDivisionError("of the body")
    assert "step 2 was not saved" in error.value.__notes__[0]


def test_asynchronous_false_raises_at_the_call(tmp_path):
    checkpoints = Checkpoints(tmp_path, asynchronous=False)
    checkpoints.save(1, {"a": 1})
    assert checkpoints.latest == 1
    (tmp_path / "step-2-save-2.saving").write_text("in the way")
    with pytest.raises(CheckpointError, match="step 2 was not saved"):
        checkpoints.save(2, {"a": 2})
    assert checkpoints.latest == 1


def test_leaving_by_an_error_still_saves(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, {"a": 1})
    with pytest.raises(KeyboardInterrupt), checkpoints:
        raise KeyboardInterrupt
    assert checkpoints.steps == (1,)


PROGRAM = """
import sys, numpy
from fourbeat.checkpoints import Checkpoints
assert not any(name.startswith("orbax") for name in sys.modules), "the import is light"
checkpoints = Checkpoints(sys.argv[1])
checkpoints.save(1, {"a": numpy.ones(3)})
open(sys.argv[1] + "/step-2-save-2.saving", "w").close()
checkpoints.wait()
checkpoints.save(2, {"a": numpy.ones(3)})
"""


def test_a_program_that_ends_without_waiting_is_told(tmp_path):
    command = [sys.executable, "-W", "error", "-c", PROGRAM, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stderr.startswith(f"fourbeat: step 2 was not saved in {tmp_path}: FileExistsError")
    assert Checkpoints(tmp_path).steps == (1,)
