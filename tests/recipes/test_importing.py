"""Importing a recipe, or a file that was made of one, starts nothing."""

import subprocess
import sys

from fourbeat.cli import main
from fourbeat.recipes import RECIPES

# JAX refuses the number of devices once its backend has started: it is told anew after each file
CODE = """
import importlib.util, sys
import jax
for number, file in enumerate(sys.argv[1:], 2):
    spec = importlib.util.spec_from_file_location("own", file)
    own = sys.modules["own"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(own)
    try:
        jax.config.update("jax_num_cpu_devices", number)
    except RuntimeError as error:
        sys.exit(f"{file}: {error}")
print(jax.device_count())
"""


def test_jax_can_still_be_told_of_devices_and_processes(tmp_path):
    files = []
    for recipe in RECIPES:
        for form in ([], ["--plain"]):
            files.append(str(tmp_path / f"{recipe}{''.join(form)}.py"))
            main(["new", recipe, files[-1], *form])
    done = subprocess.run([sys.executable, "-c", CODE, *files], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (f"{len(files) + 1}\n", "")
