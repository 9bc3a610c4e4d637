"""`fourbeat report`: a page that opens in a browser without a network, with the values of `metrics.jsonl`."""

import json
import math
import random
import re

import pytest

from fourbeat.cli import main
from fourbeat.runs import Run
from fourbeat.runs.logged_curves import curves_of
from fourbeat.runs.report import LIMIT_BYTES, report_page
from tests.browser import Browser
from tests.runs.written_runs import write_run

FLAGS = {"steps": 400, "learning_rate": 0.5, "clip_norm": None, "name": "</script><b>one</b>"}
CONFUSION = [[90, 10], [20, 80]]


def history(seed, end=400):
    """A loss each 10 steps, one of them not finite; scores each 100; a matrix at the end."""
    noise = random.Random(seed)
    for step in range(10, end + 1, 10):
        loss = None if step == 50 else math.exp(-step / 200) + 0.1 * noise.random()
        yield {"step": step, "batch_loss": loss}
        if step % 100 == 0:
            yield {"step": step, "grad_norm": 2.0, "members_train_loss": [0.4 / step, None, 0.7 / step]}
            yield {
                "step": step,
                "train_loss": 0.5 / step,
                "eval_accuracy": 0.9 - 0.01 * abs(step - 200) / 100,
            }
    names = {"test_classes": ["cat", "<b>dog"]} if seed == 1 else {}  # else classes have their numbers
    yield {
        "step": end,
        "test_accuracy": 0.85,
        "test_confusion": CONFUSION,
        "sample_text": "</script>",
        **names,
    }


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory):
    """Two runs that differ in a flag; the second went on once, and crashed."""
    folder = tmp_path_factory.mktemp("runs")
    one = write_run(folder / "plain", history(1), flags=FLAGS)
    change = {"when": "2026-01-02T00:00:00+00:00", "step": 200, "flag": "steps", "from": 200, "to": 300}
    summary = {
        "state": "crashed", "step": 300, "best": {}, "host": "here",
        "error": {"type": "RuntimeError", "text": "<img src=x onerror=alert(1)>", "step": 300},
        "resumes": [{"when": "2026-01-02T00:00:00+00:00", "step": 200}],
        "seconds": {"steps": 61.0, "all": 61.0},
    }  # fmt: skip
    other = write_run(
        folder / "clipped", history(2, 300), flags={**FLAGS, "clip_norm": 1.0, "steps": 300},
        summary=summary, changes=[change], versions={"jax": "0.10.0"}, device="cpu: cpu x 1",
    )  # fmt: skip
    return one, other


def test_in_a_browser_the_curves_have_the_values_of_the_runs_and_nothing_is_loaded(
    two_runs, tmp_path, capsys
):
    out = tmp_path / "report.html"
    main(["report", *map(str, two_runs), "--out", str(out)])
    assert re.fullmatch(rf"written to {out}, \d+ kB: open it in a browser\n", capsys.readouterr().out)
    browser = Browser()
    try:
        for width, dark in ((1280, False), (390, True)):
            browser.open(out, width=width, dark=dark)
            assert browser.value_of("document.documentElement.scrollWidth") <= width  # only tables scroll
            assert browser.value_of(INKED_SHARE) > 0.005
        text = browser.value_of("document.body.innerText")
        assert text.index("Flags that differ") < text.index("Curves") < text.index("Scores")
        flags = browser.value_of(
            "[...document.querySelector('table').querySelectorAll('tbody tr')].map(r => r.innerText)"
        )
        assert flags == ["--steps\t400\t300", "--clip-norm\tnone\t1"]
        for said in (
            "--steps 200 → 300",
            "resumed",
            "cpu: cpu x 1",
            "1 min 1 s (100.0 %)",
            "RuntimeError at step 300: <img src=x",
        ):
            assert said in text
        assert browser.value_of(
            "[...document.querySelectorAll('.matrix tr')].map(row => row.innerText.replaceAll('\\t', ' '))"
        ) == [
            row
            for cat, dog in (("cat", "<b>dog"), ("0", "1"))
            for row in (
                f"true {cat} {dog} recall precision",
                f"{cat} 90 10 0.900 0.818",
                f"{dog} 20 80 0.800 0.889",
            )
        ]
        drawn = browser.value_of(DRAWN)
        for place, path in enumerate(two_runs):
            lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
            for name in ("batch_loss", "train_loss", "eval_accuracy", "test_accuracy"):
                logged = [[line["step"], line[name]] for line in lines if name in line]
                assert drawn[f"{place} {name}"] == logged
        assert browser.value_of(BAND) == [[0.7 / step, 0.4 / step] for step in (100, 200, 300, 400)]
        assert browser.value_of("fourbeatReport.plots.map(plot => plot.label)") == [
            "loss", "accuracy", "grad_norm",
        ]  # fmt: skip
        assert browser.value_of(SORTED) == [["plain", "clipped"], ["clipped", "plain"], ["clipped", "plain"]]
        smoothed, raw = browser.value_of(SMOOTHED)
        assert smoothed == pytest.approx(by_hand(0.9, [value for _, value in drawn["0 batch_loss"]]))
        assert raw == [value for _, value in drawn["0 batch_loss"]]
        browser.move_to(
            195, browser.value_of("document.querySelector('.u-over').getBoundingClientRect().y + 50")
        )
        assert re.search(
            r"plain batch [\d.]+ at \d+", browser.value_of("document.querySelector('.readout').innerText")
        )
        assert browser.printed()[:4] == b"%PDF"
        assert browser.complaints == []
    finally:
        browser.close()


