"""Equal programs are compiled once, what is imported is no garbage, and others do not spin."""

import gc
import os
import shutil
import tempfile

import jax

from tests import quick_programs

# The workers have a core each: a second thread of PyTorch or scikit-learn would wait for it, and spin.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# ./check_instruction_sets runs the laws as users' programs are compiled, and test_instruction_sets.py some.
_FLAGS = os.environ.get("XLA_FLAGS", "")
if "FOURBEAT_THOROUGH" not in os.environ and quick_programs.WITHOUT_MLIR not in _FLAGS:
    os.environ["XLA_FLAGS"] = f"{_FLAGS} {quick_programs.WITHOUT_MLIR}".strip()
# Many tests and the processes that they start compile the same programs: what takes long is read back. Each
# process of the tests has a folder of its own, for JAX writes there without a lock.
_PROGRAMS = None
if "JAX_COMPILATION_CACHE_DIR" not in os.environ or "PYTEST_XDIST_WORKER" in os.environ:
    _PROGRAMS = tempfile.mkdtemp(prefix="fourbeat-programs-")
    for name, value in {
        "compilation_cache_dir": _PROGRAMS,
        "persistent_cache_min_compile_time_secs": 0.02,
    }.items():
        os.environ[f"JAX_{name.upper()}"] = str(value)
        jax.config.update(f"jax_{name}", value)


def pytest_collection_finish():
    # what was imported stays: the garbage collector need not look at it in each test
    gc.collect()
    gc.freeze()


def pytest_unconfigure():
    if _PROGRAMS is not None:
        shutil.rmtree(_PROGRAMS, ignore_errors=True)
