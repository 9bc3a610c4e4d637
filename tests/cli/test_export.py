"""`fourbeat export`: the files give what the model of the run gives, without fourbeat."""

import importlib.util
import os
import re

import jax
import numpy as np
import pytest
import safetensors.numpy

import fourbeat as fb
from fourbeat import runs
from fourbeat.cli import main
from fourbeat.recipes import char_gpt


def test_the_folder_of_a_run_gives_its_predictions(trained_run, tmp_path, capsys):
    path, states = trained_run
    main(["export", str(path), "--to", str(tmp_path / "a")])
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert (lines[0], lines[-1], err) == (
        f"{path}   step 2   stablehlo",
        "largest difference to fb.predictor: 0",
        "",
    )
    names = ["README.md", "program.stablehlo", "signature.json", "weights.safetensors"]
    assert lines[1:-1] == [
        f"{file}   {file.stat().st_size:,} bytes" for file in map((tmp_path / "a").joinpath, names)
    ]
    loaded = fb.models.load(tmp_path / "a")
    images = fb.data.mnist()[1].columns["image"][:5]
    logits = jax.jit(lambda model, x: model(x))(states[2].model, images.astype(np.float32) / np.float32(255))
    np.testing.assert_allclose(loaded.predict({"image": images}), logits, atol=1e-5)
    assert (loaded.classes, loaded.signature.step) == (tuple("0123456789"), 2)
    with pytest.raises(SystemExit) as stop:
        main(["export", str(path), "--to", str(tmp_path / "a")])
    assert stop.value.code == 2
    assert capsys.readouterr().err == f"fourbeat: {tmp_path / 'a'} is there already. Choose another --to.\n"


def test_the_weights_alone(trained_run, tmp_path, capsys):
    path, states = trained_run
    main(["export", str(path), "--to", str(tmp_path), "--format", "safetensors", "--step", "latest"])
    assert capsys.readouterr().out.splitlines()[-1] == "largest difference to the model: 0"
    weights = safetensors.numpy.load_file(tmp_path / "weights.safetensors")
    np.testing.assert_array_equal(weights["conv1/kernel"], states[4].params["conv1"]["kernel"])
    assert len(weights) == len(jax.tree.leaves(states[4].params))


def test_onnx_is_compared_with_onnxruntime(trained_run, tmp_path, capsys):
    pytest.importorskip("jax2onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    path, states = trained_run
    main(["export", str(path), "--to", str(tmp_path / "a"), "--format", "onnx"])
    out = capsys.readouterr().out
    told = re.search(r"largest difference to JAX, of what onnxruntime computes in float32: (\S+)\n$", out)
    session = onnxruntime.InferenceSession(tmp_path / "a" / "model.onnx", providers=["CPUExecutionProvider"])
    images = fb.data.mnist()[1].columns["image"][:32]
    (logits,) = session.run(["outputs"], {"image": images})
    expected = states[2].model(images.astype(np.float32) / 255)
    assert 0 < float(told[1]) < 1e-5 and np.abs(logits - expected).max() < 1e-5
    (logits,) = session.run(None, {"image": images[:7]})  # any number of examples
    np.testing.assert_allclose(logits, expected[:7], atol=1e-5)
    assert os.listdir(tmp_path / "a") == ["model.onnx"]


def test_without_the_extra_onnx_says_what_to_install(trained_run, tmp_path, capsys, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *more: None if name == "jax2onnx" else find_spec(name, *more),
    )
    with pytest.raises(SystemExit) as stop:
        main(["export", str(trained_run[0]), "--to", str(tmp_path / "a"), "--format", "onnx"])
    assert stop.value.code == 2 and not (tmp_path / "a").exists()
    said = "fourbeat: ONNX needs jax2onnx, which is not installed: pip install 'fourbeat[onnx]'\n"
    assert capsys.readouterr().err == said


def test_a_run_of_text_gives_the_logits_of_each_next_character(tmp_path, capsys):
    config = char_gpt.CharGPT(out=tmp_path / "run", context=6, layers=1, width=8, heads=2)
    beats = char_gpt.make_beats(config)
    state = char_gpt.make_state(config, beats)
    with runs.RunDirectory.open("char-gpt", config) as run, fb.Checkpoints(run.path / "checkpoints") as saved:
        saved.save(1, {"state": state})
    main(["export", str(tmp_path / "run"), "--to", str(tmp_path / "a")])
    assert capsys.readouterr().out.splitlines()[-1] == "largest difference to fb.predictor: 0"
    loaded = fb.models.load(tmp_path / "a")
    window = char_gpt.encode("import")[None]
    logits = loaded.predict({"text": window})
    expected = state.model(window.astype(np.int32))  # in float32; the run computes in bfloat16
    assert (logits.shape, len(loaded.classes)) == ((1, 6, char_gpt.NUM_TOKENS), char_gpt.NUM_TOKENS)
    np.testing.assert_allclose(logits, expected, atol=0.2)
    assert loaded.classes[window[0, 0]] == "i"


def test_a_fitted_line(tmp_path, capsys):
    main(["train", "linear-regression", "--steps", "3", "--out", str(tmp_path / "run")])
    main(["export", str(tmp_path / "run"), "--to", str(tmp_path / "a"), "--step", "latest"])
    loaded = fb.models.load(tmp_path / "a")
    weight, bias = loaded.weights["weight"], loaded.weights["bias"]
    np.testing.assert_allclose(loaded.predict({"x": [1.0, 3.0]}), weight * np.array([1, 3]) + bias, rtol=1e-6)
    assert capsys.readouterr().out.splitlines()[-1] == "largest difference to fb.predictor: 0"
