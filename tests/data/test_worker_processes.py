"""Processes read the same batches as no process, name what fails, and end with the loop."""

import importlib.machinery
import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import types

import cloudpickle
import numpy as np
import pytest

import fourbeat as fb
from fourbeat.data import ExampleError, Examples
from fourbeat.data.worker_processes import WorkerProcesses
from tests.data.leftovers import assert_nothing_runs_on

pytest.importorskip("grain")

NUM = 23


class Numbers:
    """Images of their numbers; it is sent to the processes, as it is of no module that they could import."""

    def __len__(self):
        return NUM

    def __getitem__(self, number):
        return np.full((2, 2), number, np.uint8), number


def named(example):
    image, number = example
    if number == 7:
        raise OSError("image file is truncated")
    return {"image": image, "number": number, "name": f"n{number}"}


def assert_holds(batch, numbers):
    assert np.asarray(batch["number"]).tolist() == numbers
    assert np.asarray(batch["image"]).dtype == np.uint8
    assert np.array_equal(
        batch["image"], np.broadcast_to(np.array(numbers)[:, None, None], (len(numbers), 2, 2))
    )


def test_a_run_goes_on_in_the_second_epoch_names_a_killed_process_and_leaves_none():
    whole = Examples(Numbers(), named)[np.delete(np.arange(NUM), 7)]
    batches = whole.batches(2, shuffle=True, seed=1, processes=2)
    wanted = whole.batches(2, shuffle=True, seed=1)
    start, end = len(batches) + 4, 3 * len(batches)
    before, threads = set(multiprocessing.active_children()), set(threading.enumerate())
    seen = [wanted[step]["number"].tolist() for step in range(start)]

    def run():
        for tick in fb.loop(batches, start=start, until=fb.at(steps=10_000)):
            assert tick.step == len(seen) + 1
            assert_holds(tick.batch, wanted[tick.step - 1]["number"].tolist())
            seen.append(tick.batch["number"].tolist())
            assert tick.batch.texts["name"].tolist() == [f"n{number}" for number in seen[-1]]
            if tick.step == end:
                children = set(multiprocessing.active_children()) - before
                assert len(children) == 2
                for child in children:
                    os.kill(child.pid, signal.SIGKILL)

    with pytest.raises(RuntimeError) as caught:
        run()
    for begin in range(0, end, len(batches)):
        numbers = itertools.chain(*seen[begin : begin + len(batches)])
        assert sorted(numbers) == np.delete(np.arange(NUM), 7).tolist()
    assert str(caught.value) == (
        "a process that reads the Numbers has ended: Worker process was terminated unexpectedly with exit "
        "code -9. "
        "Search the logs above for the source of the crash. Often the system kills one that takes too much "
        "memory: use fewer processes, or threads, batches(..., workers=2)."
    )
    assert set(multiprocessing.active_children()) <= before
    assert_nothing_runs_on(threads)


def test_blocks_and_a_broken_example_come_out_of_a_process():
    batches = Examples(Numbers(), named).batches(2, processes=1)
    before = set(multiprocessing.active_children())

    def run():
        with batches.reading(0) as ahead:
            assert_holds(ahead.batch(0).columns, [0, 1])
            block, num_steps = ahead.block(1, 2, 3)
            assert num_steps == 2
            assert [np.asarray(block.take(i)["number"]).tolist() for i in range(2)] == [[2, 3], [4, 5]]
            ahead.batch(3)

    with pytest.raises(ExampleError) as caught:
        run()
    assert str(caught.value) == (
        "example 7 of the Numbers: cannot decode it: OSError: image file is truncated. Mend it, or leave "
        "it out by "
        "its place: data[np.delete(np.arange(len(data)), place)]."
    )
    assert (caught.value.number, caught.value.source) == (7, "the Numbers")
    assert set(multiprocessing.active_children()) <= before
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("fourbeat-reads")]


REFUSED = {
    "both": (
        {"workers": 2, "processes": 1},
        "workers=2 are threads, and processes=1 are named beside them: choose one of the two.",
    ),
    "below 0": ({"processes": -1}, "processes is -1; expected a number of them, 0 for none."),
    "ahead": (
        {"processes": 2, "ahead": 0},
        "ahead is 0 with processes=2; expected at least 1 with workers, and none without.",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_numbers_that_make_no_sense_are_refused(kind):
    options, text = REFUSED[kind]
    with pytest.raises(ValueError) as caught:
        Examples(Numbers(), named).batches(2, **options)
    assert str(caught.value) == text


def test_without_grain_the_repair_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "grain", None)
    with pytest.raises(ImportError) as caught:
        Examples(Numbers(), named).batches(2, processes=2)
    assert str(caught.value) == "batches(processes=2) needs Grain: pip install 'fourbeat[grain]'"


def test_what_cannot_travel_is_refused():
    lock = threading.Lock()

    def guarded(example):
        with lock:
            return named(example)

    batches = Examples(Numbers(), guarded).batches(2, processes=2)
    with pytest.raises(TypeError) as caught:
        next(iter(batches))
    assert str(caught.value) == (
        "cannot send the Numbers to other processes: TypeError: cannot pickle '_thread.lock' object. What "
        "the source "
        "and decode hold must be picklable: open files and connections where they are read, or use threads: "
        "batches(..., workers=2)."
    )


def test_a_script_that_would_begin_its_run_again_is_refused(tmp_path, monkeypatch):
    script, main = tmp_path / "train.py", types.ModuleType("__main__")
    script.write_text("import fourbeat as fb\n")
    main.__file__, main.__spec__ = str(script), importlib.machinery.ModuleSpec("train", None)
    monkeypatch.setitem(sys.modules, "__main__", main)
    with pytest.raises(RuntimeError) as caught:
        next(iter(fb.loop(Examples(Numbers(), named).batches(2, processes=2), until=fb.at(steps=2))))
    assert str(caught.value) == (
        f"batches(processes=2) starts processes that import {script}, and it would begin its "
        f"run "
        'again in each of them. Put what runs into a function and call it under\nif __name__ == "__main__":\n'
        "    main()"
    )


SCRIPT = """
import os, signal
import fourbeat as fb

def decode(number):
    return {"number": number}

if __name__ == "__main__":
    for tick in fb.loop(fb.data.Examples(range(8), decode).batches(2, processes=1), until=fb.at(steps=9)):
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_processes_end_where_the_one_with_the_loop_is_killed(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    # its output ends only once no process is left that could write to it
    ran = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stdout) == (-signal.SIGKILL, "") and "Traceback" not in ran.stderr


def test_what_processes_share_goes_on_from_every_step_of_two_epochs():
    batches = Examples(Numbers(), lambda pair: {"image": pair[0], "number": pair[1]}).batches(
        4, shuffle=True, seed=1, processes=2
    )
    num_steps = 2 * len(batches)
    wanted = [batches[step]["number"].tolist() for step in range(num_steps)]
    processes = WorkerProcesses(batches.step_reader, "the Numbers", num_steps, number=2, ahead=4)
    for start in range(num_steps):
        sent = cloudpickle.loads(cloudpickle.dumps(processes.pipeline(start)))
        read = [columns for columns, _ in sent]
        assert [columns["number"].tolist() for columns in read] == wanted[start:]
        assert all(columns["image"][0, 0, 0] == columns["number"][0] for columns in read)
