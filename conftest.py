"""The processes that tests start share what they compile."""

import gc
import os
import shutil
import tempfile
from pathlib import Path


def pytest_configure(config):
    """Names a folder for compiled programs, the same for all workers: JAX reads it in processes to come."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="fourbeat-compiled-")
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        config.add_cleanup(
            lambda: shutil.rmtree(Path(os.environ.pop("JAX_COMPILATION_CACHE_DIR")), ignore_errors=True)
        )


def pytest_collection_finish():
    """Spares the garbage collector what lives as long as the process: modules and collected tests."""
    gc.collect()
    gc.freeze()
