"""The works that are more than a step: each side, at tiny sizes, does and learns what it says."""

import json

import numpy as np
import pytest
from flax import nnx

from benchmarks.pairs import beside
from benchmarks.peers.nnx_models import PatchesConv
from benchmarks.peers.paired import TIMES
from benchmarks.peers.until_accurate import UntilAccurate
from benchmarks.work import Side
from benchmarks.worker import load
from benchmarks.works import (
    accumulation,
    evaluation,
    feeding,
    growth,
    linear_regression,
    many_classes,
    safety,
    saves,
    small_steps,
)

NEEDS = {"keras_evaluation": "keras", "torch_evaluation": "torch"}


def settings(name, values):
    job = {"name": name, "batch_size": 4, "num_test": 20, "values": values}
    return {"threads": 2, "job": job, "eval_batch_size": 16}


@pytest.mark.parametrize("name", [name for name in evaluation.SIDES if "bare" not in name])
def test_evaluation_says_what_numpy_counts(name, values_of_cnn):
    side = evaluation.SIDES[name]
    pytest.importorskip(NEEDS.get(side.factory.partition(":")[2], "numpy"))
    made = load(side.factory)(settings("mnist-cnn", values_of_cnn), **side.options)
    made.learn(1)
    made.run(1)
    found = made.scores()
    if name == "Flax nnx.jit eval_step":  # its loss is a mean of batch means
        assert found["accuracy"] == pytest.approx(made.job.scores(made.logits)["accuracy"])
    else:
        assert found["off"] < 1e-5


@pytest.mark.parametrize("name", feeding.ROWS)
def test_what_is_fed_and_judged_is_the_same_by_hand(name):
    for side in feeding.work_of(name).sides.values():
        made = load(side.factory)({"num_batches": 3}, **side.options)
        assert made.run(2)["seconds"] > 0
        assert made.scores()["off"] < 1e-5


@pytest.mark.parametrize("work", small_steps.WORKS[:1], ids=lambda work: work.name)
def test_a_small_step_learns_and_tells_its_cpu_time(work, values_of_mlp):
    job = {**(work.job or {}), "values": values_of_mlp}
    for name in (small_steps.LOGGED, small_steps.OURS):
        side = work.sides[name]
        made = load(side.factory)({"job": job}, **side.options)
        assert made.run(60)["seconds"] > 0
        assert made.scores()["loss"] < 0.1


def test_a_side_beside_another_tells_the_ratio_of_the_rounds_that_count():
    toy = lambda seconds: Side("tests.benchmarks.toy_sides:Learns", options={"seconds": seconds})
    work = small_steps.WORKS[0]
    made = load(beside(toy(3.0), toy(2.0)).factory)({"threads": 1}, **beside(toy(3.0), toy(2.0)).options)
    made.learn(1)
    assert TIMES not in made.run(1)["facts"]
    told = made.run(1)
    assert told["facts"][TIMES] == 1.5
    measured = {name: {"seconds": [1.0], "facts": told["facts"]} for name in work.sides}
    assert [(reach.measured, reach.met) for reach in work.reaches(measured)] == [
        ("1.500 (1.500 to 1.500)", False)
    ] * 2


@pytest.mark.parametrize("kind", growth.KINDS)
def test_growth_moves_every_leaf_to_its_target(kind):
    made = load(growth.WORKS[0].sides[f"{kind}, 10 leaves"].factory)({}, num_leaves=10)
    made.run(40)
    assert made.scores()["loss"] < 1e-6


def test_slope_is_that_of_the_fewest_to_the_most_leaves():
    seconds = {10: [1.0, 2.0], 100: [5.0, 5.0], 1_000: [991.0, 1982.0]}
    sides = {
        f"{kind}, {count} leaves": {"seconds": [k * each for each in of_count]}
        for kind, k in (("fourbeat", 1.5), ("raw jax.jit", 1.0))
        for count, of_count in seconds.items()
    }
    np.testing.assert_allclose(growth.slope(sides, "raw jax.jit"), [1.0, 2.0])
    (reach,) = growth.reaches(sides)
    assert reach.measured == "1.500 (1.500 to 1.500): 2250000.00 against 1500000.00 us a leaf"
    assert reach.met is False


@pytest.mark.parametrize("name", linear_regression.WORKS[0].sides)
def test_every_fit_is_the_least_squares_line(name):
    side = linear_regression.WORKS[0].sides[name]
    made = load(side.factory)({"num_steps": 500}, **side.options)
    made.run(1)
    assert made.scores()["error"] < 1e-4


def test_accumulation_learns():
    gpt = {"batch_size": 4, "steps": 40, "context": 8, "layers": 1, "width": 8, "heads": 2}
    side = accumulation.sides_of("benchmarks.peers.gpt:FourbeatGPT")["in 2 microbatches"]
    made = load(side.factory)({"gpt": gpt}, **side.options)
    before = made.scores()["loss"]
    made.run(30)
    assert made.scores()["loss"] < before - 0.2


