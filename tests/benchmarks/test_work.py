import dataclasses
import json

import pytest

from benchmarks import __main__ as command
from benchmarks import page, results
from benchmarks.reaching import all_faster, at_least_times_less, at_most_above, at_most_ratio
from benchmarks.work import Side, Work, measure, refusal

TOYS = "tests.benchmarks.toy_sides"


def toy(maker, seconds=1.0):
    return Side(f"{TOYS}:{maker}", "nothing", {"seconds": seconds})


WORK = Work(
    name="toys",
    title="Toys: a step",
    sides={
        "plain": toy("Learns", 2.0),
        "fast": toy("Learns", 1.0),
        "stuck": toy("LearnsNothing"),
        "broken": toy("Fails"),
        "dead": toy("Dies"),
        "absent": Side(f"{TOYS}:absent"),
    },
    against="plain",
    amount=3,
    learn=10,
    must={"loss": ("at most", 0.01)},
    unit="s",
    scale=1.0,
    reaches=lambda sides: [
        at_most_ratio(sides, "fast", "plain", 0.5, "of plain"),
        at_least_times_less(sides, "fast", "plain", 3),
        at_most_above(sides, "plain", "fast", 5e6),
        all_faster(sides, "fast", besides=()),
        at_most_ratio(sides, "stuck", "plain", 1, "of plain"),
    ],
)


@pytest.fixture(scope="module")
def measured():
    return measure(WORK, rounds=3, threads=1)


def test_sides_take_turns_in_processes_of_their_own(measured):
    sides = measured["sides"]
    # the k-th round takes k times as long by a side's own account, and the first is not counted
    assert sides["plain"]["seconds"] == [4.0, 6.0, 8.0]
    assert sides["fast"]["seconds"] == [2.0, 3.0, 4.0]
    assert sides["fast"]["median_s"] == 3.0
    assert sides["fast"]["spread_s"] == [2.0, 4.0]
    assert sides["fast"]["ratio"] == {"median": 0.5, "low": 0.5, "high": 0.5}
    assert sides["fast"]["samples"] == {"count": 9, "p50_s": 1.0, "p95_s": 1.0, "p99_s": 1.0}
    assert sides["fast"]["facts"] == {"threads": 1}
    assert sides["fast"]["scores"] == {"loss": 2.0**-10}
    assert sides["fast"]["idle_cpu_s"] < 0.1
    assert sides["fast"]["peak_memory_bytes"] > 1e6


def test_a_side_that_does_not_learn_is_refused(measured):
    stuck = measured["sides"]["stuck"]
    assert stuck["refused"] == "does not learn: loss is nan, which must be at most 0.01"
    assert "seconds" not in stuck


def test_a_side_that_fails_or_is_absent_says_why_and_the_rest_goes_on(measured):
    sides = measured["sides"]
    assert sides["broken"]["failed"] == "ValueError: no such batch (toy_sides.py:30)"
    assert sides["dead"]["failed"] == "its process ended with status 3"
    assert sides["absent"]["absent"] == "torch_of_another_world is not installed"


def test_what_was_to_be_reached_stands_beside_what_was_measured(measured):
    assert [(reach["measured"], reach["met"]) for reach in measured["reaches"]] == [
        ("0.500 (0.500 to 0.500)", True),
        ("2.000 (2.000 to 2.000) times less", False),
        ("3000000.0 us (2000000.0 to 4000000.0)", True),
        ("closest: 0.500 (0.500 to 0.500) of plain", True),
        ("not measured", None),
    ]


def test_what_is_counted_is_asked_of_measured_sides_and_joins_their_facts():
    def counted(settings, sides, say):
        say("counting")
        return {name: {"beads": 10.0 * settings["threads"]} for name in sides}

    told = []
    some = {name: WORK.sides[name] for name in ("plain", "stuck", "absent")}
    work = dataclasses.replace(WORK, sides=some, counted=counted, reaches=lambda sides: [])
    sides = measure(work, rounds=1, threads=1, say=told.append)["sides"]
    assert sides["plain"]["facts"] == {"threads": 1, "beads": 10.0}
    assert "facts" not in sides["absent"]
    assert told[-2:] == ["toys: round 1 of 1", "counting"]
    smoke = command.chosen(work, command.parse(["mlp", "--smoke"]))
    assert smoke.counted is None