def by_hand(weight, values):
    """The exponential mean with the weights written out; None where the value is."""
    means, seen = [], []
    for value in values:
        if value is not None:
            seen.append(value)
            weights = [weight**age for age in range(len(seen))][::-1]
            means.append(sum(w * v for w, v in zip(weights, seen, strict=True)) / sum(weights))
        else:
            means.append(None)
    return means


INKED_SHARE = """(() => {
  const canvas = document.querySelector("canvas"), { width, height } = canvas;
  const bytes = canvas.getContext("2d").getImageData(0, 0, width, height).data;
  let inked = 0;
  for (let place = 3; place < bytes.length; place += 4) inked += bytes[place] > 0;
  return inked / (width * height);
})()"""
DRAWN = """Object.fromEntries(fourbeatReport.plots.flatMap((panel) => panel.series.map((one, place) => {
  const [steps, values] = [panel.plot.data[0], panel.plot.data[1 + 2 * place]];
  const points = steps.map((step, index) => [step, values[index]]).filter(([, value]) => value !== undefined);
  return [`${one.run} ${one.name}`, points];
})))"""
BAND = """(() => {
  const { plot } = fourbeatReport.plots.find((each) => each.label === "loss");
  const edges = plot.bands[0].series.map((place) => plot.data[place].filter((value) => value !== undefined));
  return edges[0].map((high, index) => [high, edges[1][index]]);
})()"""
SORTED = """(() => {
  const names = () => [...document.querySelectorAll("#scores tbody tr")].map((row) => row.cells[0].innerText);
  const buttons = [...document.querySelectorAll("#scores button")];
  const press = (title) => buttons.find((button) => button.innerText === title).click();
  const before = names();
  press("run");
  const byName = names();
  press("steps");
  return [before, byName, names()];
})()"""
SMOOTHED = """(() => {
  const slider = document.getElementById("smoothing");
  slider.value = "0.9";
  slider.dispatchEvent(new Event("input", { bubbles: true }));
  const panel = fourbeatReport.plots.find((each) => each.label === "loss");
  const place = panel.series.findIndex((one) => one.run === 0 && one.name === "batch_loss");
  return [1, 2].map((row) => panel.plot.data[row + 2 * place].filter((value) => value !== undefined));
})()"""


def test_a_page_of_many_points_stays_small_and_keeps_every_extreme(tmp_path):
    noise = random.Random(0)
    lines = [
        {"step": step, "batch_loss": noise.random(), "train_loss": noise.random()} for step in range(60_000)
    ]
    lines[31_234]["batch_loss"], lines[45_678]["batch_loss"] = 99.0, None
    run = Run.read(write_run(tmp_path / "long", lines))
    page = report_page([run])
    assert len(page.encode()) <= LIMIT_BYTES
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])
    curve, logged = data["runs"][0]["curves"]["batch_loss"], curves_of(lines)["batch_loss"]
    whole = dict(zip(logged["steps"], logged["values"], strict=True))
    assert all(whole[step] == value for step, value in zip(curve["steps"], curve["values"], strict=True))
    assert curve["steps"] == sorted(set(curve["steps"])) and len(curve["steps"]) > 5_000
    known = [value for value in whole.values() if value is not None]
    assert max(v for v in curve["values"] if v is not None) == 99.0 == max(known)
    assert min(v for v in curve["values"] if v is not None) == min(known)
    assert None in curve["values"] and "the lowest and the highest" in data["note"]


