"""A run in an object store: whole or absent, written by one process, read by every command."""

import contextlib
import dataclasses
import functools
import json
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fourbeat as fb
from fourbeat.cli import main
from fourbeat.recipes.telling import print_json, say_run
from fourbeat.recipes.trained import Trained
from fourbeat.runs import Run, RunDirectory, copies, lease
from fourbeat.runs.naming import runs_below
from fourbeat.stores.store import Store, StoreError
from tests.distributed import processes
from tests.stores import s3_server
from tests.stores.dying import Dying, Killed, MemoryFileSystem, Stopped

RUN = "memory://bucket/runs/a"


@dataclasses.dataclass(frozen=True)
class Config:
    out: str | Path
    steps: int = 4
    resume: str | None = None


beats = fb.four_beats(lambda model, batch: (model["w"] * batch["x"] - 1) ** 2, optax.adam(0.1))
step = fb.compile(beats.train_step)
batches = fb.data.Arrays(x=np.linspace(0.0, 1.0, 12, dtype=np.float32)).batches(2, shuffle=True, seed=3)


def train(config):
    state = beats.init({"w": jnp.zeros(())})
    with RunDirectory.open("a-line", config, score="loss", mode="min") as run:
        state = run.restore(state)
        (run.path / "notes.txt").write_text("of the user")
        for tick in run.loop(batches, start=state.step, save=fb.every(steps=2)):
            state, logs = step(state, tick.batch)
            run.log(tick.step, {"loss": logs["loss"]})
            run.save(tick, state)
        if run.is_complete:
            run.finish({"loss": 0.0})
    return run, [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(state)]


@pytest.fixture
def memory(monkeypatch):
    """A store in memory, and a lock in it that is soon known to be left behind, and renewed by hand."""
    monkeypatch.setattr(lease, "SILENT_S", 0.02)
    monkeypatch.setattr(lease, "RENEWED_EVERY_S", 1_000.0)
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]
    yield MemoryFileSystem()
    MemoryFileSystem.store.clear()
    for path in copies._copies:  # those of runs that were killed
        copies.let_go(path)


def names(memory):
    """Of the objects of the run but those of checkpoints."""
    return {path.split("/", 4)[-1] for path in memory.store if "/checkpoints/" not in path}


def test_a_run_lies_there_whole_and_goes_on_as_on_a_disk(memory, tmp_path):
    on_disk, expected = train(Config(tmp_path / "run", steps=6))
    run, _ = train(Config(RUN))
    assert run.name == RUN and run.saved_step == 4
    assert names(memory) == {"config.json", "metrics.jsonl", "summary.json", "result.json", "notes.txt"}
    again, state = train(Config(Path(RUN), steps=6, resume="latest"))
    assert state == expected and not again.is_new and again.path != run.path
    assert memory.cat("/bucket/runs/a/metrics.jsonl") == (on_disk.path / "metrics.jsonl").read_bytes()
    assert json.loads(memory.cat("/bucket/runs/a/summary.json"))["state"] == "finished"
    with pytest.raises(ValueError) as caught:
        train(Config(RUN))
    assert str(caught.value) == (
        f"{RUN} holds a run already. Choose another --out, or go on with --resume latest."
    )


def test_a_kill_before_any_change_loses_nothing_that_a_checkpoint_has(memory, tmp_path):
    on_disk, expected = train(Config(tmp_path / "run"))
    is_killed, resumed, dies_after = True, set(), 0
    while is_killed:
        memory.store.clear()
        Dying.left, is_killed = dies_after, False
        try:
            train(Config(RUN.replace("memory", "dying")))
        except Killed:
            is_killed = True
        run, state = train(Config(RUN, resume="latest"))
        assert state == expected
        assert memory.cat("/bucket/runs/a/metrics.jsonl") == (on_disk.path / "metrics.jsonl").read_bytes()
        assert json.loads(memory.cat("/bucket/runs/a/result.json")) == {"loss": 0.0}
        assert run.saved_step == 4
        resumed.add(run.is_new)
        dies_after += 5
    assert resumed == {True, False} and dies_after > 30


