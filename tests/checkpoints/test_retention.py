"""Which checkpoints stay, against a loop written by hand; honest scores."""

import hashlib
import json
import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fourbeat.checkpoints import Checkpoints, folders, retention
from fourbeat.checkpoints.folders import Entry
from fourbeat.checkpoints.retention import Saved


def kept_by_hand(saves, last, every, seconds, best):
    """Replays the saves with lists alone; each is (step, time, scores)."""
    there = []
    for save in saves:
        there = [old for old in there if old[0] != save[0]] + [save]
        stay = there[-last:] if last else list(there)
        for name, (mode, count) in best.items():
            having = [old for old in there if name in old[2]]
            having.sort(key=lambda old: old[2][name], reverse=mode == "max")
            stay += having[:count]
        if every:
            for k in range(1, 100):
                stay += sorted(old for old in there if old[0] // every == k)[:1]
        if seconds:
            time = -math.inf
            for old in there:
                if old[1] >= time + seconds:
                    stay.append(old)
                    time = old[1]
        there = [old for old in there if old in stay]
    return [save[0] for save in there]


SEVERAL = {"a": ("max", 2), "b": ("min", 1)}
saves_with_gaps = st.lists(
    st.tuples(st.integers(0, 12), st.integers(0, 9), st.booleans(), st.booleans()), max_size=14
)


@settings(deadline=None, max_examples=400, derandomize=True)
@given(
    saves_with_gaps,
    st.randoms(use_true_random=False),
    st.sampled_from([None, 1, 2, 3]),
    st.sampled_from([None, 1, 3, 5]),
    st.sampled_from([None, 7.0]),
    st.sampled_from([{}, {"a": ("min", 1)}, SEVERAL]),
)
def test_what_stays_is_what_the_loop_by_hand_keeps(saves, random, last, every, seconds, best):
    rules, there, time, seen = retention.Rules(last, every, seconds, best), [], 0, []
    is_killed_at_times = len({save[0] for save in saves}) == len(saves)
    for number, (step, gap, *has) in enumerate(saves):
        time += gap
        scores = {name: random.random() for name, is_there in zip("ab", has, strict=True) if is_there}
        seen.append((step, time, scores))
        there.append(Saved(Entry(number, step, None), scores, time))
        # killed between a save and the removals, the next save makes up for it
        if not is_killed_at_times or random.random() < 0.5 or number == len(saves) - 1:
            why = retention.reasons(there, rules)
            there = [saved for saved in there if why[saved.entry]]
    assert [saved.entry.step for saved in there] == kept_by_hand(seen, last, every, seconds, best)


NAN = math.nan
SCORES = {
    # (mode, keep_last, keep_best, [(step, score), ...], steps that stay, best)
    "best survives": ("max", 1, 1, [(1, 0.9), (2, 0.5), (3, 0.6)], (1, 3), 1),
    "a lower loss": ("min", 1, 1, [(1, 0.9), (2, 0.5), (3, 0.6)], (2, 3), 2),
    "NaN first": ("min", 1, 1, [(1, NAN), (2, 0.5), (3, NAN)], (2, 3), 2),
    "NaN in max": ("max", 1, 1, [(1, -5.0), (2, NAN), (3, NAN)], (1, 3), 1),
    "only NaN": ("max", 1, 2, [(1, NAN), (2, NAN)], (2,), None),
    "no score": ("max", 1, 1, [(1, None), (2, None)], (2,), None),
    "infinity is a number": ("max", 1, 1, [(1, -math.inf), (2, NAN)], (1, 2), 1),
    "equal scores: the first": ("max", 1, 1, [(1, 0.5), (2, 0.5), (3, 0.1)], (1, 3), 1),
    "the newest is the best": ("max", 1, 1, [(1, 0.5), (2, 0.7)], (2,), 2),
    "two best, one last": ("max", 1, 2, [(1, 0.5), (2, 0.7), (3, 0.6), (4, 0.1)], (2, 3, 4), 2),
    "a step saved again": ("max", 1, 1, [(1, 0.9), (2, 0.1), (1, 0.2)], (1,), 1),
    "gone back to step 2": ("max", 1, None, [(2, 0.9), (4, 0.5), (3, 0.6)], (3,), 3),
    "a scalar array": ("max", 1, 1, [(1, np.float32(0.5)), (2, np.array(0.25))], (1, 2), 1),
}


@pytest.mark.parametrize("case", SCORES)
def test_scores(case, tmp_path):
    mode, keep_last, keep_best, saves, steps, best = SCORES[case]
    with Checkpoints(tmp_path, keep_last=keep_last, keep_best=keep_best, mode=mode) as checkpoints:
        for step, score in saves:
            checkpoints.save(step, {"step": step}, score=score)
    assert checkpoints.steps == steps
    for digest in tmp_path.glob("*/digest.json"):
        json.loads(digest.read_text(), parse_constant=pytest.fail)  # a bare NaN or Infinity is no JSON
    assert checkpoints.latest == saves[-1][0]
    again = Checkpoints(tmp_path, mode=mode)  # nothing of it lives in memory only
    assert again.best == checkpoints.best == best
    if best is not None:
        assert again.restore({"step": 0}, step="best") == {"step": best}
    else:
        with pytest.raises(FileNotFoundError) as error:
            again.restore({"step": 0}, step="best")
        assert str(error.value) == (
            f"no checkpoint in {tmp_path} has a score. Save with score=, or restore 'latest'."
        )
    assert again.restore({"step": 0}) == {"step": saves[-1][0]}


def test_a_step_saved_again_is_replaced_by_the_new_values_and_score(tmp_path):
    with Checkpoints(tmp_path, keep_last=None, mode="max") as checkpoints:
        checkpoints.save(1, {"a": 1}, score=0.9)
        checkpoints.save(2, {"a": 2}, score=0.5)
        checkpoints.save(1, {"a": 3}, score=0.1)
    assert checkpoints.restore({"a": 0}, step=1) == {"a": 3}
    assert (checkpoints.steps, checkpoints.best, checkpoints.latest) == ((1, 2), 2, 1)
    assert len(folders.entries(tmp_path)) == 2


def test_going_back_makes_the_new_save_the_latest(tmp_path):
    with Checkpoints(tmp_path, keep_last=3) as checkpoints:
        for step in (100, 200, 300):
            checkpoints.save(step, {"a": step})
        tree = checkpoints.restore({"a": 0}, step=100)
        checkpoints.save(110, {"a": tree["a"] + 10})
    assert checkpoints.latest == 110
    assert checkpoints.restore({"a": 0}) == {"a": 110}
    assert checkpoints.steps == (110, 200, 300)


def test_the_old_one_goes_only_after_the_new_one_stands(tmp_path, monkeypatch):
    seen = []
    real = folders.remove

    def watched(entry):
        seen.append((entry.step, [found.step for found in folders.entries(tmp_path)]))
        real(entry)

    monkeypatch.setattr(folders, "remove", watched)
    with Checkpoints(tmp_path) as checkpoints:
        for step in (1, 2, 2, 3):
            checkpoints.save(step, {"a": step})
    assert seen == [(1, [1, 2]), (2, [2, 2]), (2, [2, 3])]


def test_leftovers_are_ignored_and_cleaned_and_nothing_else_is(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"a": 1})
    others = ["notes.txt.saving", "step-5", "step-x-save-1", "metrics.jsonl"]
    leftovers = ["step-9-save-9.saving", "step-0-save-0.removing"]
    for name in [*others, *leftovers]:
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("here")
    with Checkpoints(tmp_path, keep_last=2) as checkpoints:
        assert checkpoints.steps == (1,)
        assert checkpoints.restore({"a": 0}) == {"a": 1}
        assert (tmp_path / leftovers[0]).exists(), "a reader cleans nothing: another process may be saving"
        checkpoints.save(2, {"a": 2})
    assert {path.name for path in tmp_path.iterdir()} == {*others, "step-1-save-1", "step-2-save-2"}
    assert all((tmp_path / name / "file").exists() for name in others)


