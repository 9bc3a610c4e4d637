"""A recipe is its own file and one line of the table: every command then knows it."""

import importlib
import json

import pytest

from fourbeat import recipes
from fourbeat.cli import main
from fourbeat.recipes import RECIPES, Recipe

OWN_FILE = '''
import dataclasses, json
from pathlib import Path
import jax.numpy as jnp
import optax
import fourbeat as fb
from fourbeat import runs

@dataclasses.dataclass(frozen=True)
class Mean:
    """Learns the mean of four numbers."""

    out: Path | None = None
    """The directory."""
    steps: int = 3
    """Steps."""
    resume: str | None = None
    """Go on with a run."""

def train(config):
    beats = fb.four_beats(lambda model, batch: (model["m"] - batch["x"]) ** 2, optax.sgd(0.5))
    state, step = beats.init({"m": jnp.zeros(())}), fb.compile(beats.train_step)
    batches = fb.data.Arrays(x=jnp.arange(4.0)).batches(4)
    with runs.RunDirectory.open("mean", config, score="train_loss", mode="min") as run:
        state = run.restore(state)
        for tick in run.loop(batches, start=state.step):
            state, logs = step(state, tick.batch)
            run.log(tick.step, {"train": {"loss": logs["loss"]}})
            run.save(tick, state)
        if run.is_complete:
            run.finish({"mean": float(state.model["m"])})

def evaluate(run, step, *, as_json):
    print(json.dumps({"evaluated": str(run), "step": step}))

def predict(run, files, step, *, as_json):
    print(json.dumps({"predicted": [str(file) for file in files]}))
'''


@pytest.fixture
def mean_recipe(tmp_path, monkeypatch):
    """The table with one line more, and its own file in a folder that the package looks in."""
    (tmp_path / "mean.py").write_text(OWN_FILE)
    monkeypatch.setattr(recipes, "__path__", [*recipes.__path__, str(tmp_path)])
    importlib.invalidate_caches()
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
    assert (run["recipe"], run["step"], run["best"]) == ("mean", 5, {"name": "train_loss", "score": 1.25})
