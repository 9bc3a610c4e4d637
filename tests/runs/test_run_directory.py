"""A run's directory: config, history, figures."""

import dataclasses
import datetime
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fourbeat as fb
from fourbeat.runs import Diverged, Interrupted, RunDirectory, figures, in_words
from fourbeat.runs.listing import show_runs
from fourbeat.runs.places import find


@dataclasses.dataclass(frozen=True)
class Config:
    steps: int = 3
    batch_size: int = 32
    out: Path | None = None
    resume: str | None = None


def test_it_holds_every_flag_the_versions_and_the_history(tmp_path):
    run = RunDirectory.open("a-recipe", Config(out=tmp_path / "deep" / "run"))
    described = json.loads((run.path / "config.json").read_text())
    assert described["flags"] == {"steps": 3, "batch_size": 32}
    assert {"python", "jax", "flax", "optax", "fourbeat"} <= described["versions"].keys()
    assert "cpu" in described["device"]
    assert run.history() == []
    run.log(10, {"train": {"loss": 0.5}, "eval": {"by_class": np.array([0.5, 1.0])}})
    run.log(20, {"train": {"loss": 0.25}})
    assert run.history() == [
        {"step": 10, "train_loss": 0.5, "eval_by_class": [0.5, 1.0]},
        {"step": 20, "train_loss": 0.25},
    ]


