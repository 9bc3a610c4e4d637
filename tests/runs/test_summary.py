"""`summary.json`: the state of a run, its best scores, where its time went."""

import dataclasses
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fourbeat as fb
from fourbeat.compiling import compilation_monitor
from fourbeat.evaluating import evaluation_time
from fourbeat.runs import Diverged, Interrupted, RunDirectory, wall_times
from fourbeat.runs.lock import Lock, is_held
from fourbeat.runs.states import read_summary
from fourbeat.runs.wall_times import WallTimes
from tests.runs.fed_clock import Clock


@dataclasses.dataclass(frozen=True)
class Config:
    out: Path
    steps: int = 4
    resume: str | None = "latest"


BATCHES = fb.data.Arrays(x=np.arange(8, dtype=np.float32)).batches(2)


@pytest.fixture(scope="module")
def beats():
    return fb.four_beats(lambda model, batch: (model["w"] - batch["x"]) ** 2, optax.sgd(0.1))


def trained(beats, out, *, steps=4, at_step=lambda run, tick: None, at_end=lambda run: None):
    """A run that logs a known score at each step, and does what is asked at each, and at its end."""
    step = fb.compile(beats.train_step)
    with RunDirectory.open("a-line", Config(out, steps), score="eval_accuracy") as run:
        state = run.restore(beats.init({"w": jnp.zeros(())}))
        for tick in run.loop(BATCHES, start=state.step):
            state, _ = step(state, tick.batch)
            scores = {"accuracy": [0.25, 0.75, 0.5, 0.625][tick.step % 4], "loss": 1 / tick.step}
            run.log(tick.step, {"eval": scores, "batch": {"loss": 0.0}})
            at_step(run, tick)
            run.save(tick, state)
        at_end(run)
    return run


def fail(error, step=2):
    def at_step(run, tick):
        if tick.step == step:
            raise error

    return at_step


def stop(run, tick):
    if tick.step == 2:
        run.stop.request()


ENDS = {  # how a run ends: what it does, what is raised, the state, and its step
    "reaches its last step": ({}, None, "finished", 4),
    "is finished with a result": ({"at_end": lambda run: run.finish({"loss": 0.5})}, None, "finished", 4),
    "is stopped": ({"at_step": stop}, Interrupted, "stopped", 2),
    "Ctrl-C": ({"at_step": fail(KeyboardInterrupt())}, KeyboardInterrupt, "stopped", 2),
    "an error": ({"at_step": fail(RuntimeError("no memory\nleft"))}, RuntimeError, "crashed", 2),
    "a result that is not finite": (
        {"at_end": lambda run: run.finish({"loss": np.nan})}, Diverged, "crashed", 4,
    ),
    "a last save that fails": ({"at_step": lambda run, tick: tick.step == 4 and _breaks_saves(run)},
        fb.CheckpointError, "crashed", 4),
}  # fmt: skip


def _breaks_saves(run):
    (run.path / "checkpoints").write_text("no folder")


@pytest.mark.parametrize("how", ENDS)
def test_a_run_tells_how_it_ended(how, beats, tmp_path):
    does, raised, state, step = ENDS[how]
    if raised is None:
        trained(beats, tmp_path, **does)
    else:
        with pytest.raises(raised) as caught:
            trained(beats, tmp_path, **does)
    summary = read_summary(tmp_path)
    assert (summary["state"], summary["step"]) == (state, step)
    error = {"type": raised.__name__, "text": str(caught.value), "step": step} if state == "crashed" else None
    assert summary["error"] == error
    best = {"eval_accuracy": (0.75, 1), "eval_loss": (1 / step, step)}  # the 2nd of the list is of step 1
    assert {name: (each["score"], each["step"]) for name, each in summary["best"].items()} == best
    assert sum(summary["seconds"].values()) == pytest.approx(2 * summary["seconds"]["all"], abs=1e-3)
    assert not list(tmp_path.glob("*.unfinished"))


def test_a_run_in_a_thread_has_no_signals_and_is_stopped_where_that_is_asked_for(beats, tmp_path):
    with ThreadPoolExecutor(1) as thread:
        with pytest.raises(Interrupted, match="stopped at step 2, saved"):
            thread.submit(trained, beats, tmp_path, at_step=stop).result()
        thread.submit(trained, beats, tmp_path).result()
    assert (read_summary(tmp_path)["state"], read_summary(tmp_path)["step"]) == ("finished", 4)


