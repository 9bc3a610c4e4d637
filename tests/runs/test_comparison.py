"""`fourbeat compare` in a wide terminal, a narrow one and a pipe; a run in a notebook."""

import pytest
import treescope

from fourbeat.cli import main
from fourbeat.runs import Run
from tests.runs.written_runs import write_run


@pytest.fixture
def two(tmp_path):
    """Two runs: the loss of one falls, that of the other rises."""
    falls = [{"step": step, "batch_loss": 10.0 - step} for step in range(11)]
    rises = [{"step": step, "batch_loss": float(step)} for step in range(11)]
    scores = lambda *values: [{"step": 5 * n, "eval_accuracy": v} for n, v in enumerate(values, 1)]
    one = write_run(tmp_path / "one", [*falls, *scores(0.5, 0.75)], flags={"clip_norm": None, "log": []})
    flags = {"clip_norm": 1.0, "log": [], "from_": 3}
    return one, write_run(tmp_path / "other", [*rises, *scores(0.75, 0.625)], flags=flags)


@pytest.mark.parametrize("columns", [100, 40])
def test_two_runs_lie_beside_each_other_at_every_width(columns, two, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    main(["compare", *map(str, two)])
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[:11] == [
        f"A  {two[0]}  a-recipe, unfinished, step 10",
        f"B  {two[1]}  a-recipe, unfinished, step 10",
        "",
        "flags that differ  A     B",
        "--clip-norm        none  1.0",
        "--from             -     3",
        "",
        "best, and last       A             B",
        "eval accuracy        0.7500 at 10  0.7500 at 5",
        "eval accuracy, last  0.7500        0.6250",
        "",
    ]
    title, *drawn, rule, steps = lines[11:]
    assert title == "batch loss, over the steps" and len(drawn) == 10
    assert all(len(line) <= columns for line in (*drawn, rule, steps))
    assert len(rule) == columns - 1 and steps.split() == ["0", "10"]
    assert drawn[0].startswith("10 |A") and drawn[0].endswith("B")  # one falls, the other rises
    assert drawn[-1].startswith(" 0 |B") and drawn[-1].endswith("A")
    assert "".join(drawn).count("A") == 10 - "".join(drawn).count("*") + 1 > 5


def test_a_run_alone_and_too_many_are_refused(two, capsys):
    for runs in ([two[0]], [two[0]] * 27):
        with pytest.raises(SystemExit):
            main(["compare", *map(str, runs)])
        assert capsys.readouterr().err == (
            f"fourbeat: compare takes 2 to 26 runs, and {len(runs)} are named.\n"
        )


def test_runs_without_anything_in_common_are_compared_all_the_same(two, tmp_path, capsys):
    empty = write_run(tmp_path / "empty", [], score=None)
    (empty / "result.json").write_text("[1]")
    main(["compare", str(empty), str(empty)])
    out = capsys.readouterr().out
    assert "flags that differ: none\n" in out and "best, and last: none\n" in out
    assert out.count("result.json is damaged: it holds list, and no object.") == 2


def test_a_notebook_shows_the_curves_of_a_run(two, tmp_path):
    run = Run.read(two[0])
    shown = run._repr_html_()
    assert f"Run(&#x27;{two[0]}&#x27;, unfinished, step 10)" in shown
    assert 'src="data:image/png;base64,' in shown
    assert "data:image/png;base64" in treescope.render_to_html(
        run, compressed=False
    )  # as `nnx.display` renders
    assert "img" not in Run.read(write_run(tmp_path / "empty", []))._repr_html_()