@pytest.mark.parametrize(
    ("scores", "why"),
    [
        ({"loss": 0.1, "accuracy": 0.9}, None),
        ({"loss": 0.1, "accuracy": 0.2}, "does not learn: accuracy is 0.2, which must be at least 0.9"),
        ({"loss": 0.1}, "does not learn: accuracy is nan, which must be at least 0.9"),
        ({"loss": 2.5, "accuracy": 0.9}, "does not learn: loss is 2.5, which must be at most 0.5"),
    ],
)
def test_refusal(scores, why):
    assert refusal(scores, {"loss": ("at most", 0.5), "accuracy": ("at least", 0.9)}) == why


def test_results_are_kept_by_work_and_make_the_page(measured, tmp_path):
    path = tmp_path / "results" / "toys.json"
    about = {"cpu": "Abacus", "cores": 2, "threads": 1, "memory_gib": 1, "system": "Linux", "python": "3"}
    results.write(path, about, {"first": measured})
    kept = results.write(path, about, {"second": measured})
    assert json.loads(path.read_text()) == json.loads(json.dumps(kept))
    assert set(kept["works"]) == {"first", "second"}
    lines = page.table(measured).splitlines()
    assert lines[2].startswith("| plain | 6 | 4 to 8 | 1 | 2, 2 | 0.00 | ")
    assert lines[3].startswith("| fast | 3 | 2 to 4 | 0.500 (0.500 to 0.500) | 1, 1 | 0.00 | ")
    assert "| stuck | does not learn: loss is nan, which must be at most 0.01 |" in lines[4]
    text = page.page([kept], None)
    assert "| Toys: a step | fast: upper end at most 0.5 x of plain | 0.500 (0.500 to 0.500) | yes |" in text
    assert "## Abacus, 1 cores" in text


def test_the_command_measures_the_named_works_and_writes_the_page(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "WORKS", {"toys": WORK, "others": WORK})
    flags = ["toys", "--smoke", "--sides", "plain", "fast", "--threads", "1"]
    command.main([*flags, "--results", str(tmp_path), "--docs", str(tmp_path)])
    (path,) = tmp_path.glob("*-1-threads.json")
    kept = json.loads(path.read_text())
    assert list(kept["works"]) == ["toys"]
    assert {name: len(side["seconds"]) for name, side in kept["works"]["toys"]["sides"].items()} == {
        "plain": 2,
        "fast": 2,
    }
    assert "toys: round 2 of 2\n" in capsys.readouterr().out
    assert "### Toys: a step\n" in (tmp_path / "benchmarks.md").read_text()
    assert not (tmp_path / "benchmarks.svg").exists()


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda work: work.pop("notes"), "works['toys'] lacks notes."),
        (
            lambda work: work["sides"]["fast"].pop("seconds"),
            "works['toys'].sides['fast'] has []; a side is measured, absent, failed or refused: one of "
            "these.",
        ),
        (
            lambda work: work["sides"]["fast"].update(seconds=[1.0, 0.0]),
            "works['toys'].sides['fast'] has a round of no time.",
        ),
        (lambda work: work["reaches"][0].pop("met"), "works['toys'].reaches has ['measured', 'reach']."),
    ],
)
def test_results_of_another_form_are_refused(measured, change, error):
    work = json.loads(json.dumps(measured))
    change(work)
    with pytest.raises(ValueError) as raised:
        results.check({"works": {"toys": work}})
    assert str(raised.value) == error


@pytest.mark.parametrize("path", sorted(results.FOLDER.glob("*.json")), ids=lambda path: path.name)
def test_the_kept_results_have_the_form_and_name_no_place(path):
    results.check(results.read(path))
    text = path.read_text()
    assert "/tmp" not in text and "/home" not in text and "/work" not in text
