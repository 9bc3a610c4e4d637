"""Saves again and again in processes that are killed with SIGKILL, for test_killed.py.

    python killed_saves.py DIRECTORY NUM_RANDOM NUM_EVENTS

Each process is a fork of this one, which imports everything once. It resumes from the newest checkpoint,
saves step after step, and writes to a pipe the steps that are on disk for certain. It is killed after a
random time, or at the n-th change that it makes on the disk, for every odd n.
"""

import os
import random
import select
import signal
import sys
import warnings
from pathlib import Path

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from fourbeat.checkpoints import Checkpoints

CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree"}


def make_tree(step):
    values = np.random.default_rng(step).standard_normal(3000)
    return {"step": step, "w": values, "more": [values[:7].astype(np.float32), np.int32(step)]}


def check_tree(tree, at_least):
    expected = make_tree(tree["step"])
    for leaf, other in zip(jax.tree.leaves(tree), jax.tree.leaves(expected), strict=True):
        assert np.asarray(leaf).tobytes() == np.asarray(other).tobytes()
    assert tree["step"] >= at_least, f"step {at_least} was saved, and {tree['step']} is the newest"


def kill_at(event_number, directory):
    """Kills this process at its n-th change of the directory."""
    left = [event_number]

    def hook(event, arguments):
        writes = event == "open" and str(arguments[0]).startswith(directory) and "w" in str(arguments[1])
        if writes or event in CHANGES:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def make_checkpoints(directory):
    best = {"up": ("max", 2), "down": ("min", 1)}
    return Checkpoints(directory, keep_every=7, keep_seconds=1e9, best=best)


def scores_of(step):
    return {"up": -float(step % 5), "down": float(step * 7 % 11)}


def kept_by_hand(last):
    """What stays of the steps 1 to `last`."""
    steps = range(1, last + 1)
    up = sorted(steps, key=lambda step: -scores_of(step)["up"])[:2]
    down = sorted(steps, key=lambda step: scores_of(step)["down"])[:1]
    return tuple(sorted({1, last, *up, *down, *(step for step in steps if step % 7 == 0)}))


def save_for_ever(directory, report, event_number, at_least):
    warnings.simplefilter("error")  # none that is there may be damaged
    with make_checkpoints(directory) as checkpoints:
        tree = checkpoints.restore_or(make_tree(0))
        check_tree(tree, at_least)
        os.write(report, b"resumed\n")
        if event_number is not None:
            kill_at(event_number, directory)
        for step in range(tree["step"] + 1, tree["step"] + 1000):
            checkpoints.save(step, make_tree(step), score=scores_of(step))
            if step % 2:
                checkpoints.wait()
                os.write(report, f"{step}\n".encode())


def run_killed(directory, *, seconds=None, event_number=None, at_least=0):
    """Returns the last step that the process reported as saved before it was killed."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            save_for_ever(directory, writing, event_number, at_least)
        except BaseException as error:
            os.write(writing, f"failed: {error!r}\n".encode())
        os._exit(1)
    os.close(writing)
    text = b""
    while not text.startswith((b"resumed", b"failed")):
        text += os.read(reading, 1000)
    if seconds is not None:
        select.select([], [], [], seconds)
        os.kill(child, signal.SIGKILL)
    while more := os.read(reading, 1000):
        text += more
    _, status = os.waitpid(child, 0)
    os.close(reading)
    lines = text.decode().split()
    assert lines[0] == "resumed" and os.WTERMSIG(status) == signal.SIGKILL, text.decode()
    return max([at_least, *map(int, lines[1:])])


def main(directory, num_random, num_events):
    Path(directory).mkdir(parents=True, exist_ok=True)
    assert ocp, "imported before the first fork"
    moments = random.Random(0)
    plan = [{"seconds": moments.uniform(0.0, 1.0)} for _ in range(num_random)]
    plan += [{"event_number": number} for number in range(1, 2 * num_events, 2)]
    saved = in_a_save = 0
    for moment in plan:
        saved = run_killed(directory, at_least=saved, **moment)
        in_a_save += any(path.suffix in (".saving", ".removing") for path in Path(directory).iterdir())
    with make_checkpoints(directory) as checkpoints:
        tree = checkpoints.restore(make_tree(0))
        check_tree(tree, saved)
        last = tree["step"] + 1
        checkpoints.save(last, make_tree(last), score=scores_of(last))
    assert checkpoints.steps == kept_by_hand(last), (checkpoints.steps, kept_by_hand(last))
    print(f"{len(plan)} kills, {in_a_save} in the middle of a save, newest step {saved}, nothing lost")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