def test_safety_costs_are_of_the_compiled_step(values_of_mlp):
    sides = {}
    for name in (safety.PLAIN, "all of them"):
        side = safety.WORKS[0].sides[name]
        made = load(side.factory)(settings("mlp", values_of_mlp), **side.options)
        samples = made.run(2)["samples"]
        assert len(samples) == 2
        assert min(samples) > 0
        sides[name] = {"seconds": [1.0], "facts": made.facts}
    facts = sides["all of them"]["facts"]
    assert facts["gigaflops"] > sides[safety.PLAIN]["facts"]["gigaflops"] > 0
    assert not made.logger.path.exists()
    made.line_every = 1
    made.run(2)
    assert [json.loads(line)["step"] for line in made.logger.path.read_text().splitlines()] == [3, 4]


@pytest.mark.parametrize(
    ("facts", "measured", "met"),
    [
        ((1.02, 1.0, 1.01), "1.0200 x the operations, 1.0000 x the bytes, 1.0100 x the instructions", True),
        ((1.01, 1.5, 1.01), "1.0100 x the operations, 1.5000 x the bytes, 1.0100 x the instructions", False),
        ((1.01, 1.0, 1.03), "1.0100 x the operations, 1.0000 x the bytes, 1.0300 x the instructions", False),
        ((1.03, 1.0, 1.01), "1.0300 x the operations, 1.0000 x the bytes, 1.0100 x the instructions", False),
        ((1.01, 1.0), "1.0100 x the operations, 1.0000 x the bytes; instructions not counted", None),
        (None, "not measured", None),
    ],
)
def test_safety_is_judged_by_operations_bytes_and_instructions(facts, measured, met):
    names = ("gigaflops", "gigabytes", "megainstructions")
    sides = {safety.PLAIN: {"seconds": [1.0], "facts": dict.fromkeys(names, 1.0)}}
    if facts:
        sides["guard"] = {"seconds": [1.0], "facts": dict(zip(names, facts, strict=False))}
    found = safety.reaches(sides)
    assert (found[0].measured, found[0].met) == (measured, met)
    assert [reach.met for reach in found[1:]] == [None] * 4


def test_saves_are_counted_and_timed(values_of_mlp):
    side = saves.WORKS[0].sides["saves, device at rest"]
    made = load(side.factory)(settings("mlp", values_of_mlp), every=2, at_rest=True)
    assert len(made.run(4)["samples"]) == 2
    assert made.checkpoints.latest == 4
    summary = {"seconds": [1.0], "samples": {"p50_s": 0.004, "p95_s": 0.006}}
    (reach,) = saves.reaches({saves.UNDER_WAY: summary})
    assert (reach.measured, reach.met) == ("median 4.00 ms, p95 6.00 ms", True)


@pytest.mark.parametrize("name", [saves.ORBAX, saves.CHECKPOINTS])
def test_what_is_saved_beside_orbax_comes_back(name):
    side = saves.WORKS[1].sides[name]
    made = load(side.factory)({}, megabytes=0.001, num_leaves=2)
    made.run(2)
    assert made.scores() == {"lost": 0}


def test_training_until_a_target_counts_its_steps(values_of_mlp):
    told = {**settings("mlp", values_of_mlp), "target": 0.0, "every": 3, "most_steps": 6}
    made = UntilAccurate(told, factory="benchmarks.peers.fourbeat_loop:Fourbeat", job={"schedule_steps": 6})
    answer = made.run(1)
    assert answer["facts"] == {"steps": 3}
    assert answer["seconds"] > 0
    made.settings["target"] = 2.0
    with pytest.raises(RuntimeError, match=r"after 6 steps is below 2\.0"):
        made.run(1)


def test_patches_times_matrix_is_the_convolution():
    x = np.random.RandomState(0).standard_normal((2, 5, 6, 3)).astype(np.float32)
    one, other = (conv(3, 4, kernel_size=(3, 3), rngs=nnx.Rngs(0)) for conv in (nnx.Conv, PatchesConv))
    np.testing.assert_allclose(other(x), one(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", [many_classes.PRODUCT, many_classes.CONFUSION])
def test_both_confusion_matrices_count_every_example(name):
    side = many_classes.WORKS[0].sides[name]
    made = load(side.factory)({}, **side.options)
    made.run(1)
    counts = made.carry[2] if name == many_classes.PRODUCT else made.state.metrics["metric"].compute()
    labels = np.asarray(made.batch["y"])
    # all logits are equal before the first step, so that class 0 is predicted
    expected = np.bincount(labels, minlength=many_classes.NUM_CLASSES)
    np.testing.assert_array_equal(counts[:, 0], expected)
    assert float(counts.sum()) == len(labels)
