"""The example reads what we wrote where nothing but NumPy can be imported."""

import runpy
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np

import fourbeat as fb

EXAMPLE = Path(__file__).parents[2] / "examples" / "numpy_weights.py"
ALONE = """
import runpy, sys
sys.modules |= dict.fromkeys(["jax", "jaxlib", "flax", "fourbeat", "orbax", "safetensors", "ml_dtypes"])
sys.argv = [sys.argv[1], sys.argv[2]]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_numpy_alone_reads_the_weights(tmp_path):
    model = {
        "layers": [
            {"kernel": jnp.arange(6.0).reshape(2, 3).T},
            {"bias": jnp.linspace(0, 1, 5, dtype=jnp.bfloat16)},
        ],
        "seen": jnp.array(7),
        "none": jnp.zeros((0, 2)),
    }
    file = tmp_path / "weights.safetensors"
    fb.models.save_weights(file, model)
    read = runpy.run_path(str(EXAMPLE))["read"](file)
    assert read.keys() == {"layers/0/kernel", "layers/1/bias", "seen", "none"}
    np.testing.assert_array_equal(read["layers/0/kernel"], model["layers"][0]["kernel"])
    np.testing.assert_array_equal(read["layers/1/bias"], model["layers"][1]["bias"].astype(jnp.float32))
    assert (read["seen"].shape, int(read["seen"]), read["none"].shape) == ((), 7, (0, 2))
    command = [sys.executable, "-W", "error", "-c", ALONE, str(EXAMPLE), str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "layers/0/kernel          float32  (3, 2)           mean +2.5000" in done.stdout
