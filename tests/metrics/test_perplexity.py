import numpy as np

from fourbeat.metrics import Perplexity


def test_it_is_the_exponential_of_the_mean_over_all_tokens():
    rng = np.random.default_rng(0)
    loss = rng.gamma(2.0, size=(2, 8, 16)).astype(np.float32)
    weight = (rng.uniform(size=loss.shape) > 0.3).astype(np.float32)
    metric = Perplexity("nll")
    for part in range(2):
        metric = metric.update(nll=loss[part], weight=weight[part])
    expected = np.exp(np.average(loss.astype(np.float64), weights=weight))
    np.testing.assert_allclose(metric.compute(), expected, rtol=1e-6)
