"""A run's directory: config, history, figures."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from fourbeat.runs import RunDirectory, figures, in_words


@dataclasses.dataclass(frozen=True)
class Config:
    steps: int = 3
    out: Path | None = None


def test_it_holds_every_flag_the_versions_and_the_history(tmp_path):
    run = RunDirectory.create("a-recipe", Config(), tmp_path / "deep" / "run")
    described = json.loads((run.path / "config.json").read_text())
    assert described["flags"] == {"steps": 3, "out": None}
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
    first, second = RunDirectory.create("a-recipe", Config()), RunDirectory.create("a-recipe", Config())
    assert first.path.parent == second.path.parent == Path("runs/a-recipe")
    assert first.path != second.path


def test_it_refuses_a_directory_that_holds_a_run_or_cannot_be_written(tmp_path):
    RunDirectory.create("a-recipe", Config(), tmp_path)
    with pytest.raises(ValueError) as caught:
        RunDirectory.create("a-recipe", Config(), tmp_path)
    assert str(caught.value) == f"{tmp_path} holds a run already. Choose another --out, or remove it."
    with pytest.raises(ValueError) as caught:
        RunDirectory.create("a-recipe", Config(), tmp_path / "config.json" / "run")
    assert str(caught.value) == (
        f"cannot write the run directory {tmp_path}/config.json/run: Not a directory. Choose another --out."
    )


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
