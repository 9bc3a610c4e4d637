"""`fourbeat runs`: a row for each run; what is wrong with one hides no other."""

import json
import os
from pathlib import Path

import pytest

from fourbeat.cli import main

SCORE = {"name": "eval_accuracy", "mode": "max"}
CONFIG = json.dumps({"recipe": "a-recipe", "begun": "2026-01-01T00:00:00+00:00", "flags": {}, "score": SCORE})
LINE = '{"step": 10, "eval_accuracy": 0.5}\n'


def write(path, config=CONFIG, history=LINE):
    path.mkdir(parents=True)
    for name, content in (("config.json", config), ("metrics.jsonl", history)):
        (path / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def listed(capsys, *args):
    main(["runs", *map(str, args)])
    return capsys.readouterr().out.splitlines()


def as_json(capsys, root):
    return json.loads(listed(capsys, root, "--json")[0])["runs"]


NO_STEP = "it is no JSON object with a step"
HISTORIES = {  # what a history holds: (text, steps, best, problem)
    "a bare NaN": (LINE + '{"step": 20, "eval_accuracy": NaN}\n', 20, 0.5, None),
    "null": (LINE + "null\n", 10, 0.5, f"metrics.jsonl, line 2: {NO_STEP}"),
    "no step": ('{"eval_accuracy": 1.0}\n' + LINE, 10, 0.5, f"metrics.jsonl, line 1: {NO_STEP}"),
    "a step of text": ('{"step": "ten"}\n', 0, None, f"metrics.jsonl, line 1: {NO_STEP}"),
    "a list for a score": (LINE + '{"step": 20, "eval_accuracy": [1]}\n', 20, 0.5, None),
    "text for a score": (LINE + '{"step": 20, "eval_accuracy": "[/red]"}\n', 20, 0.5, None),
    "a byte that is no UTF-8": (
        LINE.encode() + b'{"step": \xff}\n',
        10,
        0.5,
        "metrics.jsonl, line 2: 'utf-8' codec can't decode byte 0xff in position 9: invalid start byte",
    ),
    "deep": (LINE + "[" * 100_000 + "\n", 10, 0.5, "metrics.jsonl, line 2: it is nested too deeply"),
    "half a line": (LINE + '{"step": 20', 10, 0.5, None),
    "nothing": ("", 0, None, None),
}


@pytest.mark.parametrize("kind", HISTORIES)
def test_a_damaged_history_is_told_of_and_the_run_is_listed(kind, tmp_path, capsys):
    history, steps, best, problem = HISTORIES[kind]
    write(tmp_path / "good")
    write(tmp_path / "odd", history=history)
    rows = {Path(run["run"]).name: run for run in as_json(capsys, tmp_path)}
    assert rows["good"]["state"] == "unfinished" and rows["good"]["problems"] == []
    odd = rows["odd"]
    assert odd["step"] == steps and odd["problems"] == ([] if problem is None else [problem])
    assert odd["best"] == (None if best is None else {"name": "accuracy", "score": best})
    header, *lines = listed(capsys, tmp_path)
    assert header.split() == ["recipe", "run", "steps", "best", "score", "state", "age"]
    assert len(lines) == (2 if problem is None else 3)
    assert problem is None or lines[-1] == f"{tmp_path}/odd: {problem}"


def test_whatever_a_config_is_the_others_are_listed_and_names_are_whole(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    names = ["[/red]", "[bold]x", "a" * 200, "tab\tand\x1b[31mred", "two\nlines", os.fsdecode(b"byte\xff")]
    for name in names:
        write(tmp_path / name)
    bad = {
        "foreign": '{"model_type": "bert"}',
        "list": "[1]",
        "null": "null",
        "cut": "{",
        "bytes": b"\xff\xfe",
        "UTF-16": CONFIG.encode("utf-16"),
        "recipe of a number": '{"recipe": 3, "flags": {}}',
    }
    for name, config in bad.items():
        write(tmp_path / name, config)
    (tmp_path / "dangling").mkdir()
    (tmp_path / "dangling" / "config.json").symlink_to("nowhere")
    (tmp_path / "folder" / "config.json").mkdir(parents=True)
    (tmp_path / "around").mkdir()
    (tmp_path / "around" / "loop").symlink_to(tmp_path)
    write(tmp_path / "result")
    (tmp_path / "result" / "result.json").write_text("[1]")
    found = as_json(capsys, tmp_path)
    rows = {run["run"].removeprefix(f"{tmp_path}/"): run for run in found}
    assert len(found) == len(names) + len(bad) + 3
    assert all(rows[name]["state"] == "unfinished" and not rows[name]["problems"] for name in names)
    unreadable = {name for name, row in rows.items() if row["state"] == "unreadable"}
    assert unreadable == {*bad, "dangling", "folder", "result"}
    assert rows["UTF-16"]["problems"] == [f"{tmp_path}/UTF-16/config.json is damaged: it is not UTF-8 text."]
    assert rows["dangling"]["problems"] == ["config.json is a link to nothing."]
    assert rows["folder"]["problems"] == [f"{tmp_path}/folder/config.json is no file."]
    lines = listed(capsys, tmp_path)
    assert len(lines) == 1 + len(found) + len(unreadable)
    shown = ["[/red]", "[bold]x", "a" * 200, "tab\\tand\\x1b[31mred", "two\\nlines", "byte\\udcff"]
    for name in shown:  # whole, on one line, whatever the width
        assert sum(f"{tmp_path}/{name} " in line for line in lines) == 1


def test_a_link_to_a_run_on_another_disk_is_followed_and_the_newest_comes_first(tmp_path, capsys):
    runs = tmp_path / "runs"
    write(tmp_path / "elsewhere" / "run", CONFIG)
    runs.mkdir()
    (runs / "linked").symlink_to(tmp_path / "elsewhere" / "run")
    write(runs / "here", CONFIG.replace("2026", "2025"))
    (runs / "config.json").write_text("{}")  # somebody else's: it hides none below it
    write(runs / "newest", CONFIG.replace("2026", "2030"))
    names = [Path(run["run"]).name for run in as_json(capsys, runs) if run["state"] != "unreadable"]
    assert names == ["newest", "linked", "here"]
    with pytest.raises(SystemExit) as stop:
        main(["runs", str(runs / "config.json")])
    assert stop.value.code == 2
    assert capsys.readouterr().err == (
        f"fourbeat: {runs}/config.json is no directory. Name one that runs lie below.\n"
    )


def test_a_run_whose_last_numbers_are_not_finite_says_so(tmp_path, capsys):
    write(tmp_path / "broken", history=LINE + '{"step": 20, "train_loss": null, "eval_accuracy": 0.1}\n')
    write(tmp_path / "done")
    (tmp_path / "done" / "result.json").write_text('{"accuracy": 0.5}')
    states = {Path(run["run"]).name: run["state"] for run in as_json(capsys, tmp_path)}
    assert states == {"broken": "not finite", "done": "finished"}
