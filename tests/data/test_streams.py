"""Streams: what is read in order resumes exactly, whatever was read ahead, and lets its workers go."""

import itertools
import json
import multiprocessing
import os
import signal
import threading

import numpy as np
import pytest
from absl import flags

import fourbeat as fb
from tests.data.leftovers import assert_memory_stays, assert_nothing_runs_on
from tests.data.streams_of import (
    BATCH_SIZE,
    ENDLESS,
    KINDS,
    NUM_EXAMPLES,
    PER_PASS,
    WITH_WORKERS,
    Counter,
    OnePass,
    Passes,
    grain_loader,
    stateful_loader,
)

pytestmark = [
    pytest.mark.filterwarnings(
        "ignore:'set_vital' is deprecated:UserWarning"
    ),  # torchdata 0.11 on torch 2.13
]


def ids_of(ticks):
    return [np.asarray(tick.batch["id"]).tolist() for tick in ticks]


def library(kind):
    pytest.importorskip(kind.needs)
    return kind


def cells(table):
    return [pytest.param(table[name], id=name) for name in table]


@pytest.mark.parametrize("kind", cells(KINDS))
def test_at_each_step_of_two_epochs_a_stream_goes_on_exactly(kind):
    library(kind)
    before = set(threading.enumerate())
    stream, states, batches = fb.data.Stream(kind.make()), [], []
    states.append(stream.state())
    end, until = fb.every(epochs=1), fb.at(epochs=kind.num_passes)
    for tick in fb.loop(stream, until=until, marks=[end]):
        batches.append(np.asarray(tick.batch["id"]).tolist())
        assert (end in tick) == (tick.step % PER_PASS == 0)  # read ahead, to see whether the pass ends
        states.append(stream.state())
    assert stream.step == len(batches) == kind.num_passes * PER_PASS
    passes = [list(itertools.chain(*batches[i : i + PER_PASS])) for i in range(0, len(batches), PER_PASS)]
    assert all(sorted(ids) == list(range(NUM_EXAMPLES)) for ids in passes)
    assert len({tuple(ids) for ids in passes}) == (kind.num_passes if kind.reshuffles else 1)

    if kind.num_passes > 1 and kind.needs != "tensorflow":  # the stream itself can be set back
        ticks = fb.loop(stream.restore(states[PER_PASS + 1]), start=PER_PASS + 1, until=until)
        assert ids_of(ticks) == batches[PER_PASS + 1 :]
    for step, state in enumerate(states[: 2 * PER_PASS + 1]):
        json.loads(state)
        resumed = fb.data.Stream(kind.make()).restore(state)
        ticks = list(fb.loop(resumed, start=step, until=until, marks=[end]))
        assert ids_of(ticks) == batches[step:], step
        assert [tick.step for tick in ticks] == list(range(step + 1, len(batches) + 1))
        if ticks:
            assert (ticks[-1].epoch, ticks[-1].examples) == (kind.num_passes, kind.num_passes * NUM_EXAMPLES)
            assert resumed.state() == states[-1]
    assert_nothing_runs_on(before)


@pytest.mark.parametrize("kind", cells(KINDS))
def test_the_types_of_a_source_are_kept_as_far_as_it_gives_them(kind):
    library(kind)
    if not kind.small:
        pytest.skip("the library widens them, and its features do not say from what")
    (tick,) = fb.loop(fb.data.Stream(kind.make()), until=fb.at(steps=1))
    assert {name: (column.dtype, column.shape) for name, column in tick.batch.items()} == {
        "id": ("int32", (4,)),
        "x": ("uint8", (4, 3)),
        "half": ("float16", (4,)),
    }
    np.testing.assert_array_equal(tick.batch["x"], np.repeat(np.asarray(tick.batch["id"])[:, None], 3, 1))


