"""The laws hold whatever instructions XLA on CPU may use; all of them run by `./check_instruction_sets`."""

import os
import subprocess
import sys

import pytest

from tests import quick_programs
from tests.docs.blocks import ROOT

LAWS = [
    "tests/beats/test_proof.py::test_bit_equal_to_the_loop_written_by_hand[dict-adamw]",
    "tests/beats/test_written_parameters.py::test_bit_equal_to_the_loop_by_hand[Weight-sgd]",
    "tests/beats/test_lr_scale.py::test_weight_decay_and_a_constant_factor_are_a_sum_of_two_products",
    "tests/test_guard.py::test_a_guard_that_never_fires_and_an_average_leave_every_bit[cnn-chain]",
]


@pytest.mark.parametrize("flags", ["", "--xla_cpu_max_isa=SSE4_2"], ids=["as users have XLA", "SSE4_2"])
def test_the_laws_hold_on_each_instruction_set(flags, tmp_path):
    flags = f"{os.environ.get('XLA_FLAGS', '').replace(quick_programs.WITHOUT_MLIR, '')} {flags}".strip()
    # compiled programs of its own: those of one set are not to be read back under another
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_COMPILATION_CACHE_DIR": str(tmp_path)}
    environment |= {"FOURBEAT_THOROUGH": "1"}
    command = [sys.executable, "-m", "pytest", "-W", "error", "-p", "no:xdist", *LAWS]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
