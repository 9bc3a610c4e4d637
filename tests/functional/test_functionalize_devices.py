"""Methods made pure under `shard_map` on four devices, with explicit specs, against NumPy."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

PROGRAM = """
import json
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P
import fourbeat as fb

class Statistics:
    def __init__(self):
        self.n, self.mean, self.name = 0, 0.0, "statistics"
        self.weight, self.rows, self.bins = jnp.zeros(2), jnp.zeros((8, 2)), np.zeros(4, np.float32)
        self.a, self.b = {"seen": 1.0}, {"seen": 2.0}

    def push(self, x):
        self.n += 1
        self.mean += (jax.lax.pmean(x.mean(), "data") - self.mean) / self.n
        grads = jax.grad(lambda w: ((x @ w - 1.0) ** 2).mean())(self.weight)
        self.weight = self.weight - 0.1 * jax.lax.pmean(grads, "data")
        self.rows = self.rows + x
        self.bins[self.n] += jax.lax.psum(x.sum(), "data")
        self.a, self.b = self.b, self.a
        self.a["seen"] += self.n
        return x * self.mean

mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
obj = Statistics()
a, b = obj.a, obj.b
F = fb.functionalize(obj)
x = np.arange(16, dtype=np.float32).reshape(8, 2) / 16
state = F.init(x, axis_sizes={"data": 4})
spec_of = [P("data") if path == "rows" else P() for path in state]
specs = jax.tree.unflatten(jax.tree.structure(state), spec_of)
push = jax.jit(jax.shard_map(
    F.push, mesh=mesh, in_specs=(specs, P("data")), out_specs=(P("data"), specs), check_vma=False
))
state = jax.device_put(state, jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs))
outs = []
for step in range(3):
    out, state = push(state, x + step)
    outs.append(np.asarray(out).tolist())
F.commit(state)
print(json.dumps({
    "devices": [len(state[path].sharding.device_set) for path in ("n", "rows", "weight")],
    "shard": state["rows"].addressable_shards[0].data.shape,
    "outs": outs, "n": obj.n, "mean": obj.mean, "weight": obj.weight.tolist(), "rows": obj.rows.tolist(),
    "bins": obj.bins.tolist(),
    "seen": [obj.a["seen"], obj.b["seen"]], "same": [obj.a is b, obj.b is a],
    "compilations": push._cache_size(),
}))
"""


@pytest.fixture(scope="module")
def run():
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM],
        cwd=Path(__file__).parents[2], env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_four_devices_equal_one_array(run):
    x = np.arange(16, dtype=np.float32).reshape(8, 2) / 16
    mean, weight, rows, outs = 0.0, np.zeros(2), np.zeros((8, 2)), []
    for step in range(3):
        given = x + step
        mean += (given.mean() - mean) / (step + 1)
        weight -= 0.1 * 2 * ((given @ weight - 1)[:, None] * given).mean(0)
        rows += given
        outs.append(given * mean)
    assert run["devices"] == [4, 4, 4] and run["shard"] == [2, 2] and run["n"] == 3
    np.testing.assert_allclose(run["mean"], mean, rtol=1e-5)
    np.testing.assert_allclose(run["weight"], weight, rtol=1e-5)
    np.testing.assert_allclose(run["bins"], [0, *(16 * step + x.sum() for step in range(3))], rtol=1e-5)
    np.testing.assert_allclose(run["rows"], rows, rtol=1e-6)
    np.testing.assert_allclose(run["outs"], outs, rtol=1e-5)


def test_objects_change_places_on_four_devices(run):
    a, b = {"seen": 1.0}, {"seen": 2.0}
    for n in (1, 2, 3):
        a, b = b, a
        a["seen"] += n
    assert run["seen"] == [a["seen"], b["seen"]] and run["same"] == [True, True]
    assert run["compilations"] == 1
