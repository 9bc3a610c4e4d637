"""Who is named as slow, from what the processes say of themselves."""

from fourbeat.distributed.meeting import Person
from fourbeat.distributed.watching import _Slowness

FIRST, SECOND, THIRD = (Person(index, 3, f"host{index}", 100 + index) for index in range(3))


def state(step, since_s, waits=False):
    return {"step": step, "since_s": since_s, "waits": waits, "place": "train.py:31 (read)"}


def lines(*states, seconds=30):
    slowness = _Slowness()
    persons = (FIRST, SECOND, THIRD)
    seen = [slowness.see(dict(zip(persons, states, strict=False)), float(now)) for now in range(seconds)]
    return [line for line in seen if line is not None]


def test_who_is_behind_is_named_after_ten_seconds_and_then_less_often():
    seen = lines(state(5, 4.0), state(4, 4.0), state(5, 3.0), seconds=40)
    assert seen == [
        "process 1 (host1, pid 101) is slow: the others have waited 10 s for it. It is at step 4 in "
        "train.py:31 (read).",
        "process 1 (host1, pid 101) is slow: the others have waited 30 s for it. It is at step 4 in "
        "train.py:31 (read).",
    ]


def test_at_the_same_step_who_does_not_wait_is_waited_for():
    assert len(lines(state(5, 4.0, waits=True), state(5, 4.0), state(5, 4.0, waits=True))) == 1
    assert lines(state(5, 4.0, waits=True), state(5, 4.0), state(5, 4.0)) == []  # two of them work
    assert len(lines(state(None, 4.0, waits=True), state(None, 4.0))) == 1  # a loop that notes no step


def test_nobody_is_named_for_a_quick_step_alone_or_in_turns():
    assert lines(state(5, 0.3), state(4, 0.2)) == []
    assert lines(state(5, 100.0)) == []
    slowness = _Slowness()
    for now in range(100):
        behind = {FIRST: state(4 + now % 2, 2.0), SECOND: state(5 - now % 2, 2.0)}
        assert slowness.see(behind, float(now)) is None
