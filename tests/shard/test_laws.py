"""Laws 5, 6 and 9 on 1, 2 and 8 devices: one program over a batch that is split over its examples."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="module")
def runs():
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.beats.on_eight_devices"],
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
