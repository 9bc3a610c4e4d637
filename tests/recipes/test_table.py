"""A recipe is its own file and one line of the table: every command then knows it."""

import json
from pathlib import Path

import pytest

from fourbeat import recipes
from fourbeat.cli import main
from fourbeat.recipes import RECIPES, Recipe
from fourbeat.runs.flags import from_record

OWN = Path(__file__).parent / "own_recipe"


@pytest.fixture
def mean_recipe(tmp_path, monkeypatch):
    """The table with one line more, and its own file in a folder that the package looks in."""
    monkeypatch.setattr(recipes, "__path__", [*recipes.__path__, str(OWN)])
    monkeypatch.setitem(RECIPES, "mean", Recipe("mean.Mean", "mean.train", "mean.evaluate", "mean.predict"))
    (tmp_path / "numbers.txt").write_text("0\n1\n2\n3\n")
    (tmp_path / "more.txt").write_text("0\n1\n2\n7\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_command_knows_a_recipe_of_one_line(mean_recipe, capsys):
    main(["train", "mean", "numbers.txt", "--out", "runs/mean/a"])
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


def test_the_data_that_a_run_trains_on_is_an_argument_that_resuming_leaves_out(mean_recipe, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["train", "mean", "--steps", "2"])
    missing = "fourbeat: FILE is missing; give a file of numbers.\n"
    assert (stop.value.code, *capsys.readouterr()) == (2, "", missing)
    main(["train", "mean", "--steps", "2", "numbers.txt", "--out", "run"])  # it may stand anywhere
    main(["train", "mean", "--resume", "run", "--steps", "3"])
    assert capsys.readouterr().out == "changed on resume: steps 2 -> 3\n" + (
        "steps: the result is no longer that of an unbroken run\ngoing on from step 2\n"
    )
    main(["train", "mean", "more.txt", "--resume", "run", "--steps", "4"])  # another one is said
    changed = "changed on resume: file numbers.txt -> more.txt\n"
    assert capsys.readouterr().out.startswith(changed)
    record = json.loads((mean_recipe / "run/config.json").read_text())
    assert record["flags"] == {"file": "more.txt", "steps": 4}
    with pytest.raises(SystemExit):
        main(["train", "mean", "--help"])
    assert "FILE A number a line. (left out with --resume)" in " ".join(capsys.readouterr().out.split())
    read = from_record(RECIPES["mean"].load("config"), record["flags"], where="")
    assert read.file == Path("more.txt")
    with pytest.raises(ValueError, match=r"^here: FILE is 3; give a path\.$"):
        from_record(RECIPES["mean"].load("config"), {"file": 3}, where="here: ")
