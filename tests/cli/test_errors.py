"""Bad input of every kind: one line that says what, exit status 2, and never a traceback."""

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fourbeat.checkpoints import CheckpointError
from fourbeat.cli import main
from fourbeat.recipes import linear_regression

FLAGS = {  # what is refused, by its own name
    "mnist-cnn --learning-rate nan": "--learning-rate is nan; give a finite number of at least 0.",
    "mnist-cnn --learning-rate -1": "--learning-rate is -1.0; give a finite number of at least 0.",
    "mnist-cnn --learning-rate 1e999": "--learning-rate is inf; give a finite number of at least 0.",
    "mnist-cnn --clip-norm nan": "--clip-norm is nan; give a finite number above 0.",
    "mnist-cnn --patience 0": "--patience is 0; give a whole number of at least 1.",
    "mnist-cnn --batch-size -3": "--batch-size is -3; give a whole number of at least 1.",
    "mnist-cnn --save-every 0": "--save-every is 0; give a whole number of at least 1.",
    "mnist-cnn --max-seconds nan": "--max-seconds is nan; give a finite number above 0.",
    "mnist-cnn --steps 2147483648": "--steps is 2147483648; give a whole number of at least 1 and below "
    "2147483648.",
    "mnist-cnn --seed -1": "--seed is -1; give a whole number of at least 0 and below 4294967296.",
    "mnist-resnet --dropout 1": "--dropout is 1.0; give a finite number of at least 0 and below 1.",
    "mnist-resnet --weight-decay nan": "--weight-decay is nan; give a finite number of at least 0.",
    "mnist-resnet --width 0": "--width is 0; give a whole number of at least 1.",
    "char-gpt --temperature inf": "--temperature is inf; give a finite number of at least 0.",
    "char-gpt --layers 0": "--layers is 0; give a whole number of at least 1.",
    "char-gpt --eval-every -1": "--eval-every is -1; give a whole number of at least 1.",
    "linear-regression --num-points -1": "--num-points is -1; give a whole number of at least 1.",
}


def said(capsys, *args):
    """What a command that fails says, in one line."""
    with pytest.raises(SystemExit) as stop:
        main(list(map(str, args)))
    out, err = capsys.readouterr()
    assert (stop.value.code, out) == (2, "")
    assert err.startswith("fourbeat: ") and err.endswith("\n") and err.count("\n") == 1
    return err.removeprefix("fourbeat: ").rstrip("\n")


