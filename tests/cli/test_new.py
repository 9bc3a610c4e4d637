"""`fourbeat new`: a file of the user's own does what the recipe does, bit for bit."""

import functools
import importlib.util
import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import fourbeat as fb
from fourbeat.cli import main
from fourbeat.recipes import RECIPES, linear_regression, mnist_cnn, mnist_resnet
from tests.kinds import assert_bit_equal

FLAGS = ["--steps", "3", "--batch-size", "128", "--seed", "1"]
CONFIG = {"steps": 3, "batch_size": 128, "seed": 1}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """`(directory, state)` of a short run of the recipe itself."""
    out = tmp_path_factory.mktemp("recipe") / "run"
    return out, mnist_cnn.train(mnist_cnn.MnistCNN(out=out, **CONFIG))


def in_folder(folder, *command):
    done = subprocess.run([sys.executable, *command], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not re.sub(r"(step \d+/\d+|compil\S+ ).*\n", "", done.stderr)  # the progress alone
    return done.stdout


def run_here(monkeypatch, *flags):
    """`python train.py` with these flags, in this process."""
    monkeypatch.setattr(sys, "argv", ["train.py", *flags])
    runpy.run_path("train.py", run_name="__main__")


def loaded(path):
    """A file as a module, under a name of its own."""
    spec = importlib.util.spec_from_file_location(f"own_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_users_own_file_gives_what_the_recipe_gives(recipe, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path, state = recipe
    main(["new", "mnist-cnn", "train.py"])
    assert capsys.readouterr().out == "written to train.py; run it with: python train.py\n"
    in_folder(tmp_path, "train.py", *FLAGS, "--out", "own")
    own = Path("own")
    assert own.joinpath("metrics.jsonl").read_bytes() == (path / "metrics.jsonl").read_bytes()
    described, expected = (json.loads((run / "config.json").read_text()) for run in (own, path))
    assert (described["recipe"], described["flags"]) == ("mnist-cnn", expected["flags"])
    assert_bit_equal(
        fb.Checkpoints("own/checkpoints").restore({"state": state}, partial=True)[0]["state"], state
    )
    main(["evaluate", "own", "--json", "--step", "latest"])
    scores = json.loads(capsys.readouterr().out)
    assert json.loads(own.joinpath("result.json").read_text()) == {k: scores[k] for k in ("loss", "accuracy")}
    run_here(monkeypatch, "--resume", "own")  # its own flags are the defaults: 3 steps, not 5,000
    assert capsys.readouterr().out.startswith("own is finished, nothing to do   result loss ")
    with pytest.raises(SystemExit):
        run_here(monkeypatch, "--resume", "nowhere")
    assert capsys.readouterr().err == (
        "fourbeat: --resume nowhere: there is no run of mnist-cnn in that directory.\n"
    )


def test_it_differs_from_the_recipe_by_how_to_run_it_alone(tmp_path):
    for name, recipe in RECIPES.items():
        main(["new", name, str(tmp_path / f"{name}.py")])
        own = (tmp_path / f"{name}.py").read_text()
        original = recipe.file.read_text()
        body, tail = own.split("\n\nif __name__")
        assert body.replace(f'"python {name}.py"', f'"fourbeat train {name}"') == original
        call = rf'from fourbeat.cli import run_file\n\n    run_file\("{name}", \w+, train\)\n'
        assert re.fullmatch(f' == "__main__":\n    {call}', tail)


def test_its_flags_and_errors_are_those_of_the_recipe(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main(["new", "linear-regression", "train.py"])
    run = functools.partial(run_here, monkeypatch)
    capsys.readouterr()
    not_a_number = "Error parsing --steps: invalid literal for int() with base 10: 'many'"
    no_steps = "--steps is 0; give a whole number of at least 1 and below 2147483648."
    for flags, status, said in (
        (["--steps", "many"], 2, f"fourbeat: {not_a_number} (see python train.py --help)\n"),
        (["--steps", "0"], 2, f"fourbeat: {no_steps}\n"),
        (["--help"], 0, ""),
    ):
        with pytest.raises(SystemExit) as stop:
            run(*flags)
        out, err = capsys.readouterr()
        assert (stop.value.code, err) == (status, said)
        assert ("Gradient steps, each over all points." in out) == (flags == ["--help"])
    run("--steps", "20", "--out", "own")
    linear_regression.train(linear_regression.LinearRegression(steps=20, out=Path("theirs")))
    for name in ("metrics.jsonl", "result.json"):
        assert Path("own", name).read_bytes() == Path("theirs", name).read_bytes()


def test_plain_it_gives_the_same_bits_without_fourbeat(recipe, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path, state = recipe
    main(["new", "mnist-cnn", "train.py", "--plain"])
    assert capsys.readouterr().out == (
        "written to train.py; run it with: python train.py\nits data, 11 MB: mnist\n"
    )
    without = "import sys, runpy; sys.modules['fourbeat'] = None; sys.argv[0] = 'train.py'; "
    printed = in_folder(tmp_path, "-c", f"{without}runpy.run_path('train.py', run_name='__main__')", *FLAGS)
    parameters = np.load("parameters.npz")
    expected = {
        jax.tree_util.keystr(place, simple=True, separator="."): leaf
        for place, leaf in jax.tree.leaves_with_path(state.params)
    }
    assert_bit_equal(dict(parameters), expected)
    said, test = (json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines())
    lines = printed.splitlines()
    numbers = [float(number) for number in re.findall(r"\d+\.\d+", lines[0])]
    names = ("train_loss", "train_accuracy", "eval_loss", "eval_accuracy")
    np.testing.assert_allclose(numbers, [said[name] for name in names], atol=1e-4)
    assert lines[0].startswith("step     3   train loss ")
    assert lines[1] == f"test loss {test['test_loss']:.4f}   test accuracy {test['test_accuracy']:.4f}"


def test_plain_linear_regression_gives_the_same_bits(tmp_path, capsys):
    main(["new", "linear-regression", str(tmp_path / "line.py"), "--plain"])
    assert "fourbeat" not in (tmp_path / "line.py").read_text()
    line = loaded(tmp_path / "line.py").train(steps=200, seed=3)
    state = linear_regression.train(
        linear_regression.LinearRegression(steps=200, seed=3, out=tmp_path / "run")
    )
    assert_bit_equal(list(line), list(state.model))
    _, *lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == lines[3:5]
    assert lines[0].startswith("fit   weight")


def test_plain_mnist_resnet_gives_the_same_bits(tmp_path, monkeypatch, capsys):
    flags = {"steps": 3, "batch_size": 64, "seed": 1, "width": 2}
    train_data, test_data = fb.data.mnist()
    monkeypatch.setattr(fb.data, "mnist", lambda: (train_data, test_data[:1000]))
    monkeypatch.setattr(mnist_resnet, "HELD_OUT", 500)
    state = mnist_resnet.train(mnist_resnet.MnistResNet(out=tmp_path / "run", **flags))
    said = [line for line in capsys.readouterr().out.splitlines() if " accuracy " in line]
    expected = [line.partition("   best ")[0] for line in said]  # a file without runs knows no best step
    main(["new", "mnist-resnet", str(tmp_path / "train.py"), "--plain"])
    capsys.readouterr()
    assert "fourbeat" not in (tmp_path / "train.py").read_text()
    own = loaded(tmp_path / "train.py")
    read, own.HELD_OUT = own.read_mnist, 500
    few = {"train": None, "t10k": 1000}
    own.read_mnist = lambda folder, part: tuple(column[: few[part]] for column in read(folder, part))
    model = own.train(tmp_path / "mnist", **flags)
    assert capsys.readouterr().out.splitlines() == expected
    own.save(model, tmp_path / "parameters.npz")
    learnt = dict(np.load(tmp_path / "parameters.npz"))
    for tree in (state.params, state.rest):
        for place, leaf in jax.tree.leaves_with_path(tree):
            name = jax.tree_util.keystr(place, simple=True, separator=".")
            if not name.startswith("dropout"):
                assert_bit_equal(learnt.pop(name), leaf)
    assert not learnt


def test_it_never_writes_over_a_file_without_force(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("train.py").write_text("mine")
    Path("mnist").mkdir()
    Path("mnist", "t10k-labels-idx1-ubyte.gz").write_text("mine")
    there = "train.py is there already. Choose another file, or write over it with --force."
    texts = {
        "mnist-cnn train.py": there,
        "mnist-cnn train.py --plain": there,
        "mnist-cnn mnist": "mnist is a folder. Name the file to write, such as mnist/train.py.",
        "mnist-cnn none/train.py": "cannot write none/train.py: No such file or directory.",
        "mnist train.py": f"there is no recipe mnist; there are {', '.join(RECIPES)}.",
    }
    for arguments, text in texts.items():
        with pytest.raises(SystemExit) as stop:
            main(["new", *arguments.split()])
        assert (stop.value.code, *capsys.readouterr()) == (2, "", f"fourbeat: {text}\n")
    assert Path("train.py").read_text() == "mine"
    assert sorted(path.name for path in Path("mnist").iterdir()) == ["t10k-labels-idx1-ubyte.gz"]
    main(["new", "mnist-cnn", "train.py", "--plain", "--force"])
    assert Path("train.py").read_text().startswith('"""A small CNN on MNIST in plain JAX')
    assert Path("mnist", "t10k-labels-idx1-ubyte.gz").read_text() == "mine"
    assert Path("mnist", "train-images-idx3-ubyte.gz").exists()
