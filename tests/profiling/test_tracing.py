"""A profile of some steps of a loop: where it begins and ends, and that a reader finds the steps in it."""

import gzip
import json
import re

import jax.numpy as jnp
import optax
import pytest

import fourbeat as fb


def ticks(num_steps, **options):
    return fb.loop([{"x": jnp.ones(4)}], until=fb.at(steps=num_steps), **options)


def annotated(folder):
    """The steps that the profile in a folder names."""
    (file,) = folder.glob("plugins/profile/*/*.trace.json.gz")
    events = json.loads(gzip.decompress(file.read_bytes()))["traceEvents"]
    return sorted(int(event["args"]["step_num"]) for event in events if event.get("name") == "step")


def test_a_profile_holds_the_steps_asked_for_and_says_where_it_lies(tmp_path, capsys):
    beats = fb.four_beats(lambda model, batch: model["w"] * batch["x"], optax.sgd(0.1))
    state, step, steps = beats.init({"w": jnp.ones(())}), fb.compile(beats.train_step), []
    for tick in fb.profiling.trace(ticks(8), steps=range(3, 6), out=tmp_path):
        state, _ = step(state, tick.batch)
        steps.append(tick.step)
    assert (steps, int(state.step)) == (list(range(1, 9)), 8)
    assert annotated(tmp_path) == [3, 4, 5]
    first, second, *others = capsys.readouterr().out.splitlines()
    place = re.fullmatch(r"steps 3 to 5 are traced: (.*)", first).group(1)
    assert [place] == list(map(str, tmp_path.glob("plugins/profile/*/*.xplane.pb")))
    assert others == [] and second == (
        f"Open it with `pip install xprof` and `xprof --logdir {tmp_path}`; or open the file *.trace.json.gz "
        "beside it at https://ui.perfetto.dev."
    )


def test_a_block_is_traced_whole_and_a_body_that_breaks_ends_the_profile(tmp_path, capsys):
    for tick in fb.profiling.trace(ticks(9, steps_per_call=4), steps=range(6, 8), out=tmp_path):
        if tick.step == 8:
            break
    assert capsys.readouterr().out.startswith("steps 5 to 8 are traced: ")
    assert annotated(tmp_path) == [8]


def test_steps_that_a_loop_has_not_are_warned_of_and_no_steps_refused(tmp_path):
    with pytest.warns(fb.profiling.UntracedWarning) as caught:
        assert len(list(fb.profiling.trace(ticks(3), steps=range(10, 20), out=tmp_path))) == 3
    assert str(caught[0].message) == (
        "no step was traced: steps is range(10, 20), and the loop ended after step 3. Give steps that it has."
    )
    with pytest.raises(ValueError) as error:
        fb.profiling.trace(ticks(3), steps=range(3), out=tmp_path)
    assert str(error.value) == (
        "steps is range(0, 3). Give consecutive ones as tick.step counts them, from 1: range(10, 20) are the "
        "10th to the 19th."
    )