def test_a_run_that_goes_on_adds_to_its_times_its_resumes_and_its_best(beats, tmp_path):
    trained(beats, tmp_path)
    first = read_summary(tmp_path)
    before = (tmp_path / "summary.json").read_bytes()
    with pytest.raises(ValueError, match="is at step 4 already"):
        trained(beats, tmp_path, steps=3)
    assert (tmp_path / "summary.json").read_bytes() == before  # a refused resume changes nothing
    trained(beats, tmp_path, steps=8)
    second = read_summary(tmp_path)
    assert [resume["step"] for resume in second["resumes"]] == [4] and first["resumes"] == []
    assert second["best"]["eval_accuracy"] == {"score": 0.75, "step": 1, "mode": "max"}
    assert second["best"]["eval_loss"] == {"score": 1 / 8, "step": 8, "mode": "min"}
    assert all(second["seconds"][kind] >= first["seconds"][kind] for kind in first["seconds"])
    assert second["seconds"]["steps"] > first["seconds"]["steps"]


def test_the_time_of_each_kind_is_counted_once(beats, monkeypatch):
    clock = Clock()
    for module in (wall_times, evaluation_time, compilation_monitor):
        monkeypatch.setattr(module, "time", clock)
    evaluate, state = fb.evaluator(beats), beats.init({"w": jnp.zeros(())})
    times = WallTimes()
    clock.passes(1)  # before the loop

    def batches():
        yield {"x": np.ones(3, np.float32)}
        jax.jit(lambda x: clock.passes(16) or x)(1.0)  # compiled within an evaluation
        clock.passes(2)

    with times:
        for waited in ([], []):  # of two loops
            times.begin_loop(waited.__len__)
            for _ in range(2):
                waited += 4 * [None]
                clock.passes(4)
                jax.jit(lambda x: clock.passes(8) or x)(1.0)
                evaluate(state, batches())
                with times.saving(), times.saving():
                    clock.passes(32)
                clock.passes(64)  # the body
                times.end_tick()
        clock.passes(128)  # after the loops
    counted = {"steps": 256, "compiling": 96, "waiting_for_data": 16, "evaluating": 8, "saving": 128}
    counted |= {"starting": 1, "lost_to_restarts": 0, "other": 128}
    assert times.seconds() == {**counted, "all": sum(counted.values())}


def test_a_run_that_says_running_is_killed_where_no_process_holds_its_lock(tmp_path):
    run = RunDirectory.open("a-line", Config(tmp_path))
    assert read_summary(tmp_path)["state"] == "running" and is_held(tmp_path / "lock")
    run._home.leave(None)  # as the system does where a process is killed
    assert json.loads((tmp_path / "summary.json").read_text())["state"] == "running"
    assert read_summary(tmp_path)["state"] == "killed"
    (tmp_path / "lock").unlink()  # as where a run is copied without it
    assert read_summary(tmp_path)["state"] == "killed"


def test_a_look_at_the_lock_keeps_no_run_from_beginning(tmp_path):
    import fcntl

    lock = Lock(tmp_path / "lock")
    lock.acquire()
    lock.release()
    reader = os.open(tmp_path / "lock", os.O_RDONLY)
    fcntl.flock(reader, fcntl.LOCK_SH)
    waiting = iter([lambda: None, lambda: os.close(reader)])
    taken, flock = [], fcntl.flock

    def looked_at(descriptor, operation):
        if operation == fcntl.LOCK_EX | fcntl.LOCK_NB:
            next(waiting, lambda: None)()
            taken.append(operation)
        return flock(descriptor, operation)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fcntl, "flock", looked_at)
        lock.acquire()
    assert len(taken) == 2 and is_held(tmp_path / "lock")
    lock.release()
    assert not is_held(tmp_path / "lock") and not is_held(tmp_path / "none")


def test_a_disk_that_is_full_for_the_summary_stops_no_run(beats, tmp_path):
    def blocked(run):
        (tmp_path / "summary.json").unlink()
        (tmp_path / "summary.json").mkdir()
        run.finish({"loss": 0.5})

    with pytest.warns(fb.loggers.LoggerWarning, match=r"Summary\(.*Training goes on"):
        run = trained(beats, tmp_path, at_end=blocked)
    assert run.result == {"loss": 0.5}


FORMS = (
    '"best": 1',
    '"best": {}, "error": "x"',
    '"seconds": [1]',
    '"seconds": {"all": "x"}',
    '"shares_percent": {"steps": "x"}',
    '"saved": 1',
    '"saved": [{"step": 1}]',
    '"saved": [{"step": "x", "seconds": {}}]',
    '"resumes": [1]',
)


@pytest.mark.parametrize(
    "text", ["", "[1]", '{"state": "odd"}', *(f'{{"state": "stopped", {form}}}' for form in FORMS)]
)
def test_a_damaged_summary_is_named(text, tmp_path):
    (tmp_path / "summary.json").write_text(text)
    with pytest.raises(ValueError, match=r"summary\.json is (damaged|of no run)"):
        read_summary(tmp_path)
