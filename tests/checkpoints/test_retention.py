"""Which checkpoints stay, against a loop written by hand; honest scores."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fourbeat.checkpoints import Checkpoints, folders, retention
from fourbeat.checkpoints.folders import Entry


def kept_by_hand(saves, keep_last, keep_best, mode):
    """Replays the saves; each is (step, score), None for no score."""
    there = []
    for step, score in saves:
        there = [old for old in there if old[0] != step] + [(step, score)]
        numbers = [s for _, s in there if s is not None and not math.isnan(s)]
        numbers.sort(reverse=mode == "max")
        stay = there[-keep_last:] if keep_last else list(there)
        for number in numbers[: keep_best or 0]:
            stay += [next(old for old in there if old not in stay or (old[1] == number and old[1] is not None)
                          if old[1] == number)]  # fmt: skip
        there = [old for old in there if old in stay]
    return [step for step, _ in there]


distinct_scores = st.lists(st.tuples(st.integers(0, 6), st.sampled_from([None, math.nan, 1])), max_size=12)


@settings(deadline=None, max_examples=300, derandomize=True)
@given(
    distinct_scores,
    st.randoms(use_true_random=False),
    st.sampled_from([None, 1, 2, 3]),
    st.sampled_from([None, 1, 2]),
    st.sampled_from(["min", "max"]),
)
def test_what_stays_is_what_the_loop_by_hand_keeps(saves, random, keep_last, keep_best, mode):
    numbers = random.sample(range(100), len(saves))
    saves = [
        (step, float(n) if score == 1 else score) for (step, score), n in zip(saves, numbers, strict=True)
    ]
    scores = {}
    for save, (step, score) in enumerate(saves):
        scores[Entry(save, step, None)] = score
        best = retention.best_first(scores, mode)
        for entry in retention.outdated(list(scores), keep_last, best, keep_best):
            del scores[entry]
    assert [entry.step for entry in scores] == kept_by_hand(saves, keep_last, keep_best, mode)


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