def test_two_processes_do_not_write_one_run(memory, capsys, monkeypatch):
    first = RunDirectory.open("a-line", Config(RUN))
    lock = json.loads(memory.cat("/bucket/runs/a/lock"))

    def renew():  # as the thread of the first does
        while not is_over.wait(0.005):
            memory.pipe("/bucket/runs/a/lock", json.dumps(lock | {"renewed": time.time()}).encode())

    monkeypatch.setattr(lease, "SILENT_S", 2.0)
    is_over, renewing = threading.Event(), threading.Thread(target=renew)
    renewing.start()
    with pytest.raises(ValueError) as caught:
        RunDirectory.open("a-line", Config(RUN, resume="latest"))
    is_over.set()
    renewing.join()
    who = f"process {lock['process']} on {lock['host']}"
    assert str(caught.value) == (
        f"another process ({who}) is writing the run {RUN}. Wait for it, stop it, or choose another --out."
    )
    assert capsys.readouterr().err == f"waiting 2 s whether {who} still writes the run {RUN}\n"

    monkeypatch.setattr(lease, "SILENT_S", 0.02)
    second = RunDirectory.open("a-line", Config(RUN, resume="latest"))  # the first is silent now
    second.log(1, {"loss": 0.5})
    first.log(1, {"loss": 9.0})
    with pytest.raises(StoreError) as lost:
        first.close()
    assert str(lost.value) == (
        f"the run {RUN} is not this process's any more: its object 'lock' was not renewed for 0.02 s, and "
        f"{who} has it. Nothing more is written to it. What was not copied yet lies in {first.path}."
    )
    second.close()
    assert json.loads(memory.cat("/bucket/runs/a/metrics.jsonl"))["loss"] == 0.5
    assert "lock" not in names(memory)


def test_a_lock_that_took_long_to_read_is_not_written(memory, monkeypatch):
    held, read = lease.Lease(Store(RUN), lambda: None), lambda: memory.cat("/bucket/runs/a/lock")
    held.acquire()
    before = read()
    monkeypatch.setattr(lease, "SILENT_S", 0.0)
    held._renew_once()
    assert read() == before
    monkeypatch.setattr(lease, "SILENT_S", 1_000.0)
    held._renew_once()
    assert read() != before
    held.release()


def test_checkpoints_of_a_folder_of_the_copy_lie_in_the_store(memory):
    for expected in (None, 2):
        with RunDirectory.open("a-line", Config(RUN, resume="latest")) as run:
            with fb.Checkpoints(run.path / "checkpoints") as checkpoints:
                assert checkpoints.directory == f"{RUN}/checkpoints" and checkpoints.latest == expected
                checkpoints.save(2, {"w": jnp.ones(())})
            assert not (run.path / "checkpoints").exists() and run.saved_step == 2


def test_a_run_that_is_not_closed_says_at_the_end_where_its_copy_is(memory, capsys):
    run = RunDirectory.open("a-line", Config(RUN))
    run.log(1, {"loss": 0.5})
    fb.runs.copies._remove(run.path)  # as at the end of the process
    assert capsys.readouterr().err == (
        f"fourbeat: the run {RUN} was not closed. Use it in a `with` statement, or call close() at its end. "
        f"What was not copied yet lies in {run.path}.\n"
    )
    run.close()
    fb.runs.copies._remove(run.path)
    assert capsys.readouterr().err == "" and not run.path.exists() and "metrics.jsonl" in names(memory)


