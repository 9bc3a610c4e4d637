"""The examples run, on tiny budgets, and say what they are for."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = {  # arguments, and words that its output must hold
    "rewind_past_bad_data": (["--steps", "120"], ["step 97 was skipped", "back to step 80, on from step 97"]),
    "halve_rate_after_bad_step": (["--steps", "400"], ["learning rate halved", "step 400: loss 0.0"]),
    "clipping": (["--steps", "60", "--out", "plot.png"], ["clipped to norm 0.5", "written to plot.png"]),
    "warmup_cosine": (
        ["--steps", "40", "--out", "plot.png"],
        ["largest difference", "written to plot.png"],
    ),
    "precision_recall": (["--steps", "30", "--out", "plot.png"], ["class  precision  recall", "accuracy"]),
    "early_stopping": (["--epochs", "3", "--out", "plot.png"], ["best was epoch", "written to plot.png"]),
    "every_37_steps": (["--steps", "80"], ["step   37   loss", "step   74   loss"]),
    "gan": (
        ["--steps", "40", "--out", "plot.png"],
        ["critic     step 40, updates 40", "generator  step 20, updates 20", "learning rate 5.00e-04"],
    ),
    "vae_with_critic": (
        ["--steps", "40", "--out", "plot.png"],
        ["step    10  divergence weight 0.50", "step    40", "doubt", "programs compiled for the steps: 1"],
    ),
    "distillation": (["--steps", "40"], ["from labels", "from the teacher", "student and teacher agree on"]),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs_and_shows_its_point(name, tmp_path, monkeypatch, capsys):
    """In this process, as `python examples/NAME.py`: a process for each would import JAX for each."""
    arguments, words = EXAMPLES[name]
    file = str(ROOT / "examples" / f"{name}.py")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(ROOT / "examples")
    monkeypatch.setattr(sys, "argv", [file, *arguments])
    runpy.run_path(file, run_name="__main__")
    printed = capsys.readouterr().out
    for word in words:
        assert word in printed
    if "--out" in arguments:
        assert (tmp_path / "plot.png").stat().st_size > 5_000


def test_an_example_is_a_program_that_runs_in_any_folder(tmp_path):
    command = [sys.executable, "-W", "error", str(ROOT / "examples" / "every_37_steps.py"), "--steps", "40"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "step   37   loss" in done.stdout
