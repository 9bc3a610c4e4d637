"""An evaluation does not move a training stream."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fourbeat as fb
from tests.data.streams_of import KINDS, NUM_EXAMPLES, Counter, OnePass, Passes, grain_iter


@pytest.fixture(scope="module")
def scored():
    beats = fb.four_beats(lambda model, batch: batch["id"] * model["w"], optax.sgd(0.1))
    return fb.evaluator(beats), beats.init({"w": jnp.ones(())})


MEAN = {"loss": sum(range(NUM_EXAMPLES)) / NUM_EXAMPLES}


@pytest.mark.parametrize("make", [Passes, OnePass, grain_iter], ids=["own", "iterator", "Grain"])
def test_a_stream_of_a_function_is_scored_whole_and_stays_where_it_is(make, scored):
    if make is grain_iter:
        pytest.importorskip("grain")
    evaluate, state = scored
    unbroken = [
        np.asarray(t.batch["id"]).tolist() for t in fb.loop(fb.data.Stream(make), until=fb.at(steps=5))
    ]
    stream, seen = fb.data.Stream(make), []
    assert evaluate(state, stream) == MEAN
    for tick in fb.loop(stream, until=fb.at(steps=5)):
        seen.append(np.asarray(tick.batch["id"]).tolist())
        before = stream.state()
        assert evaluate(state, stream) == MEAN
        assert stream.state() == before
    assert seen == unbroken


def test_within_an_evaluation_that_can_be_interrupted_too(scored):
    evaluate, state = scored
    stream = fb.data.Stream(Passes)
    loop = fb.loop(stream, until=fb.at(steps=2))
    scores = [evaluate(state, loop.interruptible(stream)) for _ in loop]
    assert scores == [MEAN, MEAN]


@pytest.mark.parametrize("kind", ["own iterable", "own iterators", "own iterator"])
def test_any_other_stream_is_not_evaluated_over(kind, scored):
    evaluate, state = scored
    source = KINDS[kind].make()
    stream = fb.data.Stream(source)
    with pytest.raises(TypeError) as caught:
        evaluate(state, stream)
    assert str(caught.value) == (
        f"cannot evaluate over the Stream of {'an' if kind == 'own iterator' else 'a'} "
        f"{type(source).__name__}: "
        "reading a whole pass would move it. Give Stream a function that makes its source, "
        "fb.data.Stream(lambda: ...), or evaluate over the data set itself."
    )
    assert stream.step == 0
    assert evaluate(state, source) == MEAN


def test_a_function_that_gives_what_the_loop_reads_is_seen(scored):
    evaluate, state = scored
    counter = Counter()
    stream = fb.data.Stream(lambda: counter)
    steps = []
    for tick in fb.loop(stream, until=fb.at(epochs=1)):
        steps.append(tick.step)
        with pytest.raises(TypeError) as caught:
            evaluate(state, stream)
        assert str(caught.value) == (
            "cannot evaluate over the Stream of a Counter while a loop reads it: its function gave the very "
            "object that the loop reads. Let it make a new one."
        )
    assert steps == [1, 2, 3]
