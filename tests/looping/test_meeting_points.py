"""Loops of several processes: stops and marks in seconds fall on all of them at the same point."""

import json

import pytest

from fourbeat.looping.meeting_points import agreed, merged
from tests.distributed import processes

STOP, CLOCK = {"stops": {"0": 15}}, {"elapsed_s": 2.5}


@pytest.mark.parametrize(
    ("reached", "wishes", "expected"),
    [
        ([3, 3], [{"1": STOP}, {}], (4, {"1": STOP})),  # nobody is ahead: at the next point
        ([3, 9], [{"1": STOP}, {}], (10, {"1": STOP})),  # the one that is ahead cannot go back
        ([9, 3], [{"1": CLOCK}, {"1": STOP}], (10, {"1": {**STOP, **CLOCK}})),
        ([0, 0, 2], [{"1": STOP}, {"2": CLOCK}, {}], (3, {"1": STOP, "2": CLOCK})),  # of two loops
        ([5, 4], [{}, {}], (6, {})),
    ],
)
def test_what_is_wanted_falls_at_the_first_point_that_none_has_reached(reached, wishes, expected):
    told = [{"reached": each, "wishes": wish} for each, wish in zip(reached, wishes, strict=True)]
    assert agreed(told) == expected


@pytest.mark.parametrize(
    ("wishes", "expected"),
    [
        ([], {}),
        ([{"stops": {"0": 15}}, {"stops": {"0": 2}}], {"stops": {"0": 15}}),  # that of the lower process
        ([{"stops": {"1": None}}, {"stops": {"0": 2}}], {"stops": {"0": 2, "1": None}}),
        ([{"elapsed_s": 1.5}, {"elapsed_s": 3.0}], {"elapsed_s": 3.0}),
    ],
)
def test_wishes_of_several_processes_are_one(wishes, expected):
    assert merged(wishes) == expected


SCRIPT = """
    import json, os, signal, sys, threading
    import jax, numpy as np
    import fourbeat as fb

    fb.distributed.initialize()
    jax.devices()  # the processes tell each other of their devices
    index, seen = fb.distributed.process_index(), {}
    batches = fb.data.Arrays(x=np.arange(64.0)).batches(2)

    # a loop without a stop signal and without a clock needs nobody
    seen["alone"] = [tick.step for tick in fb.loop(batches, until=fb.at(steps=2))] if index else [1, 2]

    # marks in seconds, and an end in seconds
    timed, fallen = fb.every(seconds=0.05), []
    for tick in fb.loop(batches, until=fb.at(seconds=0.3), marks=[timed]):
        if timed in tick:
            fallen.append(tick.step)
    seen["timed"] = [tick.step, tick.is_last, *fallen]
    for tick in fb.loop(batches, until=fb.at(seconds=0.1), steps_per_call=7):
        pass
    seen["blocks"] = [tick.step, tick.num_steps]

    # a signal on process 1 alone, and a later loop with the same stop
    stop = fb.stop_signal()
    loop = fb.loop(batches, until=fb.at(steps=1_000_000) | stop)
    for tick in loop:
        if index == 1 and tick.step == 5:
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop.is_requested and not loop.interrupted  # the others do not know yet
    seen["signal"] = [loop.step, loop.interrupted, loop.signal, stop.is_requested]
    seen["signal_comes_first"] = [loop.step < 1_000_000, [*fb.loop(batches, until=stop)]]

    # a stop in an evaluation that can be interrupted, asked for on process 0 at its 50th batch
    stop, look, evaluated = fb.stop_signal(install=False), fb.every(steps=3), 0
    loop = fb.loop(batches, until=fb.at(steps=20) | stop, marks=[look])
    for tick in loop:
        if look in tick:
            for number in loop.interruptible(range(100_000)):
                evaluated += 1
                if index == 0 and evaluated == 50:
                    stop.request()
    seen["cut_short"] = [loop.step, evaluated, loop.interrupted, sorted(map(repr, loop.unfinished))]
    assert 50 <= evaluated < 100_000

    # a stop while both wait for data: process 1 is asked from another thread
    def decode(number):
        if number >= 12:
            waiting.set()
            released.wait()
        return {"x": np.float32(number)}

    waiting, released = threading.Event(), threading.Event()
    stop = fb.stop_signal(install=False)
    if index == 1:
        threading.Thread(target=lambda: (waiting.wait(), stop.request())).start()
    hanging = fb.data.Examples(range(64), decode=decode).batches(2, workers=1, ahead=1)
    loop = fb.loop(hanging, until=fb.at(steps=20) | stop)
    for tick in loop:
        pass
    released.set()
    seen["waiting"] = [loop.step, loop.interrupted]

    # after all this both still count alike
    stop = fb.stop_signal(install=False)
    loop = fb.loop(batches, until=stop)
    for tick in loop:
        if index == 0 and tick.step == 3:
            stop.request()
    seen["again"] = [loop.step, loop.interrupted]

    try:
        [*fb.loop(batches, until=fb.at(steps=9) | fb.stop_signal(), start=4 * index)]
    except fb.distributed.PeerError as error:
        seen["other_start"] = str(error)
    print(json.dumps(seen))
"""


def test_processes_stop_and_see_the_clock_at_the_same_point(tmp_path):
    first, second = (json.loads(output) for output in processes.succeed(SCRIPT, 2, tmp_path, kill_after_s=15))
    assert first == second
    assert first["timed"][1] and len(first["timed"]) > 2
    assert first["blocks"][1] in range(1, 8)
    assert first["signal"][1:] == [True, 15, True] and first["signal_comes_first"] == [True, []]
    assert first["cut_short"][2:] == [True, ["every(steps=3)"]]
    assert first["waiting"] == [6, True]
    assert first["again"][1]
    assert first["other_start"] == (
        "process 0 begins a loop with start=0, until=at(steps=9) | stop_signal(SIGINT, SIGTERM, SIGHUP), "
        "steps_per_call=1, and process 1 one with start=4, until=at(steps=9) | stop_signal(SIGINT, SIGTERM, "
        "SIGHUP), steps_per_call=1. Every process has to run the same program, from the same step."
    )
