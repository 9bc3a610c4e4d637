import os

import pytest

from benchmarks import initial_values

os.environ.setdefault("KERAS_BACKEND", "jax")  # read when keras is imported


@pytest.fixture(scope="session")
def values_of_cnn(tmp_path_factory):
    """The exported initial values of mnist-cnn."""
    return exported("mnist-cnn", tmp_path_factory)


@pytest.fixture(scope="session")
def values_of_mlp(tmp_path_factory):
    """The exported initial values of the MLP."""
    return exported("mlp", tmp_path_factory)


def exported(job, tmp_path_factory):
    path = str(tmp_path_factory.mktemp("values") / f"{job}.npz")
    initial_values.main([job, path])
    return path


@pytest.fixture(autouse=True)
def _matmul_precision():
    """What a side of the card sets is put back."""
    import jax

    before = jax.config.jax_default_matmul_precision
    yield
    jax.config.update("jax_default_matmul_precision", before)
