"""Laws 5, 6 and 9 on 1, 2 and 8 devices: one program over a batch that is split over its examples."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

PROGRAM = """
import json, sys
import jax, numpy as np, optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
import fourbeat as fb
from fourbeat import guard
from fourbeat.compiling.compilation_monitor import CompilationMonitor
from tests.kinds import KINDS

kind = KINDS["dict"]
batches = []
for seed in range(4):
    weight = np.random.RandomState(seed).uniform(0, 2, 16).astype(np.float32)
    weight[10:] = 0
    batches.append({**kind.batch(seed, 16), "weight": weight})
batches[2]["x"][9, 1] = np.nan  # on one device alone
runs = {}
for num_devices in (1, 2, 8):
    mesh = Mesh(np.array(jax.devices()[:num_devices]), ("data",))
    split, whole = NamedSharding(mesh, P("data")), NamedSharding(mesh, P())
    for accumulate in (1, 2, 8):
        schedule = optax.linear_schedule(0.01, 0.1, 5)
        beats = fb.four_beats(
            lambda model, batch: kind.items(model, batch)[0], optax.adamw(schedule), accumulate=accumulate,
            guard=guard.skip(), ema=0.9, metrics=fb.metrics.Mean("loss"), schedule=schedule,
        )
        state = jax.device_put(beats.init(kind.make(0)), whole)
        step = fb.compile(beats.train_step)
        rates = []
        for batch in batches:
            state, logs = step(state, jax.device_put(batch, split))
            rates.append(float(logs["learning_rate"]))
        seen = [kind.batch(seed, 16) | {"weight": batches[0]["weight"]} for seed in (5, 6)]
        with CompilationMonitor() as underway:
            scores = fb.evaluator(beats)(state, [jax.device_put(batch, split) for batch in seen])
        leaves = jax.tree.leaves((state.params, state.opt_state, state.ema, state.metrics.compute()))
        runs[f"{num_devices} devices, {accumulate} microbatches"] = {
            "values": [np.asarray(leaf, np.float64).ravel().tolist() for leaf in leaves],
            "rates": rates,
            "scores": scores,
            "evaluation_compilations": [name for name, _ in underway.ended].count("eval_step"),
            "guard": [int(n) for n in (state.guard.num_bad, state.guard.step, state.num_updates)],
            "examples": state.guard.examples.tolist(),
            "devices": len(logs["loss"].sharding.device_set),
            "compilations": step.num_compilations,
        }
print(json.dumps(runs))
"""


@pytest.fixture(scope="module")
def runs():
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM],
        cwd=root, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_number_of_devices_and_microbatches_trains_the_same_state(runs):
    assert len(runs) == 9
    expected = runs["1 devices, 1 microbatches"]
    for name, run in runs.items():
        assert run["devices"] == int(name[0])
        assert run["rates"] == expected["rates"]
        for value, other in zip(run["values"], expected["values"], strict=True):
            np.testing.assert_allclose(value, other, rtol=2e-5, atol=2e-6, err_msg=name)


def test_scores_do_not_depend_on_the_number_of_devices(runs):
    expected = runs["1 devices, 1 microbatches"]["scores"]["value"]
    assert expected > 0
    for name, run in runs.items():
        np.testing.assert_allclose(run["scores"]["value"], expected, rtol=2e-5, err_msg=name)
        assert run["evaluation_compilations"] == 1, name


def test_a_nan_on_one_device_is_skipped_on_all_and_named(runs):
    for name, run in runs.items():
        assert run["guard"] == [1, 3, 3], name
        assert run["examples"] == [9] + [-1] * 7, name
        assert np.isfinite(np.concatenate(run["values"])).all()
        assert run["compilations"] == 1