@pytest.mark.parametrize("source", cells(WITH_WORKERS))
@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")  # JAX, of the workers that PyTorch forks
def test_with_workers_in_the_middle_of_the_second_epoch_and_none_is_left(source):
    kind = library(source.kind)
    until, last = fb.at(steps=3 * PER_PASS), source.starts[-1]
    flags.FLAGS.unparse_flags()  # as in a program that never parsed them
    whole = source.whole(2)
    unbroken = whole if isinstance(whole, list) else ids_of(fb.loop(fb.data.Stream(whole), until=until))
    assert sorted(itertools.chain(*unbroken)) == sorted(3 * list(range(NUM_EXAMPLES)))
    assert unbroken[:PER_PASS] != unbroken[PER_PASS : 2 * PER_PASS]
    stream, epoch_end = fb.data.Stream(kind.make(2)), fb.every(epochs=1)
    seen, states, threads = [], {}, set(threading.enumerate())
    for tick in fb.loop(stream, until=until, marks=[epoch_end]):
        assert len(multiprocessing.active_children()) == 2
        seen.append(np.asarray(tick.batch["id"]).tolist())
        _ = epoch_end in tick  # reads ahead
        states[tick.step] = stream.state()
        if tick.step == last:
            break
    assert multiprocessing.active_children() == []
    assert stream.state() == states[last] and seen == unbroken[:last]
    for start in source.starts:
        resumed = fb.data.Stream(kind.make(2)).restore(states[start])
        assert ids_of(fb.loop(resumed, start=start, until=until)) == unbroken[start:]
        assert multiprocessing.active_children() == []
    assert_nothing_runs_on(threads)


class Stop(Exception):
    """What a body raises."""


@pytest.mark.parametrize("kind", cells({name: KINDS[name] for name in KINDS if KINDS[name].num_passes > 1}))
def test_a_loop_that_ends_in_any_way_leaves_the_stream_after_the_last_batch_given(kind):
    """A break, an exception, a stop, a limit, each with a batch read ahead: another loop goes on."""
    library(kind)
    unbroken = ids_of(fb.loop(fb.data.Stream(kind.make()), until=fb.at(steps=8)))
    stream, stop = fb.data.Stream(kind.make()), fb.stop_signal(install=False)
    seen = []

    def go_on(until, *, breaks=False, raises=False, asks=True):
        for tick in fb.loop(stream, start=stream.step, until=until):
            seen.append(np.asarray(tick.batch["id"]).tolist())
            _ = tick.epoch if asks else None  # reads the batch after
            if breaks:
                break
            if raises:
                raise Stop

    go_on(fb.at(steps=8), breaks=True)
    assert stream.step == 1
    with pytest.raises(Stop):
        go_on(fb.at(steps=8), raises=True)
    assert stream.step == 2
    for tick in fb.loop(stream, start=2, until=fb.at(steps=8) | stop):
        seen.append(np.asarray(tick.batch["id"]).tolist())
        stop.request()
    assert stream.step == 3
    go_on(fb.at(steps=4))
    blocks = list(fb.loop(stream, start=4, until=fb.at(steps=8), steps_per_call=2))
    for tick in blocks:
        seen += [np.asarray(tick.batch.take(i)["id"]).tolist() for i in range(tick.num_steps)]
    assert seen == unbroken


class Interrupting(Counter):
    """Asks for a stop while its fourth batch is read, once."""

    def __init__(self, stop):
        super().__init__()
        self.stop, self.num_read = stop, 0

    def __iter__(self):
        for batch in super().__iter__():
            self.num_read += 1
            if self.num_read == 4:
                self.stop.request()
            yield batch


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("marks", [[], [fb.every(steps=3)]])
def test_a_batch_that_was_read_for_a_tick_that_never_came_is_given_to_the_next_loop(size, marks):
    unbroken = ids_of(fb.loop(fb.data.Stream(Counter()), until=fb.at(steps=9)))
    stop = fb.stop_signal(install=False)
    stream, seen = fb.data.Stream(Interrupting(stop)), []
    for until in (fb.at(steps=9) | stop, fb.at(steps=9)):
        for tick in fb.loop(stream, start=stream.step, until=until, marks=marks, steps_per_call=size):
            batches = [tick.batch] if size == 1 else [tick.batch.take(i) for i in range(tick.num_steps)]
            seen += [np.asarray(batch["id"]).tolist() for batch in batches]
            assert stream.step == tick.step
    assert seen == unbroken


