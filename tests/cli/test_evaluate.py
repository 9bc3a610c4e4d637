"""`fourbeat evaluate`, against scikit-learn on the plain model's predictions."""

import json
import shutil
from pathlib import Path

import numpy as np
import optax
import pytest
from sklearn.metrics import precision_recall_fscore_support

import fourbeat as fb
from fourbeat.cli import main
from fourbeat.recipes import RECIPES, linear_regression

EVALUATED = ", ".join(name for name, recipe in RECIPES.items() if recipe.evaluate)


@pytest.mark.parametrize(("flags", "step"), [([], 2), (["--step", "latest"], 4), (["--step", "2"], 2)])
def test_the_scores_are_those_of_scikit_learn(flags, step, trained_run, few_test_images, capsys):
    path, states = trained_run
    images, labels = few_test_images
    main(["evaluate", str(path), "--json", *flags])
    out, err = capsys.readouterr()
    scores = json.loads(out)
    logits = np.asarray(states[step].model(images.astype(np.float32) / 255))
    predicted = logits.argmax(-1)
    precision, recall, _, count = precision_recall_fscore_support(
        labels, predicted, labels=range(10), zero_division=0
    )
    assert (scores["run"], scores["step"], scores["examples"], err) == (str(path), step, 300, "")
    np.testing.assert_allclose(scores["precision"], precision, rtol=1e-6)
    np.testing.assert_allclose(scores["recall"], recall, rtol=1e-6)
    assert scores["accuracy"] == pytest.approx((predicted == labels).mean(), rel=1e-6)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    assert scores["loss"] == pytest.approx(float(losses.mean()), rel=1e-4)
    if flags:
        return
    main(["evaluate", str(path)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{path}   step {step}   300 test examples"
    assert lines[1].split() == ["class", "precision", "recall", "examples"]
    rows = [line.split() for line in lines[2:12]]
    assert rows == [[str(k), f"{precision[k]:.4f}", f"{recall[k]:.4f}", str(count[k])] for k in range(10)]
    assert lines[12] == f"test loss {scores['loss']:.4f}   test accuracy {scores['accuracy']:.4f}"


def test_where_no_checkpoint_has_a_score_it_takes_the_latest_and_says_so(
    trained_run, few_test_images, tmp_path, capsys
):
    path, states = trained_run
    run = tmp_path / "unscored"
    run.mkdir()
    shutil.copy(path / "config.json", run)
    fb.Checkpoints(run / "checkpoints", asynchronous=False).save(1, {"state": states[2]})
    main(["evaluate", str(run)])
    out, err = capsys.readouterr()
    assert out.startswith(f"{run}   step 2   ")
    assert err == f"no checkpoint of {run} has a score yet; this is the latest\n"


def test_latest_is_the_newest_run_that_can_be_evaluated(
    trained_run, few_test_images, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", "latest"])
    assert (stop.value.code, capsys.readouterr().err) == (
        2,
        f"fourbeat: there is no run of {EVALUATED} below runs. Name the run's directory.\n",
    )
    for name, begun in (("a", "2030-01-01T00:00:00+00:00"), ("z", "2020-01-01T00:00:00+00:00")):
        shutil.copytree(trained_run[0], Path("runs/mnist-cnn") / name)
        config = Path("runs/mnist-cnn") / name / "config.json"
        config.write_text(json.dumps({**json.loads(config.read_text()), "begun": begun}))
    linear_regression.train(linear_regression.LinearRegression(steps=1))  # newer, and nothing to evaluate
    capsys.readouterr()
    main(["evaluate", "latest", "--json"])
    assert json.loads(capsys.readouterr().out)["run"] == "runs/mnist-cnn/a"
    Path("digit-idx3").write_bytes(
        b"\0\0\x08\x03" + b"\0\0\0\x01" + b"\0\0\0\x1c" * 2 + bytes(400) + b"\xff" * 384
    )
    main(["predict", "latest", "digit-idx3", "--json"])
    assert json.loads(capsys.readouterr().out)["run"] == "runs/mnist-cnn/a"


def test_every_wrong_run_is_one_line_and_status_2(trained_run, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path, states = trained_run
    config = (path / "config.json").read_text()
    line, damaged, empty, other = map(Path, ("line", "damaged", "empty", "other"))
    linear_regression.train(linear_regression.LinearRegression(out=line, steps=1))
    for folder, text in ((damaged, "{"), (empty, config), (other, config)):
        folder.mkdir()
        (folder / "config.json").write_text(text)
    smaller = states[2].replace()
    del smaller.params["conv1"]["bias"]
    fb.Checkpoints(other / "checkpoints", asynchronous=False).save(2, {"state": smaller})
    capsys.readouterr()
    texts = {
        "none": "there is no run in none. `fourbeat runs` lists those that are there.",
        "line/fit.png": "there is no run in line/fit.png. `fourbeat runs` lists those that are there.",
        "damaged": "damaged/config.json is damaged: Expecting property name enclosed in double quotes: line "
        "1 column 2 (char 1).",
        "line": f"line is a run of linear-regression; runs of {EVALUATED} can be evaluated.",
        "empty": "empty has no checkpoint. Train it first, or wait for its first one.",
        "other --step latest": "the checkpoint in other is not of this recipe: at "
        "tree['state'].params['conv1']['bias'] it has -, and the recipe float32[32]. 1 places differ.",
        f"{path} --step 3": f"{path} has no checkpoint of step 3; it has 2, 4.",
        f"{path} --step third": "Error parsing --step: no type matching {best,latest}|INT could be "
        "instantiated from ['third']. (see fourbeat evaluate --help)",
    }
    for arguments, text in texts.items():
        with pytest.raises(SystemExit) as stop:
            main(["evaluate", *arguments.split()])
        assert (stop.value.code, *capsys.readouterr()) == (2, "", f"fourbeat: {text}\n")