NAMED = {"accuracy": ("max", 2), "loss": ("min", 1)}


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Twelve saves by three rules, the last of them in an object that was made anew."""
    directory = tmp_path_factory.mktemp("many")
    for steps in (range(1, 9), range(9, 13)):
        with Checkpoints(directory, keep_every=5, best=NAMED) as checkpoints:
            for step in steps:
                scores = {"accuracy": np.float32(step in (3, 4)), "loss": (step - 6) ** 2, "more": np.ones(3)}
                checkpoints.save(step, {"step": step}, score=scores if step != 11 else None)
    return directory


def without_times(text):
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "TIME", text)


def test_several_scores_and_one_in_so_many_steps_stay_beside_the_last(many):
    checkpoints = Checkpoints(many, keep_every=5, best=NAMED)  # nothing of it lives in memory only
    assert checkpoints.steps == (3, 4, 5, 6, 10, 12)
    assert checkpoints.best_steps == {"accuracy": 3, "loss": 6}
    assert checkpoints.restore({"step": 0}, step="best accuracy") == {"step": 3}
    assert checkpoints.restore({"step": 0}, step="best loss") == {"step": 6}
    assert without_times(str(checkpoints)).splitlines() == [
        f"Checkpoints in {many}: keep_last=1, keep_every=5, best accuracy max 2, best loss min 1",
        "step  saved             accuracy  loss  kept as",
        "   3  TIME         1     9  best accuracy",
        "   4  TIME         1     4  2nd best accuracy",
        "   5  TIME         0     1  every 5 steps",
        "   6  TIME         0     0  best loss",
        "  10  TIME         0    16  every 5 steps",
        "  12  TIME         0    36  last",
    ]
    for_looking = str(Checkpoints(many)).splitlines()
    assert for_looking[0] == f"Checkpoints in {many}: keep_last=1"
    assert for_looking[2].endswith("1     9  nothing: the next save removes it")


ASKED = {
    "which": ("best", ValueError, "which score is the best of? Several are ranked: "
        "restore 'best accuracy' or 'best loss'."),
    "unknown": ("best acc", ValueError, "the score 'acc' is not ranked here: "
        "restore 'best accuracy' or 'best loss'."),
}  # fmt: skip


@pytest.mark.parametrize("case", ASKED)
def test_the_best_of_several_scores_is_asked_for_by_name(case, many):
    step, kind, text = ASKED[case]
    checkpoints = Checkpoints(many, best=NAMED)
    with pytest.raises(kind) as error:
        checkpoints.restore({"step": 0}, step=step)
    assert str(error.value) == text
    if case == "which":
        with pytest.raises(ValueError) as error:
            checkpoints.best  # noqa: B018
        assert str(error.value) == text


def test_one_in_so_many_seconds_stays_from_one_process_to_the_next(tmp_path):
    for first in (1, 5):
        with Checkpoints(tmp_path, keep_seconds=1e9) as checkpoints:
            for step in range(first, first + 4):
                checkpoints.save(step, {"step": step})
    assert checkpoints.steps == (1, 8)
    assert str(checkpoints).splitlines()[2].endswith("every 1e+09 seconds")
    with Checkpoints(tmp_path / "all", keep_seconds=1e-9) as checkpoints:
        for step in range(4):
            checkpoints.save(step, {"step": step})
    assert checkpoints.steps == (0, 1, 2, 3)


def test_a_score_without_a_name_is_that_of_the_only_name(tmp_path):
    with Checkpoints(tmp_path, best={"loss": ("min", 1)}) as checkpoints:
        for step, score in [(1, 0.5), (2, 0.25), (3, {"loss": 0.75})]:
            checkpoints.save(step, {"step": step}, score=score)
    assert (checkpoints.steps, checkpoints.best, checkpoints.best_steps) == ((2, 3), 2, {"loss": 2})
    assert checkpoints.restore({"step": 0}, "best") == checkpoints.restore({"step": 0}, "best loss")


def test_a_checkpoint_that_was_written_with_one_score_and_no_time_is_read(tmp_path):
    with Checkpoints(tmp_path, keep_best=1, mode="max") as checkpoints:
        checkpoints.save(1, {"step": 1}, score=0.5)
    path = next(tmp_path.glob("*/digest.json"))
    content = json.loads(path.read_text())
    del content["scores"], content["saved_at_s"], content["sha256"]
    content["score"] = 0.5
    sha256 = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps({**content, "sha256": sha256}))
    checkpoints = Checkpoints(tmp_path, keep_best=1, mode="max", keep_seconds=60)
    assert checkpoints.best == 1 and checkpoints.restore({"step": 0}, "best") == {"step": 1}
    assert str(checkpoints).splitlines()[1:] == [
        "step  saved  score  kept as",
        "   1  -        0.5  last, best score",
    ]


def test_what_is_damaged_is_listed_as_that(tmp_path):
    with Checkpoints(tmp_path, keep_last=2) as checkpoints:
        assert str(checkpoints) == f"Checkpoints in {tmp_path}: keep_last=2\nnone is there"
        checkpoints.save(1, {"step": 1})
        checkpoints.save(2, {"step": 2})
    (tmp_path / "step-1-save-1" / "digest.json").unlink()
    lines = str(Checkpoints(tmp_path, keep_last=2)).splitlines()
    assert lines[2] == "   1  -                 damaged: digest.json is missing, or no plain file"
    assert lines[3].endswith("  last")