@pytest.mark.parametrize("how", ["break", "error", "signal", "limit"])
@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")  # JAX, of the workers that PyTorch forks
def test_workers_end_with_the_loop_whatever_ends_it(how):
    pytest.importorskip("torchdata")
    stop = fb.stop_signal()
    stream = fb.data.Stream(stateful_loader(3, num_workers=2, persistent_workers=how == "limit"))
    try:
        for tick in fb.loop(stream, until=fb.at(steps=5) | stop):
            assert len(multiprocessing.active_children()) == 2
            if tick.step == 4 and how == "break":
                break
            if tick.step == 4 and how == "error":
                raise Stop
            if tick.step == 4 and how == "signal":
                os.kill(os.getpid(), signal.SIGTERM)
    except Stop:
        assert how == "error"
    assert multiprocessing.active_children() == []
    assert stream.step == (5 if how == "limit" else 4)


def test_a_loop_by_hand_reads_a_stream_too():
    for make in (Counter, Passes, lambda: lambda number: OnePass(number)):
        unbroken = ids_of(fb.loop(fb.data.Stream(make()), until=fb.at(epochs=3)))
        stream, states = fb.data.Stream(make()), []
        for expected in (unbroken[:3], unbroken[3:6], unbroken[6:]):
            seen = []
            for batch in stream:
                seen.append(batch["id"].tolist())
                states.append(stream.state())
            assert seen == expected
        for step, state in enumerate(states, 1):
            resumed, seen = fb.data.Stream(make()).restore(state), []
            while len(seen) < 9 - step:
                seen += [batch["id"].tolist() for batch in resumed]
            assert seen == unbroken[step:]
        ticks = fb.loop(fb.data.Stream(make()).restore(states[-1]), start=9, until=fb.at(examples=40))
        assert [tick.examples for tick in ticks] == [37, 41]  # those of the loop by hand are counted


@pytest.mark.parametrize(("kind", "num_steps"), [pytest.param(*ENDLESS[name], id=name) for name in ENDLESS])
def test_an_endless_stream_loses_nothing_and_takes_no_more_memory(kind, num_steps):
    library(kind)
    stream, step, counts, late = fb.data.Stream(kind.make()), fb.every(epochs=1), np.zeros(NUM_EXAMPLES), []

    def ticks():
        for tick in fb.loop(stream, until=fb.at(steps=num_steps), marks=[step]):
            assert step not in tick  # which reads ahead
            ids = np.asarray(tick.batch["id"])
            counts[ids] += 1
            if tick.step > num_steps - 3:
                late.append((stream.state(), ids.tolist()))
            yield tick

    assert_memory_stays(ticks(), num_steps)
    assert counts.max() - counts.min() <= 1 and counts.sum() == num_steps * BATCH_SIZE
    resumed = fb.data.Stream(kind.make()).restore(late[0][0])
    ticks = fb.loop(resumed, start=num_steps - 2, until=fb.at(steps=num_steps))
    assert ids_of(ticks) == [ids for _, ids in late[1:]]


def test_no_thread_of_grain_is_left():
    pytest.importorskip("grain")
    before = set(threading.enumerate())
    stream = fb.data.Stream(grain_loader())
    for tick in fb.loop(stream, until=fb.at(steps=4)):
        if tick.step == 2:
            assert any(thread.name.startswith("grain") for thread in threading.enumerate())
    assert_nothing_runs_on(before)
