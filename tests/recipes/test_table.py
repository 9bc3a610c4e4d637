"""A recipe is its own file and one line of the table: every command then knows it."""

import json
from pathlib import Path

import pytest

from fourbeat import recipes
from fourbeat.cli import main
from fourbeat.recipes import RECIPES, Recipe

OWN = Path(__file__).parent / "own_recipe"


@pytest.fixture
def mean_recipe(tmp_path, monkeypatch):
    """The table with one line more, and its own file in a folder that the package looks in."""
    monkeypatch.setattr(recipes, "__path__", [*recipes.__path__, str(OWN)])
    monkeypatch.setitem(RECIPES, "mean", Recipe("mean.Mean", "mean.train", "mean.evaluate", "mean.predict"))
    return tmp_path


def test_every_command_knows_a_recipe_of_one_line(mean_recipe, monkeypatch, capsys):
    monkeypatch.chdir(mean_recipe)
    main(["train", "mean", "--out", "runs/mean/a"])
    main(["train", "mean", "--steps", "5", "--resume", "latest"])
    assert json.loads((mean_recipe / "runs/mean/a/result.json").read_text()) == {"mean": 1.5}
    capsys.readouterr()
    main(["evaluate", "runs/mean/a"])
    assert json.loads(capsys.readouterr().out) == {"evaluated": "runs/mean/a", "step": "best"}
    main(["predict", "latest", "some.txt"])
    assert json.loads(capsys.readouterr().out) == {"predicted": ["some.txt"]}
    main(["runs", "--json"])
    (run,) = json.loads(capsys.readouterr().out)["runs"]
    assert (run["recipe"], run["step"], run["best"]) == (
        "mean",
        5,
        {"name": "train_loss", "score": 1.25, "step": 2, "mode": "min"},
    )