def test_texts_of_a_run_are_no_part_of_the_page_and_its_licence_is(two_runs):
    page = report_page([Run.read(path) for path in two_runs])
    assert page.count("</script>") == 3 and "<b>one" not in page and "<img" not in page
    assert "MIT License" in page and "Leon Sorokin" in page
    assert not re.search(r"""(src|href)\s*=\s*["']?http|@import|url\(""", page)


def test_what_is_no_report_is_not_written_over(two_runs, tmp_path, capsys):
    one, other = map(str, two_runs)
    (tmp_path / "mine.html").write_text("<p>mine")
    mine, nowhere = tmp_path / "mine.html", tmp_path / "no" / "where.html"
    texts = {
        (one, "--out", str(tmp_path)): f"{tmp_path} is a folder. Name the file to write, such as "
        f"{tmp_path}/report.html.",
        (
            one,
            "--out",
            str(mine),
        ): f"{mine} is there already, and is no report. Name another file with --out.",
        (one, other, one): f"{one} is named twice. Name each run once.",
        (one, "--out", str(nowhere)): f"cannot write {nowhere}: No such file or directory.",
        (): "report needs a run: fourbeat report RUN [RUN...]",
        ("nowhere",): "there is no run in nowhere. `fourbeat runs` lists those that are there.",
    }
    for args, text in texts.items():
        with pytest.raises(SystemExit) as stop:
            main(["report", *args])
        assert (stop.value.code, capsys.readouterr().err) == (2, f"fourbeat: {text}\n")
    for _ in range(2):  # a report is
        main(["report", one, "--out", str(tmp_path / "report.html")])
    assert (tmp_path / "mine.html").read_text() == "<p>mine"


def test_whatever_a_run_holds_it_has_a_page(tmp_path):
    lines = [
        {"step": 3, "loss": 0.5}, {"step": 1, "loss": 10**400}, {"step": 2, "loss": 0.25},
        {"step": 3, "loss": 0.75},
        {"step": 3, "a_confusion": [[1, "x"], [1]], "b_confusion": [], "c_confusion": [[1.0] * 65] * 65},
    ]  # fmt: skip
    odd = {
        "changes": [1, {"flag": 3}, {"step": 1, "result": {}}],
        "versions": [1],
        "git_revision": 7,
        "device": None,
    }
    run = Run.read(write_run(tmp_path / "byte\udcff", lines, flags={"a": [1], "b": {"c": None}}, **odd))
    (tmp_path / "report.html").write_text(report_page([run]), encoding="utf-8")
    data = json.loads(re.search(r'id="data">(.*?)</script>', report_page([run]), re.DOTALL)[1])
    (said,) = data["runs"]
    assert said["curves"] == {"loss": {"steps": [2, 3], "values": [0.25, 0.75], "group": ["", "loss"]}}
    assert said["matrices"] == {} and len(said["events"]) == 2


def test_a_page_that_a_run_wrote_is_linked_from_where_the_report_lies(tmp_path, monkeypatch):
    run = write_run(tmp_path / "javascript:a #b" / "run", [])
    assert '"mistakes":null' in report_page([Run.read(run)])
    (run / "mistakes.html").write_text("<title>Mistakes</title>")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "some").mkdir()
    main(["report", str(run), "--out", "some/report.html"])
    browser = Browser()
    try:
        browser.open(tmp_path / "some" / "report.html")
        address = browser.value_of("document.querySelector('#runs a').href")
        assert address == f"file://{tmp_path}/javascript%3Aa%20%23b/run/mistakes.html"
        assert browser.value_of("document.querySelector('#runs a').textContent") == "its worst mistakes"
    finally:
        browser.close()
