"""Spies on what the real libraries do: copies to the host, compilations. Equal programs are compiled once."""

import os
import shutil
import tempfile
from contextlib import contextmanager

import jax
import jax.monitoring
import jax.numpy as jnp
import numpy as np
import pytest

# Many tests and the processes that they start compile the same programs: what takes long is read back. Each
# process of the tests has a folder of its own, for JAX writes there without a lock.
_PROGRAMS = None
if "JAX_COMPILATION_CACHE_DIR" not in os.environ or "PYTEST_XDIST_WORKER" in os.environ:
    _PROGRAMS = tempfile.mkdtemp(prefix="fourbeat-programs-")
    for name, value in {
        "compilation_cache_dir": _PROGRAMS,
        "persistent_cache_min_compile_time_secs": 0.2,
    }.items():
        os.environ[f"JAX_{name.upper()}"] = str(value)
        jax.config.update(f"jax_{name}", value)


def pytest_unconfigure():
    if _PROGRAMS is not None:
        shutil.rmtree(_PROGRAMS, ignore_errors=True)


compilations: list[str] = []


def _on_duration(event: str, seconds: float, **kwargs) -> None:
    if event == "/jax/core/compile/backend_compile_duration":
        compilations.append(kwargs.get("fun_name", "?"))


jax.monitoring.register_event_duration_secs_listener(_on_duration)


@pytest.fixture
def compiled():
    """The names of the programs that XLA compiles while the test runs."""
    compilations.clear()
    return compilations


@pytest.fixture
def host_reads(monkeypatch):
    """A context manager that counts reads of array values by the host.

    JAX's own transfer guard says nothing on CPU, where reading is no copy: so what every read goes through
    is watched instead.
    """
    array_type = type(jnp.zeros(()))
    real = array_type._value
    reads = []

    def spy(self):
        reads.append(self.shape)
        return real.fget(self)

    def spying(convert):
        def spy(value, *args, **kwargs):
            if isinstance(value, jax.Array):
                reads.append(value.shape)
            return convert(value, *args, **kwargs)

        return spy

    @contextmanager
    def counting():
        reads.clear()
        with monkeypatch.context() as patch:
            patch.setattr(array_type, "_value", property(spy))
            patch.setattr(np, "asarray", spying(np.asarray))
            patch.setattr(np, "array", spying(np.array))
            yield reads

    return counting


READS = {
    "asarray": lambda x: np.asarray(x),
    "float": lambda x: float(x[0]),
    "item": lambda x: x[0].item(),
    "device_get": jax.device_get,
    "tolist": lambda x: x.tolist(),
    "print": str,
    "bool": lambda x: bool(x[0]),
}