def test_a_run_that_was_copied_from_a_disk_goes_on_at_once(memory, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(lease, "SILENT_S", 1_000.0)
    on_disk, _ = train(Config(tmp_path / "run"))
    memory.put(str(on_disk.path), "/bucket/runs/a", recursive=True)
    assert "lock" in names(memory)
    capsys.readouterr()
    assert Run.read(RUN).state == "finished"
    run, state = train(Config(RUN, steps=6, resume="latest"))
    assert capsys.readouterr().err == "" and run.saved_step == 6 and "lock" not in names(memory)
    assert state == train(Config(tmp_path / "whole", steps=6))[1]


def test_a_process_that_stood_still_changes_nothing_of_the_one_that_took_over(memory, monkeypatch):
    # one request after the other, so that none is on its way while the process stands still
    monkeypatch.setattr(
        "fourbeat.runs.saves.Checkpoints", functools.partial(fb.Checkpoints, asynchronous=False)
    )
    monkeypatch.setattr("fourbeat.stores.store._AT_ONCE", 1)
    train(Config(RUN))
    theirs = {path.replace("-save-", "-save-1"): file for path, file in memory.store.items()}
    memory.pipe("/bucket/lock", b'{"token": "theirs", "process": 7, "host": "other"}')
    theirs["/bucket/runs/a/lock"] = memory.store["/bucket/lock"]
    contents = lambda: {path: file.getvalue() for path, file in memory.store.items()}

    def take_over():
        memory.store.clear()
        memory.store.update(theirs)

    take_over()
    expected, stood, Stopped.meanwhile = contents(), 0, take_over
    while True:
        memory.store.clear()
        Stopped.left = stood
        try:
            train(Config(RUN.replace("memory", "stopped")))
            break
        except (StoreError, fb.CheckpointError) as error:
            told = str(error)
        assert (
            "the run stopped://bucket/runs/a is not this process's any more: its object 'lock' was not "
            "renewed for 0.02 s, and process 7 on other has it. Nothing more is written to it."
        ) in told
        found = contents()
        assert {path: found.get(path) for path in expected} == expected
        own = found.keys() - expected.keys()  # of a save that was on its way, which nobody sees
        assert all("/arrays/" in path for path in own)
        stood += 4
    assert Stopped.left >= 0 and stood > 30  # it ended before it stood still


def test_a_lock_is_renewed_and_the_run_is_brought_to_the_store_meanwhile(memory, monkeypatch):
    monkeypatch.setattr(lease, "RENEWED_EVERY_S", 0.01)
    monkeypatch.setattr("fourbeat.runs.homes._KEPT_EVERY_S", 0.0)
    run = RunDirectory.open("a-line", Config(RUN))
    before = memory.cat("/bucket/runs/a/lock")
    run.log(1, {"loss": 0.5})
    while memory.cat("/bucket/runs/a/lock") == before or "metrics.jsonl" not in names(memory):
        time.sleep(0.01)
    assert Run.read(RUN).state == "running"
    run.close()
    assert Run.read(RUN).state == "finished"


def test_every_command_reads_a_run_by_its_address(memory, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    train(Config(RUN))
    train(Config("memory://bucket/runs/b", steps=2))
    capsys.readouterr()
    main(["runs", "memory://bucket/runs"])
    listed = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[1] for line in listed[1:]] == ["memory://bucket/runs/b", RUN]
    main(["compare", RUN, "memory://bucket/runs/b"])
    assert capsys.readouterr().out.splitlines()[0] == f"A  {RUN}  a-line, finished, step 4"
    main(["report", "memory://bucket/runs/latest", RUN])
    capsys.readouterr()
    assert f'"path":"{RUN}"' in Path("report.html").read_text()
    assert repr(Run.read("memory://bucket/runs/latest")) == "Run('memory://bucket/runs/b', finished, step 2)"
    best = Run.read("memory://bucket/runs/best")
    assert best.name == RUN and (best.path / "notes.txt").read_text() == "of the user"
    trained = Trained(best.path, None, None, None, SimpleNamespace(step=4))
    capsys.readouterr()
    say_run(trained, "12 rows")
    print_json(trained, rows=12)
    assert capsys.readouterr().out == (
        f'{RUN}   step 4   12 rows\n{{"run": "{RUN}", "step": 4, "rows": 12}}\n'
    )
    [listed, _] = sorted(runs_below("memory://bucket/runs"))
    assert {file.name for file in listed.iterdir()} >= {"config.json", "metrics.jsonl"}
    assert not (listed / "notes.txt").exists()
    with pytest.raises(ValueError) as caught:
        Run.read("memory://bucket/none")
    assert str(caught.value) == (
        "there is no run in memory://bucket/none. `fourbeat runs` lists those that are there."
    )
    with pytest.raises(ValueError) as caught:
        Run.read("memory://bucket/none/latest")
    assert str(caught.value) == "there is no run below memory://bucket/none. Name the run's directory."
    other = memory.cat("/bucket/runs/a/config.json").replace(b'"name": "loss"', b'"name": "train_loss"')
    memory.pipe("/bucket/runs/c/config.json", other)
    memory.pipe("/bucket/runs/c/metrics.jsonl", b'{"step": 1, "train_loss": 0.5}\n')
    with pytest.raises(ValueError) as caught:
        Run.read("memory://bucket/runs/best")
    assert str(caught.value) == (
        "the runs below memory://bucket/runs have several scores, loss, train_loss: none of them is the best "
        "of all. Name a folder of runs that are alike, or the run's directory."
    )
    memory.pipe("/bucket/runs/a/config.json", b"{")
    with pytest.raises(ValueError) as caught:
        Run.read(RUN)
    assert str(caught.value).startswith(f"{RUN}/config.json is damaged: ")


def test_an_object_that_leads_out_of_the_run_is_refused(memory):
    train(Config(RUN))
    memory.store["/bucket/runs/a/../../../../out.txt"] = memory.store["/bucket/runs/a/notes.txt"]
    store = Store(RUN)
    store.names = lambda **_: ["../../../../out.txt"]
    with pytest.raises(StoreError) as caught:
        fb.runs.copies.fill(fb.runs.copies.begin_copy(store), store)
    assert str(caught.value) == f"{RUN}/../../../../out.txt leads out of the run. Remove it."


SCRIPT = """
    import json, os, signal, sys, time
    import fourbeat as fb
    from fourbeat.runs import lease
    from tests.runs.test_one_voice import Config, leaves, train

    lease.SILENT_S, lease.RENEWED_EVERY_S = 1.0, 0.2
    fb.distributed.initialize()
    index, dies = int(os.environ["JAX_PROCESS_ID"]), sys.argv[1] == "dies"

    def killed(run, tick, stopping):
        if dies and index == 1 and tick.step == 6:
            while run.saved_step is None:
                time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGKILL)
        return stopping

    if dies:
        run, state = train(Config(sys.argv[2]))
        params = [leaf.tolist() for leaf in leaves(state)]
        print(json.dumps([params, run.history()]), file=sys.stderr, flush=True)
    run, state = train(Config("s3://bucket/runs/mlp", resume="latest"), killed, save=fb.every(steps=4))
    print(json.dumps([[leaf.tolist() for leaf in leaves(state)], run.history()]), file=sys.stderr)
"""


@pytest.fixture(scope="module")
def server():
    with s3_server.running() as environment:
        yield environment


def test_two_processes_train_into_an_s3_server_and_go_on_after_a_kill(server, tmp_path, monkeypatch, capsys):
    for name, value in server.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as end:
        main(["train", "linear-regression", "--out", "s3://bucket/line"])
    assert end.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "fourbeat: s3://bucket/line cannot be written: FileNotFoundError: The specified bucket does not "
        "exist. Look at the address, at the permissions, and whether the store answers."
    )
    Store("s3://bucket").files.mkdir("bucket")
    both = {"environment": server, "devices": 2}
    dead = processes.run(
        SCRIPT, 2, tmp_path / "1", arguments=["dies", tmp_path / "whole"], kill_after_s=120, **both
    )
    assert dead[1].status == 137 and dead[0].status in (75, 134)  # Gloo may abort it first
    params, history = json.loads(next(line for line in dead[0].errors.splitlines() if line.startswith("[[")))
    left = Run.read("s3://bucket/runs/mlp").history
    assert left and left == history[: len(left)]
    processes.run(SCRIPT, 2, tmp_path / "2", arguments=["goes on"], kill_after_s=120, **both)
    for each in (tmp_path / "2").glob("*/errors"):
        found = json.loads(next(line for line in each.read_text().splitlines() if line.startswith("[[")))
        assert found[0] == params
        assert [line["step"] for line in found[1]] == [4, 8, 12]
        assert found[1] == history
    seen = Run.read("s3://bucket/runs/mlp")
    assert seen.state == "finished" and seen.history == history
    assert [each["step"] for each in seen.resumes] == [4]


def test_a_recipe_of_the_command_line_trains_and_is_used_in_a_store(server, tmp_path, monkeypatch, capsys):
    for name, value in server.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    with contextlib.suppress(FileExistsError):
        Store("s3://bucket").files.mkdir("bucket")
    store, run = Store("s3://bucket/lock"), "s3://bucket/lines/a"
    assert store.create("lock", b"first") and not store.create("lock", b"second")
    assert (
        store.create("lock", b"first") and store.read("lock") == b"first"
    )  # asked again after a lost answer
    main(["train", "linear-regression", "--steps", "20", "--out", run])
    printed = capsys.readouterr().out
    assert f"written to {run}\n" in printed and f"fourbeat report {run}\n" in printed
    main(["export", "s3://bucket/lines/latest", "--to", "exported"])
    assert capsys.readouterr().out.startswith(f"{run}   step 20   stablehlo")
    main(["train", "linear-regression", "--resume", run, "--steps", "24"])
    assert "going on from step 20" in capsys.readouterr().out
    assert Run.read(run).step == 24
