"""A run's directory: config, history, figures."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fourbeat.runs import RunDirectory, figures, in_words, show_runs


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


def test_resuming_finds_the_run_and_says_what_changes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exact = frozenset({"steps"})
    assert RunDirectory.open("a-recipe", Config(resume="latest")).is_new  # nothing there: begin one
    first = RunDirectory.open("a-recipe", Config(out=Path("here")))
    first.log(10, train={"loss": 1.0})
    first.close()
    again = RunDirectory.open("a-recipe", Config(resume="here"), exact=exact)
    assert not again.is_new
    assert again.history() == [{"step": 10, "train_loss": 1.0}]
    again.close()
    assert capsys.readouterr().out == ""
    config = Config(steps=5, batch_size=64, out=Path("here"), resume="latest")
    RunDirectory.open("a-recipe", config, exact=exact).close()
    assert capsys.readouterr().out == (
        "changed on resume: steps 3 -> 5\nchanged on resume: batch_size 32 -> 64\n"
        "batch_size: the result is no longer that of an unbroken run\n"
    )
    assert json.loads(Path("here/config.json").read_text())["flags"] == {"steps": 5, "batch_size": 64}
    with pytest.raises(ValueError) as caught:
        RunDirectory.open("another", Config(resume="here"))
    assert str(caught.value) == "--resume here: there is no run of another in that directory."


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
