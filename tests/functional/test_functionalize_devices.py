"""Methods made pure under `shard_map` on four devices, with explicit specs, against NumPy."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests import quick_programs

PROGRAM = Path(__file__).parent / "four_devices.py"


@pytest.fixture(scope="module")
def run():
    environment = {**os.environ, "XLA_FLAGS": quick_programs.flags(devices=4), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-W", "error", str(PROGRAM)],
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
