"""`fourbeat runs`: a row for each run; what is wrong with one hides no other."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from fourbeat.cli import main
from fourbeat.runs.naming import named
from fourbeat.runs.places import find
from tests.runs.written_runs import write_run

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
    expected = {"name": "accuracy", "score": best, "step": 10, "mode": "max"}
    assert odd["best"] == (None if best is None else expected)
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
    assert unreadable == {*bad, "dangling", "folder"}
    assert rows["result"]["state"] == "unfinished, damaged"
    assert rows["UTF-16"]["problems"] == [f"{tmp_path}/UTF-16/config.json is damaged: it is not UTF-8 text."]
    assert rows["dangling"]["problems"] == ["config.json is a link to nothing."]
    assert rows["folder"]["problems"] == [f"{tmp_path}/folder/config.json is no file."]
    lines = listed(capsys, tmp_path)
    assert len(lines) == 1 + len(found) + len(unreadable) + 1
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


@pytest.mark.parametrize(
    ("ended", "steps"), [({}, 10), ({"step": 13}, 13), ({"step": 4}, 10), ({"step": "x"}, 10)]
)
def test_a_run_that_stopped_between_two_logs_is_listed_with_the_step_it_reached(
    ended, steps, tmp_path, capsys
):
    lines = [{"step": 10, "eval_accuracy": 0.5}]
    write_run(tmp_path / "run", lines, summary={"state": "stopped", **ended})
    [listed_run] = as_json(capsys, tmp_path)
    assert listed_run["step"] == steps


def scored(path, *scores, score=SCORE, begun="2026-01-01T00:00:00+00:00", **more):
    """A run with these scores at steps 10, 20, ..."""
    config = {"recipe": path.parent.name, "begun": begun, "flags": {}, "score": score, **more}
    lines = [json.dumps({"step": 10 * place, score["name"]: value}) for place, value in enumerate(scores, 1)]
    write(path, json.dumps(config), "".join(f"{line}\n" for line in lines))


def test_runs_are_sorted_by_score_each_kind_by_itself_and_those_without_come_last(tmp_path, capsys):
    loss = {"name": "eval_loss", "mode": "min"}
    for name, scores in (("b", (0.5, 0.9, 0.1)), ("c", (0.7,)), ("a", (0.95,)), ("none", ())):
        scored(tmp_path / "classify" / name, *scores)
    for name, scores in (("y", (2.0, 1.5)), ("x", (0.5, 3.0))):
        scored(tmp_path / "text" / name, *scores, score=loss, begun="2027-01-01T00:00:00+00:00")
    lines = listed(capsys, tmp_path, "--sort", "score")
    assert [line.split()[1].removeprefix(f"{tmp_path}/") for line in lines[1:]] == [
        "classify/a", "classify/b", "classify/c", "text/x", "text/y", "classify/none",
    ]  # fmt: skip
    assert lines[2].split()[3:5] == ["accuracy", "0.9000"] and lines[4].split()[3:5] == ["loss", "0.5000"]
    newest = [run["run"].removeprefix(f"{tmp_path}/") for run in as_json(capsys, tmp_path)]
    assert set(newest[:2]) == {"text/x", "text/y"}


def test_latest_and_best_are_names_of_runs_below_runs_or_below_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scored(Path("runs/classify/first"), 0.9, begun="2026-01-01T00:00:00+00:00")
    scored(Path("runs/classify/second"), 0.5, begun="2026-01-02T00:00:00+00:00")
    write(Path("runs/classify/damaged"), "{")
    os.utime("runs/classify/damaged/config.json", (0, 0))
    assert named("best") == named("runs/best") == named("runs/classify/best") == Path("runs/classify/first")
    assert named("latest") == Path("runs/classify/second")
    assert find("classify", SimpleNamespace(resume="best")) == Path("runs/classify/first")
    scored(Path("runs/text/third"), 0.1, score={"name": "eval_loss", "mode": "min"})
    assert named("best", ["classify"]) == Path("runs/classify/first")
    assert named("runs/text/best") == Path("runs/text/third")
    with pytest.raises(ValueError) as caught:
        named("best")
    assert str(caught.value) == (
        "the runs below runs have several scores, eval_accuracy, eval_loss: none of them is the best of all. "
        "Name a folder of runs that are alike, as in runs/classify/best, or the run's directory."
    )
    for name, recipes, text in (
        ("elsewhere/latest", None, "there is no run below elsewhere. Name the run's directory."),
        ("best", ["other"], "there is no run of other with a score below runs. Name the run's directory."),
    ):
        with pytest.raises(ValueError) as caught:
            named(name, recipes)
        assert str(caught.value) == text
    scored(Path("runs/text/best"), 9.0)  # a directory of that name is that directory
    assert named("runs/text/best") == Path("runs/text/best") and named("runs/a/b") == Path("runs/a/b")
