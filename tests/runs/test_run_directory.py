"""A run's directory: config, history, figures."""

import dataclasses
import datetime
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from fourbeat.runs import Diverged, RunDirectory, figures, in_words
from fourbeat.runs.listing import show_runs
from fourbeat.runs.run_directory import find


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
    run.log(10, train={"loss": 0.5}, eval={"by_class": np.array([0.5, 1.0])})
    run.log(20, train={"loss": 0.25})
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
    run = RunDirectory.open("a-recipe", Config(out=path, **flags))
    run.log(step, train={"loss": 1.0})
    with run.checkpoints(asynchronous=False) as checkpoints:
        checkpoints.save(step, run.tree(state=State(step, np.full(2, w))))
    run.close()
    return run


def resumed(config, like=None, **options):
    """`(run, tree)` of a run that goes on."""
    run = RunDirectory.open("a-recipe", config, exact=frozenset({"steps"}))
    with run, run.checkpoints() as checkpoints:
        return run, run.restore(checkpoints, {"state": like or State(0, np.zeros(2))}, **options)


def record(path):
    return json.loads((path / "config.json").read_text())


def test_resuming_finds_the_run_says_what_changes_and_keeps_what_was(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    begun = RunDirectory.open("a-recipe", Config(resume="latest"))
    assert begun.is_new  # nothing there: begin one
    begun.close()
    here = Path("here")
    trained(here, step=2)
    before = record(here)
    run, tree = resumed(Config(resume="here"))
    assert not run.is_new and not run.has_nothing_to_do
    assert (tree["state"].step, tree["state"].w.tolist()) == (2, [1.0, 1.0])
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
    assert resumed(Config(resume=str(tmp_path)))[1]["state"].step == 2


def test_a_finished_run_stays_as_it_is_until_more_is_asked_of_it(tmp_path, capsys):
    run = trained(tmp_path, step=3)
    run.finish({"loss": 0.5})
    before = record(tmp_path)
    run, _ = resumed(Config(batch_size=7, resume=str(tmp_path)))
    assert run.has_nothing_to_do and record(tmp_path) == before
    assert capsys.readouterr().out == f"{tmp_path} is finished, nothing to do   test loss 0.5000\n"
    run, _ = resumed(Config(steps=5, resume=str(tmp_path)), is_over=lambda tree: tree["state"].step == 3)
    assert run.has_nothing_to_do  # it ended before its last step, by itself
    run, _ = resumed(Config(steps=5, resume=str(tmp_path)))
    assert not run.has_nothing_to_do and run.result is None  # it is not finished any more
    steps, result = record(tmp_path)["changes"]
    assert (steps["from"], steps["to"], result["step"], result["result"]) == (3, 5, 3, {"loss": 0.5})


def test_a_run_that_ends_in_nan_is_not_finished(tmp_path):
    run = RunDirectory.open("a-recipe", Config(out=tmp_path))
    run.log(3, test={"loss": np.float32("nan"), "by_class": np.array([1.0, np.inf])})
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


def test_what_was_logged_after_a_checkpoint_is_taken_back(tmp_path):
    run = RunDirectory.open("a-recipe", Config(out=tmp_path))
    assert run.tree(state=1) == {"state": 1, "history_size_bytes": 0}
    run.log(10, train={"loss": 1.0})
    saved = run.tree()["history_size_bytes"]
    run.log(20, train={"loss": 0.5})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 30, "train_l')  # a process killed while it wrote
    assert [line["step"] for line in run.history()] == [10, 20]
    run.cut_history(saved)
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 10, "train_loss": 1.0}\n'


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
    done = RunDirectory.open("a-recipe", Config(out=tmp_path / "done"))
    done.log(10, eval={"accuracy": 0.5})
    done.log(20, eval={"accuracy": 0.25})
    done.finish({"accuracy": 0.3})
    text = RunDirectory.open("other", Config(out=tmp_path / "open"))
    text.log(10, eval={"perplexity": 7.5})
    text.log(20, eval={"perplexity": 8.5})
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{")
    show_runs(tmp_path)
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "20" in rows["a-recipe"] and " finished" in rows["a-recipe"]
    assert "accuracy 0.5000" in rows["a-recipe"] and "perplexity 7.5000" in rows["other"]
    assert "unfinished" in rows["other"]
    assert "unreadable" in rows["?"]
    show_runs(tmp_path / "done" / "nothing")
    assert capsys.readouterr().out.startswith("no runs below")


def test_the_curves_show_what_the_history_holds():
    history = [
        {"step": 10, "train_loss": 0.5, "eval_loss": 0.6, "train_accuracy": 0.8, "eval_accuracy": 0.7},
        {"step": 20, "train_loss": 0.4, "eval_loss": 0.5, "train_accuracy": 0.9, "eval_accuracy": 0.8},
        {"step": 20, "test_loss": 0.45},
    ]
    loss, accuracy = figures.curves(history).axes
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
