import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import mean_squared_error

from fourbeat.metrics import MeanSquaredError


@pytest.mark.parametrize("shape", [(50,), (50, 3)])
def test_it_is_scikit_learns(shape):
    rng = np.random.default_rng(0)
    predictions, targets = rng.normal(size=(2, *shape)).astype(np.float32)
    weight = rng.uniform(0, 2, 50).astype(np.float32)
    metric = MeanSquaredError(predictions="p", targets="t")
    seen = metric.update(p=predictions, t=targets, weight=weight)
    expected = mean_squared_error(targets, predictions, sample_weight=weight)
    np.testing.assert_allclose(seen.compute(), expected, rtol=1e-6)


def test_shapes_that_would_broadcast_are_refused():
    with pytest.raises(ValueError) as error:
        MeanSquaredError().update(predictions=jnp.ones((4, 1)), targets=jnp.ones(4))
    assert str(error.value) == (
        "MeanSquaredError() cannot compare 'predictions' of shape (4, 1) with 'targets' of shape "
        "(4,): the shapes must be equal, because broadcasting them would compare every example with "
        "every other. Reshape one, such as predictions.reshape(targets.shape)."
    )