@pytest.mark.parametrize("flags", FLAGS)
def test_a_flag_out_of_range_is_refused_by_its_own_name(flags, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert said(capsys, "train", *flags.split()) == FLAGS[flags]
    assert not list(tmp_path.iterdir())


NO_RUN = "is of no run: it holds no recipe's name with its flags."
CONFIG = {"recipe": "mnist-cnn", "flags": {"steps": 4}}
DAMAGED = {  # a config.json edited by hand, and what is said of it
    "cut": ("{", "is damaged: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)."),
    "empty": ("", "is damaged: Expecting value: line 1 column 1 (char 0)."),
    "list": ("[1]", "is damaged: it holds list, and no object."),
    "null": ("null", "is damaged: it holds NoneType, and no object."),
    "deep": ("[" * 100_000, "is damaged: it is nested too deeply."),
    "no flags": (json.dumps({**CONFIG, "flags": None}), NO_RUN),
    "flags in a list": (json.dumps({**CONFIG, "flags": [1]}), NO_RUN),
    "no recipe": ('{"flags": {}}', NO_RUN),
    "text": (
        json.dumps({**CONFIG, "flags": {"batch_size": "32"}}),
        ": --batch-size is '32'; give a whole number of at least 1.",
    ),
    "fraction": (
        json.dumps({**CONFIG, "flags": {"batch_size": 1.5}}),
        ": --batch-size is 1.5; give a whole number of at least 1.",
    ),
    "truth": (
        json.dumps({**CONFIG, "flags": {"batch_size": True}}),
        ": --batch-size is True; give a whole number of at least 1.",
    ),
    "nothing": (
        json.dumps({**CONFIG, "flags": {"batch_size": None}}),
        ": --batch-size is None; give a whole number of at least 1.",
    ),
    "choice": (
        json.dumps({**CONFIG, "flags": {"optimizer": "lion"}}),
        ": --optimizer is 'lion'; give one of 'adamw', 'adam', 'momentum', 'rmsprop', 'sgd'.",
    ),
    "object": (
        json.dumps({**CONFIG, "flags": {"clip_norm": {}}}),
        ": --clip-norm is {}; give a finite number above 0.",
    ),
    "nan": (
        '{"recipe": "mnist-cnn", "flags": {"learning_rate": NaN}}',
        ": --learning-rate is None; give a finite number of at least 0.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_config_that_was_edited_by_hand_is_named(kind, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text, wanted = DAMAGED[kind]
    wanted = f"run/config.json{'' if wanted.startswith(':') else ' '}{wanted}"
    Path("run").mkdir()
    Path("run/config.json").write_text(text)
    (tmp_path / "digit-idx3").write_bytes(b"\0\0\x08\x03" + b"\0\0\0\x01" * 3 + b"\xff")
    assert said(capsys, "evaluate", "run") == wanted
    assert said(capsys, "train", "mnist-cnn", "--resume", "run") == wanted
    assert said(capsys, "train", "mnist-cnn", "--resume", "latest", "--out", "run") == wanted
    assert Path("run/config.json").read_text() == text


def test_a_damaged_checkpoint_and_a_full_disk_are_one_line_too(trained_run, capsys, tmp_path, monkeypatch):
    path, _ = trained_run
    shutil.copytree(path, tmp_path / "run")
    for digest in (tmp_path / "run").glob("checkpoints/*/digest.json"):
        digest.write_text("{")
    run = tmp_path / "run"
    for args in (("evaluate", run), ("train", "mnist-cnn", "--resume", run)):
        text = said(capsys, *args)
        for step in (2, 4):
            assert (
                f"{run}/checkpoints/step-{step}-save-{step // 2} is damaged: digest.json cannot be read"
                in text
            )

    def full(config):
        raise CheckpointError("cannot save step 3 in x: No space left on device.\nNothing was saved.")

    monkeypatch.setattr(linear_regression, "train", full)
    assert said(capsys, "train", "linear-regression") == (
        "cannot save step 3 in x: No space left on device. Nothing was saved."
    )


def test_an_error_that_nobody_foresaw_is_one_line_with_the_way_to_its_place(capsys, monkeypatch):
    def broken(config):
        raise KeyError("conv1")

    monkeypatch.setattr(linear_regression, "train", broken)
    assert said(capsys, "train", "linear-regression") == (
        "KeyError: 'conv1' (FOURBEAT_TRACEBACK=1 in the environment shows where)"
    )
    monkeypatch.setenv("FOURBEAT_TRACEBACK", "1")
    with pytest.raises(KeyError):
        main(["train", "linear-regression"])


def test_every_recipe_goes_on_and_text_in_errors_steers_no_terminal(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert said(capsys, "train", "linear-regression", "--resume", "x") == (
        "--resume x: there is no run of linear-regression in that directory."
    )
    assert said(capsys, "evaluate", "a\x1b[31mb\nc") == (
        "there is no run in a\\x1b[31mb c. `fourbeat runs` lists those that are there."
    )


@pytest.mark.parametrize("columns", ["20", "40", "200"])
def test_an_error_does_not_depend_on_the_width_of_the_screen(columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    assert said(capsys, "train", "mnist-cnn", "--steps", "many") == (
        "Error parsing --steps: invalid literal for int() with base 10: 'many' (see fourbeat train mnist-cnn "
        "--help)"
    )
    assert os.environ["COLUMNS"] == columns


MODULE = """
import sys
class Secret: pass
def needs(x): return 2 * x
def leaves(): sys.exit(1)
def fails(): raise RuntimeError("no")
"""


def test_a_function_that_could_not_be_checked_is_not_called_impure(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "uncheckable.py").write_text(MODULE)
    (tmp_path / "leaving.py").write_text("import sys; sys.exit(1)")
    (tmp_path / "failing.py").write_text("1 / 0")
    (tmp_path / "unwritten.py").write_text("def f(:")
    texts = {
        "uncheckable:needs": "cannot check 'uncheckable:needs': it failed with TypeError: needs() missing 1 "
        "required positional argument: 'x'. Give the arguments that it needs: --args '(...)'.",
        "uncheckable:leaves": "cannot check 'uncheckable:leaves': it failed with SystemExit: 1. Give the "
        "arguments that it needs: --args '(...)'.",
        "leaving:f": "cannot check 'leaving:f': importing leaving failed with SystemExit: 1.",
        "failing:f": "cannot check 'failing:f': importing failing failed with ZeroDivisionError: division by "
        "zero.",
        "unwritten:f": "cannot check 'unwritten:f': importing unwritten failed with SyntaxError: invalid "
        "syntax (unwritten.py, line 1).",
    }
    for target, text in texts.items():
        assert said(capsys, "check", target) == text
    assert said(capsys, "check", "uncheckable:fails").startswith(
        "cannot check 'uncheckable:fails': it failed "
    )


def test_json_output_is_json_where_the_scores_are_nan(trained_run, few_test_images, capsys, monkeypatch):
    from fourbeat.recipes.digits import scores

    path, states = trained_run
    broken = states[2].replace()
    broken.params["linear2"]["bias"] = broken.params["linear2"]["bias"] * np.nan
    real = scores.load
    monkeypatch.setattr(
        scores, "load", lambda *args, **options: real(*args, **options)._replace(state=broken)
    )
    main(["evaluate", str(path), "--json"])

    def refuse(constant):
        raise AssertionError(constant)

    printed = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert printed["loss"] is None and math.isfinite(printed["accuracy"])


def process(*args, **options):
    code = "from fourbeat.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *args], capture_output=True, text=True, check=False, **options
    )


def test_the_first_line_is_the_error_and_a_run_of_nan_is_no_success(tmp_path):
    for flags in (["--stepps", "3"], ["--steps", "0"], ["--resume", "nowhere"]):
        done = process("train", "mnist-cnn", *flags, cwd=tmp_path)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert done.stderr.startswith("fourbeat: ") and "loading" not in done.stderr
    flags = ["--learning-rate", "1e30", "--out", "run"]
    done = process("train", "linear-regression", *flags, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "fourbeat: the run run ended with weight nan, bias nan: it is not finished. Lower --learning-rate, "
        "or look for the first bad step with a guard."
    )
    assert not (tmp_path / "run/result.json").exists()


def test_closed_outputs_and_an_encoding_without_the_letters_are_no_errors(tmp_path):
    command = f"{sys.executable} -c 'from fourbeat.cli import main; main()' runs läufe"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    expected = {
        "": b"no runs below l\\xe4ufe\n",
        ">&-": b"",
        "2>&-": b"no runs below l\\xe4ufe\n",
        ">&- 2>&-": b"",
    }
    for redirected, out in expected.items():
        done = subprocess.run(
            ["bash", "-c", f"{command} {redirected}"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, out, b"")
