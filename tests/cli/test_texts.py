"""`fourbeat evaluate` and `fourbeat predict` on a run of char-gpt. Its scores: test_char_gpt.py."""

import dataclasses
import json
import re

import jax
import numpy as np
import pytest

import fourbeat as fb
from fourbeat import runs
from fourbeat.cli import main
from fourbeat.recipes import char_gpt
from tests.oracles import char_gpt_text as by_hand


@pytest.fixture(scope="module")
def text_run(tmp_path_factory):
    """`(path, config, states)` of a run with states of steps 2 (the best) and 4 (the latest), untrained."""
    library = by_hand.write_library(tmp_path_factory.mktemp("library"))
    config = char_gpt.CharGPT(
        out=tmp_path_factory.mktemp("runs") / "run", text=str(library), batch_size=8, context=16, layers=1,
        width=16, heads=2, sample_length=20,
    )  # fmt: skip
    beats, states = char_gpt.make_beats(config), {}
    run = runs.RunDirectory.open("char-gpt", config)
    with run, fb.Checkpoints(run.path / "checkpoints", keep_last=2) as checkpoints:
        for step, score in ((2, 1.5), (4, 2.5)):
            seeded = char_gpt.CharGPT(**{**vars(config), "seed": step})
            states[step] = char_gpt.make_state(seeded, beats).replace(step=step)
            checkpoints.save(step, {"state": states[step]}, score=score)
    return run.path, config, states


def test_the_lowest_loss_is_the_best_and_the_table_has_a_row_a_file(text_run, capsys):
    path, config, _ = text_run
    main(["evaluate", str(path)])
    first, header, *rows, last = capsys.readouterr().out.splitlines()
    _, files, _ = char_gpt.read_files(config)
    total = sum(map(len, files.values()))
    assert first == f"{path}   step 2   {total:,} characters in {len(files)} held-out files"
    assert header.split() == ["file", "characters", "loss", "perplexity"]
    cells = [row.split() for row in rows]
    assert [(name, int(size.replace(",", ""))) for name, size, *_ in cells] == [
        (name, len(tokens)) for name, tokens in files.items()
    ]
    mean = np.average([float(loss) for *_, loss, _ in cells], weights=[int(cell[1]) for cell in cells])
    said = last.split()
    assert (said[:3], said[4]) == (["held", "out", "loss"], "perplexity")
    assert float(said[3]) == pytest.approx(mean, abs=1e-4)
    assert float(said[5]) == pytest.approx(np.exp(mean), rel=1e-3)


def test_it_goes_on_with_the_end_of_each_file(text_run, tmp_path, capsys):
    path, config, states = text_run
    contents = {"a.py": "import os\n\ndef f", "empty.txt": "", "long.py": "x = 1\n" * 50}
    for name, content in contents.items():
        (tmp_path / name).write_text(content)
    files = [str(tmp_path / name) for name in contents]
    main(["predict", str(path), *files, "--json", "--step", "latest"])
    said = json.loads(capsys.readouterr().out)
    assert (said["run"], said["step"]) == (str(path), 4)
    assert [row["file"] for row in said["predictions"]] == files
    draw = jax.jit(char_gpt.make_beats(config).predict_step)
    drawn = draw(states[4], char_gpt.prompted(config, [*contents.values()]))
    for row, content, tokens in zip(said["predictions"], contents.values(), drawn, strict=True):
        assert row["prompt"] == content[-16:]
        assert row["continuation"] == char_gpt.decode(np.asarray(tokens)) and len(row["continuation"]) == 20
    assert said["characters"] == 60 and said["seconds"] > 0 and said["compile_seconds"] > 0
    main(["predict", str(path), *files, "--step", "latest"])
    go_on = [row["continuation"] for row in said["predictions"]]
    shown, speed, moves = re.split(r"--- (60 characters in .*)\n", capsys.readouterr().out)
    assert shown == (
        f"{path}   step 4   20 characters at temperature 0.8\n"
        f"--- {files[0]} goes on after 'def f'\ndef f{go_on[0]}\n"
        f"--- {files[1]} goes on\n{go_on[1]}\n--- {files[2]} goes on\n{go_on[2]}\n"
    )
    assert re.fullmatch(r"60 characters in \d+\.\d\d s: [\d,]+ a second, after \d+\.\d s of compiling", speed)
    assert moves == "--- after 16 characters the window moves: each then costs a whole window\n"


def test_prompts_go_on_as_the_flags_say(text_run, capsys):
    path, config, states = text_run
    flags = ["--length", "5", "--temperature", "0.5", "--top-k", "4", "--top-p", "0.9", "--stop", "zz"]
    main(["predict", str(path), "--prompt", "a = ", "--prompt", "", "--step", "latest", *flags])
    first, *shown, _ = capsys.readouterr().out.splitlines()
    assert first == (
        f"{path}   step 4   5 characters at temperature 0.5, of the 4 likeliest, of those that have 0.9 "
        "together, up to 'zz'"
    )
    asked = dataclasses.replace(config, sample_length=5, temperature=0.5, top_k=4, top_p=0.9, stop="zz")
    drawn = jax.jit(char_gpt.make_beats(asked).predict_step)(
        states[4], char_gpt.prompted(asked, ["a = ", ""])
    )
    texts = [char_gpt.text_of(asked, tokens) for tokens in drawn]
    said = f"--- the prompt goes on after 'a = '\na = {texts[0]}\n--- the prompt goes on\n{texts[1]}"
    assert "\n".join(shown) == said


def test_flags_for_texts_are_refused_by_a_run_on_digits(tmp_path, capsys):
    (tmp_path / "config.json").write_text(json.dumps({"recipe": "mnist-cnn", "flags": {}}))
    with pytest.raises(SystemExit) as stop:
        main(["predict", str(tmp_path), "--prompt", "a", "--length", "3", "--top-k", "2"])
    text = f"fourbeat: {tmp_path} is no run on text. Leave out --prompt, --length, --top-k.\n"
    assert (stop.value.code, capsys.readouterr().err) == (2, text)


def test_every_bad_file_is_one_line_and_status_2(text_run, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path, _, _ = text_run
    (tmp_path / "folder").mkdir()
    texts = {
        "": "predict needs texts to go on with: fourbeat predict RUN FILE..., or RUN --prompt TEXT.",
        "--prompt a --top-k 0": "--top-k is 0; give a whole number of at least 1.",
        "--prompt a --temperature -1": "--temperature is -1.0; give a finite number of at least 0.",
        "missing.py": "cannot read missing.py: No such file or directory.",
        "folder": "cannot read folder: Is a directory.",
    }
    for files, text in texts.items():
        with pytest.raises(SystemExit) as stop:
            main(["predict", str(path), *files.split()])
        assert (stop.value.code, *capsys.readouterr()) == (2, "", f"fourbeat: {text}\n")