def test_by_default_it_lies_under_runs_the_recipe_and_the_time(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, second = RunDirectory.open("a-recipe", Config()), RunDirectory.open("a-recipe", Config())
    assert first.path.parent == second.path.parent == Path("runs/a-recipe")
    assert first.path != second.path


def test_it_refuses_a_directory_that_holds_a_run_or_cannot_be_written(tmp_path):
    RunDirectory.open("a-recipe", Config(out=tmp_path)).close()
    with pytest.raises(ValueError) as caught:
        RunDirectory.open("a-recipe", Config(out=tmp_path))
    assert str(caught.value) == (
        f"{tmp_path} holds a run already. Choose another --out, or go on with --resume latest."
    )
    with pytest.raises(ValueError) as caught:
        RunDirectory.open("a-recipe", Config(out=tmp_path / "config.json" / "run"))
    assert str(caught.value) == (
        f"cannot write the run directory {tmp_path}/config.json/run: Not a directory. Choose another --out."
    )


class State(NamedTuple):
    """What the tests save in the place of a training state."""

    step: int
    w: np.ndarray


def trained(path, *, step, w=1.0, **flags):
    """A run of 3 steps with a checkpoint of `step`, closed again."""
    with RunDirectory.open("a-recipe", Config(out=path, **flags)) as run:
        for tick in run.loop([{"x": np.zeros(1)}], start=0):
            if tick.step == step:
                run.log(step, {"train": {"loss": 1.0}})
                run.save(tick, State(step, np.full(2, w)))
                break
    return run


class Stopping(NamedTuple):
    """What the tests save beside the state; it may say that the run is over."""

    should_stop: bool = False


def resumed(config, like=None):
    """`(run, state)` of a run that goes on."""
    with RunDirectory.open("a-recipe", config, exact=frozenset({"steps"})) as run:
        return run, run.restore(like or State(0, np.zeros(2)))


def record(path):
    return json.loads((path / "config.json").read_text())


def test_resuming_finds_the_run_says_what_changes_and_keeps_what_was(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    begun = RunDirectory.open("a-recipe", Config(resume="latest"))
    assert begun.is_new  # nothing there: begin one
    begun.close()
    here = Path("here")
    trained(here, step=2)
    capsys.readouterr()
    before = record(here)
    run, state = resumed(Config(resume="here"))
    assert not run.is_new and not run.is_finished
    assert (state.step, state.w.tolist()) == (2, [1.0, 1.0])
    assert run.history() == [{"step": 2, "train_loss": 1.0}]
    assert capsys.readouterr().out == "going on from step 2\n"
    assert record(here) == before
    resumed(Config(steps=5, batch_size=64, out=here, resume="latest"))
    assert capsys.readouterr().out == (
        "changed on resume: steps 3 -> 5\nchanged on resume: batch_size 32 -> 64\n"
        "batch_size: the result is no longer that of an unbroken run\ngoing on from step 2\n"
    )
    resumed(Config(steps=4, batch_size=64, out=here, resume="latest"))
    after = record(here)
    assert after["flags"] == {"steps": 4, "batch_size": 64}
    changes = [(c["step"], c["flag"], c["from"], c["to"]) for c in after["changes"]]
    assert changes == [(2, "steps", 3, 5), (2, "batch_size", 32, 64), (2, "steps", 5, 4)]
    times = [datetime.datetime.fromisoformat(c["when"]) for c in after["changes"]]
    assert datetime.datetime.fromisoformat(after["begun"]) < times[0] <= times[1] < times[2]
    assert {key: after[key] for key in before if key not in ("flags", "changes")} == {
        key: before[key] for key in before if key not in ("flags", "changes")
    }
    with pytest.raises(ValueError) as caught:
        RunDirectory.open("another", Config(resume="here"))
    assert str(caught.value) == "--resume here: there is no run of another in that directory."


def test_a_refused_resume_changes_nothing_and_the_run_goes_on_afterwards(tmp_path):
    trained(tmp_path, step=2)
    before = {
        path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.name != "lock"
    }
    larger = State(0, np.zeros(3))
    with pytest.raises(ValueError) as caught:
        resumed(Config(batch_size=7, resume=str(tmp_path)), larger)
    assert str(caught.value) == (
        f"cannot go on with {tmp_path} with other flags (batch_size 32 -> 7): its checkpoint of step 2 is of "
        "another model or optimizer. Leave them out, or begin a new run."
    )
    with pytest.raises(ValueError) as caught:
        resumed(Config(steps=1, resume=str(tmp_path)))
    assert str(caught.value) == (
        f"--steps 1: the run {tmp_path} is at step 2 already. Give more steps than that, or begin a new run."
    )
    after = {
        path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.name != "lock"
    }
    assert after == before
    assert resumed(Config(resume=str(tmp_path)))[1].step == 2


def test_a_finished_run_stays_as_it_is_until_more_is_asked_of_it(tmp_path, capsys):
    run = trained(tmp_path, step=3)
    run.finish({"loss": 0.5})
    before = record(tmp_path)
    run, _ = resumed(Config(batch_size=7, resume=str(tmp_path)))
    assert run.is_finished and record(tmp_path) == before
    assert capsys.readouterr().out == f"{tmp_path} is finished, nothing to do   result loss 0.5000\n"
    run, _ = resumed(Config(steps=5, resume=str(tmp_path)))
    assert not run.is_finished and run.result is None  # it is not finished any more
    steps, result = record(tmp_path)["changes"]
    assert (steps["from"], steps["to"], result["step"], result["result"]) == (3, 5, 3, {"loss": 0.5})


def test_a_run_that_ends_in_nan_is_not_finished(tmp_path):
    run = RunDirectory.open("a-recipe", Config(out=tmp_path))
    run.log(3, {"test": {"loss": np.float32("nan"), "by_class": np.array([1.0, np.inf])}})
    assert (tmp_path / "metrics.jsonl").read_text() == (
        '{"step": 3, "test_loss": null, "test_by_class": [1.0, null]}\n'
    )
    with pytest.raises(Diverged) as caught:
        run.finish({"loss": np.float32("nan"), "accuracy": 0.5})
    assert str(caught.value) == (
        f"the run {tmp_path} ended with loss nan: it is not finished. Lower --learning-rate, or look for the "
        "first bad step with a guard."
    )
    assert run.result is None
    assert figures.curves(run.history()).axes == []


def test_latest_is_the_run_that_was_begun_last_whatever_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs = Path("runs/a-recipe")
    for name in ("zebra", "baseline", "2020-01-01_00-00-00"):
        trained(runs / name, step=1)
    RunDirectory.open("another", Config(out=runs / "of-another")).close()
    found = find("a-recipe", Config(resume="latest"))
    assert found == runs / "2020-01-01_00-00-00"  # its name is older than all others
    content = record(runs / "baseline")
    del content["begun"]  # as runs of an earlier fourbeat: their file's time tells
    (runs / "baseline" / "config.json").write_text(json.dumps(content))
    os.utime(runs / "baseline" / "config.json", (4e9, 4e9))
    assert find("a-recipe", Config(resume="latest")) == runs / "baseline"
    (runs / "baseline" / "config.json").write_text("{")
    os.utime(runs / "baseline" / "config.json", (4e9, 4e9))
    with pytest.raises(ValueError) as caught:
        find("a-recipe", Config(resume="latest"))
    assert str(caught.value) == (
        "the newest run is damaged: runs/a-recipe/baseline/config.json is damaged: Expecting property name "
        "enclosed in double quotes: line 1 column 2 (char 1). Name the run that you want."
    )


def counted(config, *, until=None, stop_in=None):
    """A run whose state counts its steps; it looks at the marks of `log` and `look` at every third step.

    Args:
      until: the step that breaks the loop, before it is saved.
      stop_in: the step whose evaluation is stopped, at its second batch.
    """
    step = fb.compile(lambda state, batch: (state._replace(step=state.step + 1), {"loss": state.step}))
    log, look = fb.every(steps=3), fb.every(steps=3) | fb.at(steps=7)
    with RunDirectory.open("a-recipe", config, score="eval_seen") as run:
        state = run.restore(State(jnp.int32(0), jnp.zeros(2)))
        loop = run.loop([{"x": np.zeros(1)}], start=state.step, marks=[log, look])
        for tick in loop:
            state, logs = step(state, tick.batch)
            if log in tick:
                run.log(tick.step, {"batch": {"loss": logs["loss"]}})
            if look in tick:
                seen = 0
                for batch in loop.interruptible([1, 2, 3]):
                    seen += batch
                    if tick.step == stop_in and batch == 2:
                        run.stop.request()
                if not loop.unfinished:
                    run.log(tick.step, {"eval": {"seen": seen}})
            if tick.step == until:
                break
            run.save(tick, state)
    return state


@pytest.mark.parametrize("stop_in", [3, 6, 7])
def test_stopped_within_an_evaluation_it_goes_on_with_that_evaluation_alone(stop_in, tmp_path, capsys):
    whole, out = tmp_path / "whole", tmp_path / "stopped"
    counted(Config(steps=7, out=whole))
    for resume in (None, "latest"):  # stopped twice in the same evaluation
        with pytest.raises(Interrupted) as caught:
            counted(Config(steps=7, out=out, resume=resume), stop_in=stop_in)
        assert str(caught.value) == (
            f"stopped at step {stop_in}, saved; to go on:\nfourbeat train a-recipe --resume {out}"
        )
    state = counted(Config(steps=7, out=out, resume="latest"))
    assert state.step == 7
    assert (out / "metrics.jsonl").read_text() == (whole / "metrics.jsonl").read_text()
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    steps = [(line["step"], *sorted(line.keys() - {"step"})) for line in lines]
    logged, looked = "batch_loss", "eval_seen"
    assert steps == [(3, logged), (3, looked), (6, logged), (6, looked), (7, looked)]


def test_a_step_of_plain_jax_under_an_if_ends_as_the_unbroken_run_with_its_gradients(tmp_path, capsys):
    """By hand: w and its momentum after six steps of gradient descent, the evaluation of step 3 cut short."""
    beats = fb.four_beats(lambda model, batch: (model["w"] - batch["x"]) ** 2, optax.sgd(0.1, momentum=0.9))
    batches, step, look = (
        fb.data.Arrays(x=np.arange(4.0)).batches(2),
        jax.jit(beats.train_step),
        fb.every(steps=3),
    )
    for stops in (True, False):
        try:
            with RunDirectory.open("plain-jax", Config(steps=6, out=tmp_path, resume="latest")) as run:
                state = run.restore(beats.init({"w": jnp.zeros(())}))
                loop = run.loop(batches, start=state.step, marks=[look])
                for tick in loop:
                    if tick.num_steps:
                        state, _ = step(state, tick.batch)
                    if look in tick:
                        for _ in loop.interruptible([1, 2]):
                            if stops:
                                run.stop.request()
                        if not loop.unfinished:
                            run.log(tick.step, {"eval": {"w": state.params["w"]}})
                    run.save(tick, state)
        except Interrupted:
            assert stops and int(state.step) == 3
    w, momentum, seen = np.float32(0), np.float32(0), []
    for x in [(0, 1), (2, 3)] * 3:
        momentum = 0.9 * momentum + 2 * np.mean(w - np.float32(x))
        w = w - 0.1 * momentum
        seen.append(w)
    np.testing.assert_allclose(state.params["w"], w, rtol=1e-6)
    np.testing.assert_allclose(state.opt_state[0].trace["w"], momentum, rtol=1e-6)
    history = run.history()
    assert [line["step"] for line in history] == [3, 6]
    np.testing.assert_allclose([line["eval_w"] for line in history], [seen[2], seen[5]], rtol=1e-6)


def test_a_loop_left_before_its_save_says_which_step_is_saved_and_later_lines_go(tmp_path, capsys):
    counted(Config(steps=7, out=tmp_path), until=6)
    assert capsys.readouterr().out == (
        f"stopped at step 6, and the newest checkpoint is of step None; to go on:\n"
        f"fourbeat train a-recipe --resume {tmp_path}\n"
    )
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 30, "train_l')  # a process killed while it wrote
    assert counted(Config(steps=7, out=tmp_path, resume="latest")).step == 7
    counted(Config(steps=7, out=tmp_path / "whole"))
    assert (tmp_path / "metrics.jsonl").read_text() == (tmp_path / "whole" / "metrics.jsonl").read_text()


def test_a_tree_that_says_stop_ends_the_loop_and_stays_at_its_end(tmp_path, capsys):
    for steps in (5, 9):
        with RunDirectory.open("a-recipe", Config(steps=steps, out=tmp_path, resume="latest")) as run:
            state, _ = run.restore(State(0, np.zeros(2)), Stopping())
            taken = []
            for tick in run.loop([{"x": np.zeros(1)}], start=state.step):
                taken.append(tick.step)
                run.save(tick, State(tick.step, state.w), Stopping(tick.step == 2))
            assert taken == ([1, 2] if steps == 5 else [])
            assert run.is_complete == (steps == 5)
            if run.is_complete:
                run.finish({"loss": 0.5})
    assert run.is_finished
    assert capsys.readouterr().out == f"{tmp_path} is finished, nothing to do   result loss 0.5000\n"


@pytest.mark.parametrize("score", ["eval_loss", None])
def test_the_best_state_is_that_of_the_best_score_and_without_scores_the_present_one(score, tmp_path):
    config = Config(steps=3, out=tmp_path)
    with RunDirectory.open("a-recipe", config, score=score, mode="min") as run:
        for tick in run.loop([{"x": np.zeros(1)}], start=0, save=fb.every(steps=1)):
            state = State(tick.step, np.full(2, 10.0 * tick.step))
            run.log(tick.step, {"eval_loss": (2.0, 1.0, 3.0)[tick.step - 1]})
            run.save(tick, state, Stopping())
        best = run.best(state)
    assert (int(best.step), best.w.tolist()) == ((2, [20.0] * 2) if score else (3, [30.0] * 2))


def test_a_run_of_an_earlier_fourbeat_says_that_it_cannot_go_on(tmp_path):
    trained(tmp_path, step=2)
    content = record(tmp_path)
    del content["format"]
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(ValueError) as caught:
        resumed(Config(resume=str(tmp_path)))
    assert str(caught.value) == (
        f"the run {tmp_path} was written by an earlier fourbeat, and this one cannot go on with its "
        "checkpoints. It can still be evaluated and predict; to train on, begin a new run."
    )


class Remembering:
    """A logger of the user's, named by `--log`."""

    calls: ClassVar[list] = []

    def __init__(self, path):
        self.calls.append(("made", path))

    def log(self, step, values):
        self.calls.append(("log", step, values))

    def figure(self, step, name, figure):
        self.calls.append(("figure", step, name))

    def cut_after(self, step):
        self.calls.append(("cut_after", step))

    def close(self):
        self.calls.append(("close",))


@dataclasses.dataclass(frozen=True)
class LoggingConfig(Config):
    log: tuple[str, ...] = (f"{__name__}:Remembering",)


def test_the_loggers_that_the_user_names_get_what_the_run_gets(tmp_path):
    Remembering.calls.clear()
    config = LoggingConfig(steps=2, out=tmp_path)
    with RunDirectory.open("a-recipe", config) as run:
        state = run.restore(State(0, np.zeros(2)))
        for tick in run.loop([{"x": np.zeros(1)}], start=state.step):
            run.log(tick.step, {"train": {"loss": 0.5}})
            run.save(tick, State(tick.step, state.w))
        run.figure(2, "fit", figures.curves(run.history()))
    assert Remembering.calls == [
        ("made", tmp_path),
        ("log", 1, {"train": {"loss": 0.5}}),
        ("log", 2, {"train": {"loss": 0.5}}),
        ("figure", 2, "fit"),
        ("close",),
    ]
    Remembering.calls.clear()
    with RunDirectory.open("a-recipe", dataclasses.replace(config, steps=3, resume=str(tmp_path))) as run:
        run.restore(State(0, np.zeros(2)))
    assert Remembering.calls == [("made", tmp_path), ("cut_after", 2), ("close",)]
    with pytest.raises(ValueError) as caught:
        RunDirectory.open("a-recipe", LoggingConfig(out=tmp_path / "other", log=("tensorbord",)))
    assert str(caught.value) == (
        "--log tensorbord: there is no such logger. Name tensorboard, wandb, mlflow, trackio, or a callable "
        "of your own as module:name."
    )


class Unreachable:
    """A logger whose server does not answer, and whose repr does not either."""

    def __init__(self, path):
        if path.name == "no-begin":
            raise ConnectionError("no server")

    def log(self, step, values):
        raise ConnectionError("no server")

    def __repr__(self):
        raise ConnectionError("no server")


@pytest.mark.parametrize("name", ["no-begin", "no-log"])
def test_a_logger_that_fails_from_its_beginning_on_never_stops_a_run(name, tmp_path):
    config = LoggingConfig(steps=2, out=tmp_path / name, log=(f"{__name__}:Unreachable",))
    said = {
        "no-begin": f"--log {__name__}:Unreachable cannot begin: ConnectionError: no server. Training goes "
        "on without it.",
        "no-log": "Unreachable failed: ConnectionError: no server. Training goes on; it is called again each "
        "time, without a further warning.",
    }

    def trained():
        with RunDirectory.open("a-recipe", config) as run:
            for tick in run.loop([{"x": np.zeros(1)}], start=0):
                run.log(tick.step, {"train": {"loss": 0.5}})
                run.save(tick, State(tick.step, np.zeros(2)))
            run.figure(2, "fit", figures.curves(run.history()))
            run.finish({"loss": 0.5})
        return run

    with pytest.warns(fb.loggers.LoggerWarning) as warned:
        run = trained()
    assert [str(warning.message) for warning in warned] == [said[name]]
    assert run.result == {"loss": 0.5} and len(run.history()) == 2


@pytest.mark.parametrize("name", ["wandb", "mlflow", "trackio"])
def test_a_tracker_whose_package_is_missing_is_said_in_a_line_and_nothing_is_written(
    name, tmp_path, monkeypatch
):
    monkeypatch.setattr("importlib.util.find_spec", lambda package: None)
    monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(ImportError) as caught:
        RunDirectory.open("a-recipe", LoggingConfig(out=tmp_path / "run", log=(name,)))
    assert str(caught.value) == f"--log {name} needs {name}: pip install 'fourbeat[trackers]'"
    assert os.listdir(tmp_path) == []


def test_the_time_spent_waiting_for_data_is_logged(tmp_path):
    def slow(example):
        time.sleep(0.001)
        return {"x": example}

    run = RunDirectory.open("a-recipe", Config(out=tmp_path))
    data = fb.data.Examples(np.ones((8, 2), np.float32), decode=slow)
    loop = run.loop(data.batches(4), start=0)
    waited = [0.0]
    for tick in loop:
        waited.append(loop.data_wait_s)
        run.log(tick.step, {"loss": 1.0})
        run.log(tick.step, {"eval": {"loss": 1.0}})
    lines = run.history()
    assert [line.get("data_wait_s") for line in lines[1::2]] == [None] * 3
    assert [line["data_wait_s"] for line in lines[::2]] == pytest.approx(np.diff(waited), abs=1e-6)
    assert min(np.diff(waited)) >= 0.004


def test_one_process_writes_a_run(tmp_path):
    run = RunDirectory.open("a-recipe", Config(out=tmp_path))
    code = (
        "from tests.runs.test_run_directory import Config, RunDirectory, Path\n"
        f"RunDirectory.open('a-recipe', Config(out=Path({str(tmp_path)!r}), resume='latest'))"
    )
    command = [sys.executable, "-c", code]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.stderr.splitlines()[-1] == (
        f"ValueError: another process (number {os.getpid()}) is writing the run {tmp_path}. Wait for it, "
        "stop it, or choose another --out."
    )
    run.finish({"accuracy": 1.0})
    assert run.result == {"accuracy": 1.0}
    run.close()
    assert subprocess.run(command, check=False).returncode == 0


@pytest.mark.parametrize(
    "name", ["lock", "metrics.jsonl", "config.json.unfinished", "result.json", "curves.png", "checkpoints"]
)
def test_a_link_in_a_run_from_elsewhere_is_not_followed(name, tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("precious\n")
    RunDirectory.open("a-recipe", Config(out=tmp_path / "run")).close()
    (tmp_path / "run" / name).unlink(missing_ok=True)
    (tmp_path / "run" / name).symlink_to(outside)
    (tmp_path / "run" / "notes").symlink_to(outside)  # whatever else lies there is no affair of ours
    before = (tmp_path / "run" / "config.json").read_text()
    with pytest.raises(ValueError) as error:
        RunDirectory.open("a-recipe", Config(steps=5, out=tmp_path / "run", resume="latest"))
    assert str(error.value) == (
        f"{tmp_path}/run/{name} is a link to {outside}, which is not followed: a run is written inside of "
        "its directory alone. Put what it points to in its place, or choose another --out."
    )
    assert outside.read_text() == "precious\n"
    assert (tmp_path / "run" / "config.json").read_text() == before
    (tmp_path / "run" / name).unlink()
    RunDirectory.open("a-recipe", Config(out=tmp_path / "run", resume="latest")).close()


def test_the_table_of_runs(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    done = RunDirectory.open("a-recipe", Config(out=tmp_path / "done"), score="eval_accuracy")
    done.log(10, {"eval": {"accuracy": 0.5}})
    done.log(20, {"eval": {"accuracy": 0.25}})
    done.finish({"accuracy": 0.3})
    text = RunDirectory.open("other", Config(out=tmp_path / "open"), score="eval_perplexity", mode="min")
    text.log(10, {"eval": {"perplexity": 7.5}})
    text.log(20, {"eval": {"perplexity": 8.5}})
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{")
    show_runs(tmp_path)
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "20" in rows["a-recipe"] and " finished" in rows["a-recipe"]
    assert "accuracy 0.5000" in rows["a-recipe"] and "perplexity 7.5000" in rows["other"]
    assert "running" in rows["other"]
    assert "unreadable" in rows["?"]
    show_runs(tmp_path / "done" / "nothing")
    assert capsys.readouterr().out.startswith("no runs below")


def test_the_curves_show_what_the_history_holds():
    history = [
        {"step": 10, "train_loss": 0.5, "eval_loss": 0.6, "train_accuracy": 0.8, "eval_accuracy": 0.7},
        {"step": 20, "train_loss": 0.4, "eval_loss": 0.5, "train_accuracy": 0.9, "eval_accuracy": 0.8},
        {"step": 20, "test_loss": 0.45, "grad_norm": 2.0},
    ]
    loss, accuracy, norm = figures.curves(history).axes
    assert norm.lines[0].get_label() == norm.get_ylabel() == "grad_norm"
    drawn = {line.get_label(): line.get_xydata().tolist() for line in loss.lines}
    assert drawn == {"train": [[10, 0.5], [20, 0.4]], "eval": [[10, 0.6], [20, 0.5]], "test": [[20, 0.45]]}
    assert [line.get_label() for line in accuracy.lines] == ["train", "eval"]
    assert (loss.get_xlabel(), loss.get_ylabel()) == ("step", "loss")


def test_the_confusion_matrix_shows_every_count_and_an_empty_class():
    axes = figures.confusion_matrix(np.array([[3, 1], [0, 0]])).axes[0]
    assert [text.get_text() for text in axes.texts] == ["3", "1", "0", "0"]


def test_the_fitted_line_goes_through_its_ends():
    axes = figures.fitted_line(np.array([0.0, 2.0]), np.array([0.0, 1.0]), weight=2.0, bias=-1.0).axes[0]
    assert axes.lines[0].get_xydata().tolist() == [[0, -1], [2, 3]]
    assert axes.lines[0].get_label() == "fit: 2.000 x - 1.000"


def test_in_words_leaves_arrays_out():
    assert in_words("eval", {"loss": 0.5, "matrix": np.eye(2)}) == "eval loss 0.5000"
