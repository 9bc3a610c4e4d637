"""Several Checkpoints in one process: in threads, in one directory, beside a restore, beside Orbax itself."""

import os
import signal
import subprocess
import sys
import threading

import jax.numpy as jnp
import numpy as np
import pytest

from fourbeat.checkpoints import Checkpoints
from fourbeat.checkpoints.folders import entries


def tree_of(name, step):
    """Values that say whose they are, and of which step."""
    return {"whose": np.full(9, ord(name[0]), np.int32), "step": jnp.full((3, 5), step), "of": step}


def check(directory, step):
    restored = Checkpoints(directory).restore(tree_of("x", 0), step=step)
    expected = tree_of(directory.name, step)
    for name, value in expected.items():
        np.testing.assert_array_equal(restored[name], value)


def in_threads(*bodies):
    failures = []

    def attempt(body):
        try:
            body()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=attempt, args=(body,)) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_each_save_of_two_that_take_turns_can_be_restored(tmp_path):
    """A GAN's: each writes in the background while the other's save begins."""
    names = ("generator", "critic")
    generator, critic = (Checkpoints(tmp_path / name, keep_last=None) for name in names)
    with generator, critic:
        for step in range(30):
            generator.save(step, tree_of("generator", step))
            critic.save(step, tree_of("critic", step))
    assert generator.steps == critic.steps == tuple(range(30))
    for name in names:
        for step in range(30):
            check(tmp_path / name, step)


def test_a_teacher_is_restored_while_students_save(tmp_path):
    with Checkpoints(tmp_path / "teacher") as teacher:
        teacher.save(7, tree_of("teacher", 7))

    def student(name):
        with Checkpoints(tmp_path / name) as checkpoints:
            for step in range(15):
                checkpoints.save(step, tree_of(name, step))
                checkpoints.wait()
                check(tmp_path / name, step)

    def teach():
        for _ in range(20):
            check(tmp_path / "teacher", 7)

    in_threads(lambda: student("a"), lambda: student("b"), teach)


def test_one_object_serves_threads(tmp_path):
    with Checkpoints(tmp_path / "run", keep_last=None) as checkpoints:

        def save(steps):
            for step in steps:
                checkpoints.save(step, tree_of("run", step))

        in_threads(lambda: save(range(0, 20, 2)), lambda: save(range(1, 20, 2)))
    assert checkpoints.steps == tuple(range(20))
    for step in range(20):
        check(tmp_path / "run", step)


def test_two_of_one_directory_do_not_take_each_other_s_for_left_behind(tmp_path):
    """What one is writing, the first save of another must not clean away; no two get one name."""

    def save(step):
        with Checkpoints(tmp_path / "run", keep_last=None) as checkpoints:
            checkpoints.save(step, tree_of("run", step))

    for first in range(0, 16, 4):
        in_threads(*(lambda step=step: save(step) for step in range(first, first + 4)))
    found = entries(tmp_path / "run")
    assert [entry.save for entry in found] == list(range(1, 17))
    assert sorted(entry.step for entry in found) == list(range(16))
    for step in range(16):
        check(tmp_path / "run", step)


