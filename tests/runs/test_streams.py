"""A run saves where its stream stands by the lines that save the rest, and goes on from there."""

import dataclasses
import itertools
import warnings
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fourbeat as fb
from fourbeat.runs import RunDirectory
from tests.data.streams_of import NUM_EXAMPLES, PER_PASS, Counter, grain_loader


@dataclasses.dataclass(frozen=True)
class Config:
    out: Path
    steps: int
    resume: str | None = "latest"


@pytest.fixture(scope="module")
def beats():
    made = fb.four_beats(lambda model, batch: (model["w"] - batch["id"]) ** 2, optax.sgd(1e-3))
    return made, fb.compile(made.train_step)


def ids_of(batch):
    return np.asarray(batch["id"])[np.asarray(batch["weight"]) > 0].tolist()


def train(beats, directory, source, steps, stop_after=None):
    """Trains up to a step, or is stopped after one; returns the ids of the batches and the last state."""
    (beats, step), seen, epoch_end = beats, [], fb.every(epochs=1)
    with RunDirectory.open("a-stream", Config(Path(directory), steps), exact=frozenset({"steps"})) as run:
        state = run.restore(beats.init({"w": jnp.zeros(())}))
        for tick in run.loop(fb.data.padded(fb.data.Stream(source), 4), start=state.step, marks=[epoch_end]):
            seen.append(ids_of(tick.batch))
            state, _ = step(state, tick.batch)
            assert (epoch_end in tick) == (tick.step % PER_PASS == 0)  # reads the batch after
            run.save(tick, state)
            if tick.step == stop_after:
                break
    return seen, state


@pytest.fixture(scope="module")
def unbroken(beats, tmp_path_factory):
    seen, state = train(beats, tmp_path_factory.mktemp("unbroken"), Counter(), 3 * PER_PASS)
    passes = [sorted(itertools.chain(*seen[i : i + PER_PASS])) for i in range(0, 9, PER_PASS)]
    assert passes == [list(range(NUM_EXAMPLES))] * 3
    return seen, float(state.params["w"])


@pytest.mark.parametrize("stop", range(1, 2 * PER_PASS + 1))
@pytest.mark.parametrize("how", ["limit", "break"])
def test_stopped_at_any_step_a_run_goes_on_with_its_stream(stop, how, beats, unbroken, tmp_path):
    limit = stop if how == "limit" else 3 * PER_PASS
    before, _ = train(beats, tmp_path, Counter(), limit, stop_after=stop)
    after, state = train(beats, tmp_path, Counter(), 3 * PER_PASS)
    assert before + after == unbroken[0]
    assert float(state.params["w"]) == unbroken[1]
    assert train(beats, tmp_path, Counter(), 3 * PER_PASS)[0] == []  # it is finished


def test_stopped_again_and_again_in_a_loader_with_bytes_for_a_state(beats, tmp_path):
    pytest.importorskip("grain")
    stream = fb.data.padded(fb.data.Stream(grain_loader()), 4)
    whole = [ids_of(tick.batch) for tick in fb.loop(stream, until=fb.at(steps=8))]
    seen = []
    for steps in (1, 3, 4, 7, 8):
        seen += train(beats, tmp_path, grain_loader(), steps)[0]
    assert seen == whole


PLAIN = {
    "an iterator": (lambda: iter([{"id": np.ones(2)}] * 2), True),
    "a list": (lambda: [{"id": np.ones(2)}], False),
}


@pytest.mark.parametrize("kind", PLAIN)
def test_a_run_says_when_it_begins_that_a_plain_iterable_does_not_go_on_exactly(kind, tmp_path):
    make, is_told = PLAIN[kind]
    with (
        warnings.catch_warnings(record=True) as told,
        RunDirectory.open("a-stream", Config(tmp_path, 2)) as run,
    ):
        warnings.simplefilter("always")
        for tick in run.loop(make(), start=0):
            run.save(tick, {"w": jnp.zeros(())})
    assert [(each.category, each.filename, str(each.message)) for each in told] == is_told * [
        (
            fb.looping.InexactResumeWarning,
            __file__,
            "a run that goes on reads batches from the list_iterator again, up to its step, and drops them. "
            "The run goes on exactly only if iterating gives the same batches in the same order in every "
            "process; a loader that shuffles does not. data.batches(...) and a list give any step by its "
            "number; what has a state of its own goes on in fb.data.Stream(...).",
        )
    ]


def test_a_directory_may_be_named_by_a_string(tmp_path):
    with RunDirectory.open("a-stream", Config(str(tmp_path / "here"), 1)) as run:  # pyright: ignore
        assert run.path == tmp_path / "here"


def test_a_run_of_batches_by_number_cannot_go_on_with_a_stream(beats, tmp_path):
    batches = fb.data.Arrays(id=np.arange(8.0)).batches(4)
    with RunDirectory.open("a-stream", Config(tmp_path, 2)) as run:
        state = run.restore(beats[0].init({"w": jnp.zeros(())}))
        for tick in run.loop(batches, start=state.step):
            state = state.replace(step=state.step + 1)
            run.save(tick, state)
    with pytest.raises(ValueError, match="start=2, and the Stream of a Counter has given 0 batches"):
        train(beats, tmp_path, Counter(), 4)


def test_checkpoints_hold_a_stream_as_one_leaf(beats, unbroken, tmp_path):
    (four, step), seen = beats, []
    for steps in (2, 5, 9):
        state, stream = four.init({"w": jnp.zeros(())}), fb.data.padded(fb.data.Stream(Counter()), 4)
        with fb.Checkpoints(tmp_path) as checkpoints:
            saved = checkpoints.restore_or({"state": state, "stream": stream.state()})
            state, stream = saved["state"], stream.restore(saved["stream"])
            for tick in fb.loop(stream, start=state.step, until=fb.at(steps=steps)):
                seen.append(ids_of(tick.batch))
                state, _ = step(state, tick.batch)
                checkpoints.save(tick.step, {"state": state, "stream": stream.state()})
    assert (seen, float(state.params["w"])) == unbroken
