"""Importing a recipe, or a file that was made of one, starts nothing."""

import subprocess
import sys

import pytest

from fourbeat.cli import main
from fourbeat.recipes import RECIPES

# JAX refuses the number of devices once its backend has started
CODE = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("own", sys.argv[1])
own = sys.modules["own"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(own)
import jax
jax.config.update("jax_num_cpu_devices", 3)
print(jax.device_count())
"""


@pytest.mark.parametrize("form", [[], ["--plain"]])
@pytest.mark.parametrize("recipe", RECIPES)
def test_jax_can_still_be_told_of_devices_and_processes(recipe, form, tmp_path):
    main(["new", recipe, str(tmp_path / "own.py"), *form])
    command = [sys.executable, "-c", CODE, str(tmp_path / "own.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("3\n", "")
