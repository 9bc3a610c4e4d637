"""What a loop warns of: an end before its start, an iterator that is too short, a resume that may differ."""

import warnings

import numpy as np
import pytest

from fourbeat.data import Arrays, padded
from fourbeat.looping import (
    EndedEarlyWarning,
    InexactResumeWarning,
    StartBeyondEndWarning,
    at,
    loop,
    stop_signal,
)

BATCHES = [{"x": np.zeros((2, 1))}] * 4


class Stream:
    """Batches that can be iterated, again and again, and nothing else."""

    def __iter__(self):
        return iter(BATCHES)


INEXACT = (
    "start={}: the batches before are read from the {} and dropped. The run goes on exactly only if "
    "iterating gives the same batches in the same order in every process; a loader that shuffles does not. "
    "data.batches(...) and a list give any step by its number; what has a state of its own goes on in "
    "fb.data.Stream(...)."
)
KINDS = {
    "by number": (
        lambda: loop(Arrays(x=np.arange(100.0)).batches(8), start=150, until=at(epochs=10)),
        [
            (
                StartBeyondEndWarning,
                "start=150 is beyond step 130, at which until=at(epochs=10) ends the loop, so there is no "
                "tick. Where the batch size has changed, steps are other steps: the step that has seen as "
                "many examples is batches.step_of(examples=...), for state.replace(step=...).",
            )
        ],
    ),
    "list": (
        lambda: loop(BATCHES, start=6, until=at(examples=9) | stop_signal()),
        [
            (
                StartBeyondEndWarning,
                "start=6 is beyond step 5, at which until=at(examples=9) | stop_signal(SIGINT, SIGTERM, "
                "SIGHUP) ends the loop, so there is no tick. Where the batch size has changed, steps are "
                "other steps: begin at the step that has seen as many examples.",
            )
        ],
    ),
    "stream": (
        lambda: loop(Stream(), start=6, until=at(epochs=1)),
        [
            (InexactResumeWarning, INEXACT.format(6, "Stream")),
            (
                StartBeyondEndWarning,
                "start=6 is beyond step 4, at which until=at(epochs=1) ends the loop, so there is no tick. "
                "Where the batch size has changed, steps are other steps: begin at the step that has seen "
                "as many examples.",
            ),
        ],
    ),
    "resumed": (
        lambda: loop(Stream(), start=3, until=at(steps=5)),
        [(InexactResumeWarning, INEXACT.format(3, "Stream"))],
    ),
    "first step": (
        lambda: loop(Stream(), start=np.int32(0), until=at(steps=1)),
        [
            (
                InexactResumeWarning,
                "a run that goes on reads batches from the Stream again, up to its step, and drops them. "
                + INEXACT.partition("dropped. ")[2],
            )
        ],
    ),
    "never to go on": (lambda: loop(Stream(), until=at(steps=1)), []),
    "iterator": (
        lambda: loop(iter(BATCHES), until=at(epochs=3)),
        [
            (
                EndedEarlyWarning,
                "the list_iterator ended after 4 steps, before until=at(epochs=3): an iterator makes one "
                "pass. Pass what can be iterated anew for each epoch, such as data.batches(...) or a list, "
                "or ask for until=at(epochs=1).",
            )
        ],
    ),
    "one batch": (
        lambda: loop(iter(BATCHES[:1]), until=at(seconds=1e9)),
        [
            (
                EndedEarlyWarning,
                "the list_iterator ended after 1 step, before until=at(seconds=1000000000.0): an iterator "
                "makes one pass. Pass what can be iterated anew for each epoch, such as data.batches(...) "
                "or a list, or ask for until=at(epochs=1).",
            )
        ],
    ),
    "finished by number": (
        lambda: loop(Arrays(x=np.arange(8.0)).batches(4), start=4, until=at(epochs=2)),
        [],
    ),
    "finished list": (lambda: loop(BATCHES, start=4, until=at(epochs=1)), []),
    "finished stream": (lambda: loop(Stream(), start=4, until=at(steps=4)), []),
    "one pass": (lambda: loop(iter(BATCHES), until=at(epochs=1)), []),
    "until stopped": (lambda: loop(iter(BATCHES), until=stop_signal()), []),
    "list with examples": (lambda: loop(BATCHES, start=3, until=at(examples=10)), []),
}


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_warned_of_and_where(kind, size):
    make, expected = KINDS[kind]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        ticks = make()
        ticks.steps_per_call = size
        for _ in ticks:
            pass
    assert [(warning.category, str(warning.message)) for warning in told] == expected
    assert {warning.filename for warning in told} <= {__file__}


def test_a_stop_while_the_last_batch_is_read_is_no_early_end():
    stop = stop_signal(install=False)

    def batches():
        yield from BATCHES
        stop.request()

    assert len(list(loop(batches(), until=at(steps=9) | stop))) == 4


BY_INDEX = (
    "fb.data.Examples(loader.dataset).batches(32, shuffle=True, seed=0) gives any step by its number, and "
    "fb.data.Stream(loader) goes on where torchdata's StatefulDataLoader takes its place."
)
WITH_STATE = "fb.data.Stream of it goes on exactly, from a state that is saved with the run."


def torch_loader():
    import torch

    return torch.utils.data.DataLoader([{"x": np.float32(i)} for i in range(4)], batch_size=1)


def grain_pipeline():
    import grain

    return grain.MapDataset.source([{"x": np.float32(i)} for i in range(4)]).batch(1).to_iter_dataset()


class HasState(Stream):
    def get_state(self):
        return 0

    def set_state(self, state):
        pass


@pytest.mark.parametrize(
    ("needs", "make", "name", "way"),
    [
        ("torch", torch_loader, "DataLoader", BY_INDEX),
        ("torch", lambda: padded(torch_loader(), 2), "DataLoader", BY_INDEX),
        ("grain", grain_pipeline, "Grain IterDataset", WITH_STATE),
        ("numpy", HasState, "HasState", WITH_STATE),
    ],
    ids=["PyTorch", "PyTorch, padded", "Grain", "own state"],
)
def test_what_does_not_resume_exactly_says_once_what_of_its_library_does(needs, make, name, way):
    pytest.importorskip(needs)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert len(list(loop(make(), start=2, until=at(epochs=1)))) == 2
    text = INEXACT.format(2, name).partition("data.batches(...)")[0] + way
    assert [(warning.category, str(warning.message)) for warning in told] == [(InexactResumeWarning, text)]
