"""The recipe char-gpt on a library of a few files: windows, perplexity, samples, resuming, the plain form."""

import collections
import dataclasses
import json
import re
import runpy
import shutil
import signal
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import fourbeat as fb
from fourbeat.cli import main
from fourbeat.recipes import char_gpt
from fourbeat.recipes.plain import char_gpt as plain
from fourbeat.runs import Interrupted
from tests.kinds import assert_bit_equal
from tests.oracles import char_gpt_text as by_hand

CONTEXT, LENGTH = 16, 40
TINY = {
    "steps": 6, "batch_size": 8, "context": CONTEXT, "layers": 1, "width": 16, "heads": 2,
    "eval_every": 3, "save_every": 3, "sample_length": LENGTH, "seed": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return by_hand.write_library(tmp_path_factory.mktemp("library"))


@pytest.fixture(scope="module")
def whole(library, tmp_path_factory):
    """`(config, state)` of a run that nothing stopped."""
    config = char_gpt.CharGPT(out=tmp_path_factory.mktemp("whole") / "run", text=str(library), **TINY)
    return config, char_gpt.train(config)


def lines_of(path):
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def test_every_character_of_every_file_is_predicted_once_from_those_before_it(library):
    config = char_gpt.CharGPT(text=str(library), **TINY)
    *files, _ = char_gpt.read_files(config)
    assert [list(part) for part in files] == [list(part) for part in by_hand.names(library)]
    for part in files:
        windows = char_gpt.make_windows(part, CONTEXT).columns
        expected = [row for name in part for row in by_hand.windows((library / name).read_text(), CONTEXT)]
        assert len(expected) == len(windows["text"])
        for text, weight, (tokens, counted) in zip(windows["text"], windows["weight"], expected, strict=True):
            assert text.tolist() == tokens and weight.tolist() == counted
    train_batches, valid_batches, held_out_batches = char_gpt.make_batches(config)
    seen = collections.Counter()
    for batch in train_batches:
        text, weight = batch.materialize()["text"], batch.materialize()["weight"]
        seen.update(np.asarray(text)[:, 1:][np.asarray(weight) == 1].tolist())
    texts = [(library / name).read_text() for name in files[0]]
    assert seen == collections.Counter(by_hand.token(character) for text in texts for character in text)
    assert held_out_batches.num_examples == len(expected)
    assert valid_batches.num_examples == -(-len(expected) // 10)


def test_what_is_no_text_is_left_out_and_named(tmp_path, capsys):
    for number in range(40):
        (tmp_path / f"{number}.py").write_text(f"x = {number}\r\n")
    (tmp_path / "a.py").write_bytes(b"x = 1\0")
    (tmp_path / "b.py").write_bytes(b"# caf\xe9")
    char_gpt.make_batches(char_gpt.CharGPT(text=str(tmp_path), context=8))
    assert capsys.readouterr().out == (
        f"left out: {tmp_path}/a.py: it is no text: its byte 5 is 0x00\n"
        f"left out: {tmp_path}/b.py: it is no UTF-8 text: its byte 5 is 0xe9\n"
        "left out: 2 files in all\n"
    )
    learnt, held_out, _ = char_gpt.read_files(char_gpt.CharGPT(text=str(tmp_path)))
    assert {**learnt, **held_out}.keys() == {f"{number}.py" for number in range(40)}
    assert char_gpt.decode({**learnt, **held_out}["7.py"]) == "x = 7\n"
    assert list(map(len, plain.read_files(tmp_path))) == [len(learnt), len(held_out)]


def test_the_library_of_the_running_python_is_read_without_its_tests():
    learnt, held_out, _ = char_gpt.read_files(char_gpt.CharGPT())
    assert len(learnt) > 300 and len(held_out) > 15 and not set(learnt) & set(held_out)
    assert {"argparse.py", "json/decoder.py"} <= {*learnt, *held_out}
    assert not [name for name in learnt if {"test", "tests", "site-packages"} & set(name.split("/"))]
    read = char_gpt.decode({**learnt, **held_out}["argparse.py"])
    assert read == Path(__import__("argparse").__file__).read_text()


def test_perplexity_is_that_of_numpy_over_every_held_out_character(whole, library, capsys):
    config, state = whole
    _, held_out = by_hand.names(library)
    with fb.precision.Policy(compute="bfloat16").computing(model := state.model):
        forward = jax.jit(model)
        losses = {name: by_hand.losses(forward, (library / name).read_text(), CONTEXT) for name in held_out}
    mean = np.concatenate(list(losses.values())).mean()
    test = lines_of(config.out)[-1]
    np.testing.assert_allclose(
        [test["test_loss"], np.log(test["test_perplexity"])], mean, rtol=1e-3
    )  # bfloat16
    main(["evaluate", str(config.out), "--json"])
    said = json.loads(capsys.readouterr().out)
    assert (said["step"], said["characters"]) == (6, sum(map(len, losses.values())))
    np.testing.assert_allclose([said["loss"], np.log(said["perplexity"])], mean, rtol=1e-3)
    assert [row["file"] for row in said["files"]] == list(losses)
    expected = [loss.mean() for loss in losses.values()]
    losses_of_files, sizes = zip(*[(row["loss"], row["characters"]) for row in said["files"]], strict=True)
    np.testing.assert_allclose(losses_of_files, expected, rtol=1e-3)
    assert said["loss"] == pytest.approx(np.average(losses_of_files, weights=sizes), rel=1e-9)


PROMPTS = ("", "def f", "a prompt that is longer than the window")


@pytest.fixture(scope="module")
def untrained(library):
    """`(config, state, forward, draw)`: `forward` reads a whole window, without a cache."""
    config = char_gpt.CharGPT(text=str(library), precision="float32", temperature=0.5, **TINY)
    beats = char_gpt.make_beats(config)
    state = char_gpt.make_state(config, beats)
    return config, state, jax.jit(state.model), jax.jit(beats.predict_step)


def test_samples_of_a_batch_are_those_drawn_one_by_one_from_whole_windows(untrained):
    config, state, forward, draw = untrained
    drawn = draw(state, char_gpt.prompted(config, PROMPTS))
    assert (drawn.shape, drawn.dtype) == ((3, LENGTH), jnp.int32)
    for prompt, row in zip(PROMPTS, drawn, strict=True):
        tokens = [char_gpt.START, *map(by_hand.token, prompt)]
        for key in jax.random.split(jax.random.key(config.seed), LENGTH):
            window = np.random.RandomState(len(tokens)).randint(0, 99, CONTEXT)  # what follows is not read
            window[: len(tokens)] = tokens[-CONTEXT:]
            logits = forward(jnp.asarray(window)[None])[0, min(len(tokens), CONTEXT) - 1] / 0.5
            tokens.append(int(jax.random.categorical(key, logits + jnp.log(np.arange(99) > 1))))
        assert row.tolist() == tokens[-LENGTH:]
    draw(state, char_gpt.prompted(config, ["x", "of other lengths", ""]))
    assert draw._cache_size() == 1


def test_the_cache_gives_the_logits_of_the_whole_window(untrained):
    _, state, forward, _ = untrained
    tokens = jnp.asarray(np.random.RandomState(0).randint(2, 99, (1, CONTEXT)))
    expected = forward(tokens)
    model, caches = state.model, state.model.empty_caches(1)
    read_on = jax.jit(model.read_on)
    for place in range(CONTEXT):
        logits, caches = read_on(tokens[:, place : place + 1], jnp.full((1, 1), place), caches)
        np.testing.assert_allclose(logits[:, 0], expected[:, place], rtol=1e-5, atol=1e-5)


def test_a_text_ends_before_its_stop_and_the_others_go_on(untrained):
    config, state, _, draw = untrained
    whole = [char_gpt.decode(np.asarray(row)) for row in draw(state, char_gpt.prompted(config, PROMPTS))]
    config = dataclasses.replace(config, stop=whole[1][7:9])
    drawn = jax.jit(char_gpt.make_beats(config).predict_step)(state, char_gpt.prompted(config, PROMPTS))
    texts = [char_gpt.text_of(config, row) for row in drawn]
    assert texts == [text.partition(config.stop)[0] for text in whole]
    assert len(texts[1]) < LENGTH and max(map(len, texts)) == LENGTH
    assert char_gpt.decode(np.asarray(drawn[1])) == texts[1] + config.stop  # and nothing after it


@pytest.fixture(scope="module")
def other_library(tmp_path_factory):
    """Files of another language, and of another name; a character in a hundred is unknown."""
    folder = tmp_path_factory.mktemp("other")
    for number in range(40):
        line = f'sub f{number} {{ my $x = shift; return $x . "\N{GREEK SMALL LETTER ALPHA}"; }}\n'
        (folder / f"part_{number:02d}.pm").write_text(line * (number % 5 + 1))
    return folder


@pytest.fixture(scope="module")
def tuned(whole, other_library, tmp_path_factory):
    """`(config, state)` of a run that trains adapters beside the weights of `whole` on other text."""
    flags = {name: value for name, value in TINY.items() if name in ("steps", "eval_every", "save_every")}
    config = char_gpt.CharGPT(
        out=tmp_path_factory.mktemp("tuned") / "run", text=str(other_library), pattern="*.pm",
        from_=str(whole[0].out), lora=2, sample_length=5, learning_rate=0.05, **flags,
    )  # fmt: skip
    return config, char_gpt.train(config)


def test_fine_tuning_trains_adapters_alone_and_says_the_loss_before_and_after(
    whole, tuned, other_library, capsys
):
    config, state = tuned
    base = fb.Checkpoints(whole[0].out / "checkpoints", mode="min").restore(
        {"state": whole[1]}, "best", partial=True
    )
    base = base[0]["state"]
    model = state.model
    for name, kernel in (("head", "kernel"), ("token", "embedding")):
        assert_bit_equal(getattr(getattr(model, name), kernel)[...], base.params[name][kernel])
    assert {path[-1].key for path, _ in jax.tree.leaves_with_path(state.params)} == {"lora_a", "lora_b"}
    first, *_, last = lines_of(config.out)
    _, held_out, _ = char_gpt.read_files(config)
    with fb.precision.Policy(compute="bfloat16").computing(before := base.model):
        forward = jax.jit(before)
        losses = [by_hand.losses(forward, (other_library / name).read_text(), CONTEXT) for name in held_out]
    assert first["step"] == 0
    np.testing.assert_allclose(first["before_loss"], np.concatenate(losses).mean(), rtol=1e-3)
    assert last["test_loss"] < first["before_loss"] - 0.05
    main(["evaluate", str(config.out), "--json", "--step", "latest"])
    assert json.loads(capsys.readouterr().out)["loss"] == pytest.approx(last["test_loss"], rel=1e-4)
    again = fb.models.load_lora(base.model, config.out / "adapters.safetensors")
    assert_bit_equal(fb.split(again, nnx.LoRAParam)[1], state.params)
    main(["predict", str(config.out), "--prompt", "sub ", "--length", "3", "--temperature", "0", "--json"])
    (said,) = json.loads(capsys.readouterr().out)["predictions"]
    assert (said["file"], said["prompt"], len(said["continuation"])) == (None, "sub ", 3)


def test_stopped_it_goes_on_without_the_run_it_came_from(whole, tuned, tmp_path, monkeypatch, capsys):
    config, state = tuned
    shutil.copytree(whole[0].out, tmp_path / "base")
    stopped = dataclasses.replace(config, out=tmp_path / "run", from_=str(tmp_path / "base"))
    with monkeypatch.context() as patch:
        patch.setattr(char_gpt, "text_of", lambda *_: signal.raise_signal(signal.SIGTERM) or "")
        with pytest.raises(Interrupted):
            char_gpt.train(stopped)
    shutil.rmtree(tmp_path / "base")
    main(["train", "char-gpt", "--resume", str(tmp_path / "run")])
    said = capsys.readouterr().out
    assert "going on from step 3\n" in said
    resumed = fb.Checkpoints(tmp_path / "run" / "checkpoints").restore({"state": state}, partial=True)
    assert_bit_equal(resumed[0]["state"], state)
    expected, lines = lines_of(config.out), lines_of(tmp_path / "run")
    for line in (*expected, *lines):
        line.pop("sample_text", None)
    assert lines == expected
    first = lines[0]
    before = f"held out before loss {first['before_loss']:.4f} perplexity {first['before_perplexity']:.4f}\n"
    assert before + f"held out loss {lines[-1]['test_loss']:.4f}" in said


def test_a_model_keeps_its_shape_and_text_of_unknown_characters_is_refused(whole, tmp_path):
    for flags, text in (
        (
            {"width": 32},
            f"--width is 32, and that of {whole[0].out} is 16: a model keeps its shape. Leave --width out.",
        ),
        (
            {"pattern": "*.txt"},
            "100.0% of the characters are none of the 97 that the model knows: tab, newline and printable "
            "ASCII. A perplexity of such text would mean nothing. Give other text, or change CHARACTERS in a "
            "file of your own: fourbeat new char-gpt train.py.",
        ),
    ):
        for number in range(40):
            (tmp_path / f"{number}.txt").write_text("\N{GREEK SMALL LETTER ALPHA}" * 9)
        config = char_gpt.CharGPT(out=tmp_path / "run", text=str(tmp_path), from_=str(whole[0].out), **flags)
        with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
            char_gpt.train(config)


def test_stopped_within_an_evaluation_it_evaluates_again_and_ends_with_the_same_bits(
    whole, tmp_path, monkeypatch, capsys
):
    config, state = whole
    stopped = char_gpt.CharGPT(out=tmp_path / "run", text=config.text, **TINY)
    real = fb.data.Batches.__getitem__

    def getitem(batches, step):
        if not batches.shuffle:  # an evaluation
            signal.raise_signal(signal.SIGTERM)
        return real(batches, step)

    with monkeypatch.context() as patch:
        patch.setattr(fb.data.Batches, "__getitem__", getitem)
        with pytest.raises(Interrupted) as caught:
            char_gpt.train(stopped)
    told = f"stopped at step 3, saved; to go on:\nfourbeat train char-gpt --resume {stopped.out}"
    assert (str(caught.value), caught.value.signal) == (told, signal.SIGTERM)
    resumed = char_gpt.CharGPT(out=tmp_path / "run", text=config.text, resume="latest", **TINY)
    assert_bit_equal(char_gpt.train(resumed), state)
    assert (stopped.out / "metrics.jsonl").read_text() == (config.out / "metrics.jsonl").read_text()
    assert "going on from step 3\n" in capsys.readouterr().out
    char_gpt.train(resumed)
    assert f"{stopped.out} is finished, nothing to do   result loss " in capsys.readouterr().out


def test_plain_it_gives_the_same_bits_without_fourbeat_and_without_samples(whole, tmp_path, capsys):
    config, state = whole
    main(["new", "char-gpt", str(tmp_path / "train.py"), "--plain"])
    capsys.readouterr()
    assert [path.name for path in tmp_path.iterdir()] == ["train.py"]
    assert "fourbeat" not in (tmp_path / "train.py").read_text()
    own = runpy.run_path(str(tmp_path / "train.py"))
    flags = {**TINY, "text": config.text, "eval_every": 6}  # one look, at the end: looking changes nothing
    del flags["save_every"]
    own["save"](own["train"](own["Settings"](**flags)), tmp_path / "parameters.npz")
    expected = {
        jax.tree_util.keystr(place, simple=True, separator="."): leaf
        for place, leaf in jax.tree.leaves_with_path(state.params)
    }
    assert_bit_equal(dict(np.load(tmp_path / "parameters.npz")), expected)
    printed = capsys.readouterr().out
    first, last, test = lines_of(config.out)
    assert printed.splitlines()[0].startswith("step     6   train loss ")
    assert last["sample_text"] in printed
    numbers = [float(number) for number in re.findall(r"(?:loss|perplexity) (\d+\.\d+)", printed)]
    wanted = [last["eval_loss"], last["eval_perplexity"], test["test_loss"], test["test_perplexity"]]
    np.testing.assert_allclose(numbers[2:], wanted, rtol=1e-4)
    assert numbers[0] == pytest.approx((first["train_loss"] + last["train_loss"]) / 2, rel=1e-2)


ERRORS = {
    "--heads 3": "--heads is 3, and cannot share out a --width of 128 evenly.",
    "--accumulate 3": "--accumulate is 3, and cannot share out a --batch-size of 8 evenly.",
    "--temperature -1": "--temperature is -1.0; give a finite number of at least 0.",
    "--top-p 1.5": "--top-p is 1.5; give a finite number above 0 and at most 1.",
    "--stop \u00e9": "--stop is '\u00e9', and a character of it is never drawn: no text ends there.",
    "--lora 8": "--lora trains adapters beside the weights of a run. Name the run: --from RUN.",
    "--from nowhere": "there is no run in nowhere. `fourbeat runs` lists those that are there.",
    "--text nowhere": "nowhere has 0 files *.py to learn and 0 to hold out (1 in 20, by their names), and "
    "both are needed. Name a folder with more of them, --text FOLDER, or other names of files, --pattern "
    "NAMES. A Python whose standard library is a zip file has none.",
}  # fmt: skip


@pytest.mark.parametrize("flags", ERRORS)
def test_a_wrong_flag_is_one_message_and_status_2(flags, library, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = [] if "--text" in flags else ["--text", str(library)]
    with pytest.raises(SystemExit) as stop:
        main(["train", "char-gpt", *text, *flags.split()])
    assert (stop.value.code, capsys.readouterr().err) == (2, f"fourbeat: {ERRORS[flags]}\n")
    assert not list(tmp_path.iterdir())
