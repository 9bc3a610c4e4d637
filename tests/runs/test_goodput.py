"""Goodput: where the wall time of a run went over all its attempts, against times counted by hand."""

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fourbeat as fb
from fourbeat import runs
from fourbeat.compiling import compilation_monitor
from fourbeat.evaluating import evaluation_time
from fourbeat.looping import indexed_sources
from fourbeat.runs import process_age, summary, wall_times
from fourbeat.runs.goodput import KINDS, after_restart, in_words, shares_percent
from fourbeat.runs.report import report_page
from fourbeat.runs.states import read_summary
from tests.runs.fed_clock import Clock

SAVING, EVALUATING, STEP, WAIT, COMPILING, OPENING, AFTER_LOOP = 32, 16, 10, 1, 8, 2, 64


@dataclasses.dataclass(frozen=True)
class Config:
    out: Path
    steps: int = 6
    resume: str | None = "latest"


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    for module in (wall_times, summary, evaluation_time, compilation_monitor, indexed_sources):
        monkeypatch.setattr(module, "time", clock)
    save = fb.Checkpoints.save
    slow = lambda *args, **more: (clock.passes(SAVING), save(*args, **more))
    monkeypatch.setattr(fb.Checkpoints, "save", slow)
    return clock


class Slow:
    """Batches by number, for each of which the loop waits."""

    def __init__(self, clock):
        self.clock = clock

    def __len__(self):
        return 4

    def __getitem__(self, step):
        self.clock.passes(WAIT)
        return {"x": np.full(3, step, np.float32)}


@pytest.fixture(scope="module")
def parts():
    beats = fb.four_beats(lambda model, batch: (model["w"] - batch["x"]) ** 2, optax.sgd(0.1))
    return beats, fb.compile(beats.train_step), fb.evaluator(beats)


def attempt(parts, clock, config, monkeypatch, *, age_s, at_step=lambda run, tick: None):
    """One process's part of a run: it saves and evaluates each second step."""
    beats, step, evaluate = parts
    monkeypatch.setattr(summary, "unclaimed_age_s", lambda: age_s)
    second = fb.every(steps=2)

    def held_out():
        clock.passes(EVALUATING)
        yield {"x": np.ones(3, np.float32)}

    with runs.RunDirectory.open("a-line", config) as run:
        clock.passes(OPENING)
        state = run.restore(beats.init({"w": jnp.zeros(())}))
        jax.jit(lambda x: clock.passes(COMPILING) or x)(1.0)
        for tick in run.loop(Slow(clock), start=state.step, marks=[second], save=second):
            clock.passes(STEP)
            state, _ = step(state, tick.batch)
            at_step(run, tick)
            if second in tick:
                evaluate(state, held_out())
            run.save(tick, state)
        clock.passes(AFTER_LOOP)
        run.finish({"weight": float(state.model["w"])})
        runs.show_end(run)


def test_the_times_of_a_run_that_is_killed_resumed_and_crashed_are_those_counted_by_hand(
    parts, clock, monkeypatch, tmp_path, capsys
):
    killed = tmp_path / "killed"

    def is_killed(run, tick):
        if tick.step == 4:
            run._saves.checkpoints.wait()
            shutil.copytree(run.path, killed)  # what lies there is what a killed process leaves

    attempt(parts, clock, Config(tmp_path / "whole"), monkeypatch, age_s=3, at_step=is_killed)
    first = {"steps": 3 * STEP, "compiling": COMPILING, "waiting_for_data": 3 * WAIT, "saving": SAVING}
    first |= {"evaluating": EVALUATING, "starting": 3 + OPENING, "lost_to_restarts": 0, "other": 0}
    seen = read_summary(killed)
    assert seen["state"] == "killed" and seen["step"] == 3
    assert seen["seconds"] == {**first, "all": sum(first.values())}

    # it goes on from step 2: the step after it is done again
    attempt(parts, clock, Config(killed), monkeypatch, age_s=7)
    steps_of_loop = {"steps": 6 * STEP, "waiting_for_data": 6 * WAIT, "saving": 3 * SAVING}
    second = {**first, **steps_of_loop, "compiling": 2 * COMPILING, "evaluating": 3 * EVALUATING}
    second |= {"lost_to_restarts": STEP + WAIT + 7 + OPENING, "other": AFTER_LOOP}
    whole = {**second, "all": sum(second.values())}
    seen = read_summary(killed)
    assert seen["seconds"] == whole
    assert seen["shares_percent"] == shares_percent(second)
    assert in_words(second) in capsys.readouterr().out.splitlines()
    page = report_page([runs.Run.read(killed)])
    told = json.loads(page[page.index('{"runs":') :].split("</script>")[0])["runs"][0]
    assert (told["seconds"], told["shares"]) == (whole, seen["shares_percent"])

    # to more steps, and a crash: of the finished attempt nothing is lost
    def crashes(run, tick):
        if tick.step == 8:
            raise RuntimeError("no memory left")

    with pytest.raises(RuntimeError):
        attempt(parts, clock, Config(killed, 8), monkeypatch, age_s=1, at_step=crashes)
    crashed = {**second, "steps": 7 * STEP, "compiling": 3 * COMPILING, "waiting_for_data": 8 * WAIT}
    crashed |= {"lost_to_restarts": second["lost_to_restarts"] + 1 + OPENING, "other": AFTER_LOOP + STEP}
    assert read_summary(killed)["seconds"] == {**crashed, "all": sum(crashed.values())}

    # of the crashed one all is lost, its compiling too
    attempt(parts, clock, Config(killed, 8), monkeypatch, age_s=0)
    last = {**second, "steps": 8 * STEP, "compiling": 3 * COMPILING, "waiting_for_data": 8 * WAIT}
    last |= {"saving": 4 * SAVING, "evaluating": 4 * EVALUATING, "other": 2 * AFTER_LOOP}
    of_crashed = 1 + OPENING + COMPILING + 2 * (STEP + WAIT)
    last["lost_to_restarts"] += of_crashed + OPENING
    assert read_summary(killed)["seconds"] == {**last, "all": sum(last.values())}
    assert [each["step"] for each in read_summary(killed)["saved"]] == [6, 8]