def run(program, *arguments):
    command = [sys.executable, "-W", "error", "-c", program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


TWO = """
import sys, numpy
from fourbeat.checkpoints import CheckpointError, Checkpoints
a, b = (Checkpoints(f"{sys.argv[1]}/{name}") for name in "ab")
for step in range(1, 16):
    a.save(step, {"w": numpy.ones(9)})
    b.save(step, {"w": numpy.ones(9)})
b.wait()
open(f"{sys.argv[1]}/b/step-16-save-16.saving", "w").close()
b.save(16, {"w": numpy.ones(9)})
try:
    b.wait()
except CheckpointError as error:
    print("refused")
"""


def test_no_work_of_orbax_is_left_undone(tmp_path):
    """A coroutine that was never awaited would warn."""
    done = run(TWO, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "refused\n", "")
    assert (Checkpoints(tmp_path / "a").steps, Checkpoints(tmp_path / "b").steps) == ((15,), (15,))


LAST_LINE = """
import sys, numpy
from fourbeat.checkpoints import Checkpoints
for name in sys.argv[2:]:
    Checkpoints(f"{sys.argv[1]}/{name}").save(1, {"w": numpy.full(300_000, 2.0)})
"""


@pytest.mark.parametrize("names", ["a", "ab"])
def test_a_save_in_the_last_line_of_a_program_is_written(names, tmp_path):
    done = run(LAST_LINE, tmp_path, *names)
    assert (done.returncode, done.stderr) == (0, "")
    for name in names:
        restored = Checkpoints(tmp_path / name).restore({"w": np.zeros(300_000)})
        np.testing.assert_array_equal(restored["w"], np.full(300_000, 2.0))


BESIDE_ORBAX = """
import sys, threading, numpy
from orbax.checkpoint import v1 as ocp
from fourbeat.checkpoints import Checkpoints
done = threading.Event()
def theirs():
    for i in range(1000):
        if not done.is_set():
            try:
                ocp.save(f"{sys.argv[1]}/theirs-{i}", {"w": numpy.ones(3)})
            except Exception:
                pass
thread = threading.Thread(target=theirs)
thread.start()
try:
    with Checkpoints(sys.argv[1] + "/ours", keep_last=None) as checkpoints:
        for step in range(20):
            checkpoints.save(step, {"w": numpy.full(9, step)})
finally:
    done.set()
    thread.join()
"""


def test_orbax_used_by_others_at_the_same_time_does_not_break_ours(tmp_path):
    """Theirs may fail among themselves, and says so: Orbax's default is not made for two calls at once."""
    done = run(BESIDE_ORBAX, tmp_path)
    assert done.returncode == 0, done.stderr
    ours = Checkpoints(tmp_path / "ours")
    for step in range(20):
        np.testing.assert_array_equal(ours.restore({"w": np.zeros(9, int)}, step=step)["w"], step)


DROPPED = """
import gc, os, sys, numpy
from fourbeat.checkpoints import Checkpoints
os.mkdir(sys.argv[1] + "/run")
open(sys.argv[1] + "/run/step-1-save-1.saving", "w").close()
Checkpoints(sys.argv[1] + "/run").save(1, {"w": numpy.ones(9)})
gc.collect()
"""


def test_the_failure_of_one_that_nobody_holds_is_told(tmp_path):
    done = run(DROPPED, tmp_path)
    assert done.returncode == 0
    assert done.stderr == (
        f"fourbeat: step 1 was not saved in {tmp_path}/run: FileExistsError: [Errno 17] File exists: "
        f"'{tmp_path}/run/step-1-save-1.saving'\n"
        "No checkpoint is there. See to its space and permissions, then save again.\n"
    )


FORKED = """
import os, sys, warnings, numpy
from fourbeat.checkpoints import CheckpointError, Checkpoints
warnings.simplefilter("ignore")  # JAX warns of every fork
tree = {"w": numpy.ones(9)}
first = Checkpoints(sys.argv[1] + "/first")
child = os.fork()  # before anything was saved: as good as a new process
if child == 0:
    with Checkpoints(sys.argv[1] + "/child") as checkpoints:
        checkpoints.save(1, tree)
        checkpoints.restore(tree)
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
first.save(1, tree)
child = os.fork()  # while the save is being written
if child == 0:
    for call in (lambda: first.save(2, tree), lambda: first.restore(tree),
                 lambda: Checkpoints(sys.argv[1] + "/other").save(1, tree)):
        try:
            call()
        except CheckpointError as error:
            print(error, flush=True)
    first.close()
    os._exit(0)
first.wait()
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_fork_is_refused_where_it_cannot_work(tmp_path):
    done = run(FORKED, tmp_path)
    text = (
        "nothing can be saved or restored here: this process was forked from one that had done so, and the "
        "threads that do it stayed there. Fork before the first save, or start the process with "
        "multiprocessing.get_context('spawn').\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, 3 * text, "")
    assert Checkpoints(tmp_path / "first").steps == Checkpoints(tmp_path / "child").steps == (1,)
    assert not os.path.exists(tmp_path / "other")


INTERRUPTED = """
import os, signal, sys, numpy
from fourbeat.checkpoints import Checkpoints
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job starts with it ignored
checkpoints = Checkpoints(sys.argv[1])
with checkpoints:
    checkpoints.save(1, {"w": numpy.full(300_000, 2.0)})
    os.kill(os.getpid(), signal.SIGINT)
    checkpoints.wait()
"""


def test_ctrl_c_during_a_save_still_leaves_it_whole(tmp_path):
    done = run(INTERRUPTED, tmp_path)
    assert done.returncode == -signal.SIGINT and done.stderr.endswith("KeyboardInterrupt\n")
    assert Checkpoints(tmp_path).steps == (1,)