def test_a_run_killed_before_its_first_checkpoint_has_lost_all_of_its_time(
    parts, clock, monkeypatch, tmp_path
):
    def is_killed(run, tick):
        if tick.step == 2:
            shutil.copytree(run.path, tmp_path / "killed")

    attempt(parts, clock, Config(tmp_path / "whole", 2), monkeypatch, age_s=3, at_step=is_killed)
    attempt(parts, clock, Config(tmp_path / "killed", 2), monkeypatch, age_s=7)
    seconds = read_summary(tmp_path / "killed")["seconds"]
    assert seconds["lost_to_restarts"] == 3 + OPENING + COMPILING + STEP + WAIT + 7 + OPENING
    assert (seconds["starting"], seconds["steps"]) == (0, 2 * STEP)


def test_a_summary_of_before_without_its_saves_has_lost_nothing_but_the_start(
    parts, clock, monkeypatch, tmp_path
):
    attempt(parts, clock, Config(tmp_path, 2), monkeypatch, age_s=3)
    content = json.loads((tmp_path / "summary.json").read_text())
    kinds = ("steps", "compiling", "waiting_for_data", "saving", "evaluating", "other", "all")
    content["seconds"] = {kind: content["seconds"][kind] for kind in kinds}
    del content["saved"], content["shares_percent"]
    (tmp_path / "summary.json").write_text(json.dumps(content))
    attempt(parts, clock, Config(tmp_path, 4), monkeypatch, age_s=7)
    seconds = read_summary(tmp_path)["seconds"]
    assert (seconds["starting"], seconds["lost_to_restarts"]) == (0, 7 + OPENING)


@given(st.dictionaries(st.sampled_from(KINDS), st.floats(0, 1e7), max_size=len(KINDS)))
def test_shares_are_whole_tenths_that_sum_to_100_and_are_near_the_exact_ones(seconds):
    shares, whole = shares_percent({**seconds, "all": 1.0}), sum(seconds.values())
    if whole == 0:
        assert shares == {}
        return
    assert list(shares) == [kind for kind in KINDS if kind in seconds]
    assert sum(round(10 * share) for share in shares.values()) == 1000
    for kind, share in shares.items():
        assert abs(share - 100 * seconds[kind] / whole) < 0.1 + 1e-9 and round(10 * share) / 10 == share


@given(*2 * [st.dictionaries(st.sampled_from(KINDS), st.integers(0, 100))])
def test_a_restart_moves_time_and_makes_none(saved, more):
    recorded = {kind: saved.get(kind, 0) + more.get(kind, 0) for kind in KINDS}
    assert sum(after_restart(recorded, saved).values()) == sum(recorded.values())


def test_the_age_of_a_process_is_taken_once_and_not_in_a_session(monkeypatch):
    monkeypatch.setattr(process_age, "_claimed", [])
    monkeypatch.setattr(process_age.sys, "ps1", ">>> ", raising=False)
    assert process_age.unclaimed_age_s() == 0
    monkeypatch.delattr(process_age.sys, "ps1")
    age_s = process_age.unclaimed_age_s()
    began_s = Path("/proc/self").stat().st_ctime  # the system's own word for when it made the process
    assert age_s == pytest.approx(process_age.time.time() - began_s, abs=60) and age_s > 0
    assert process_age.unclaimed_age_s() == 0
