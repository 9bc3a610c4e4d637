"""An ONNX file is compared with onnxruntime before it is there."""

import os

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fourbeat.models.saved import onnx_file

pytest.importorskip("jax2onnx")
onnxruntime = pytest.importorskip("onnxruntime")


class Model(nnx.Module):
    def __init__(self, *, rngs):
        self.linear = nnx.Linear(3, 4, rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.drop(self.norm(self.linear(x)))


X = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)


def test_a_model_left_in_train_mode_is_written_in_evaluation_mode(tmp_path):
    model = Model(rngs=nnx.Rngs(0))
    model.train()
    predict = lambda model, batch: {"a": model(batch["x"]), "b": (model(batch["x"]).argmax(-1),)}
    example = {"x": X, "label": np.zeros(5)}
    difference = onnx_file.save_onnx(tmp_path / "m.onnx", model, predict=predict, example=example)
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    assert [each.name for each in session.get_inputs()] == ["x"]  # the label is not read
    assert [each.name for each in session.get_outputs()] == ["outputs['a']", "outputs['b'][0]"]
    a, b = session.run(None, {"x": X})
    model.eval()
    expected = np.asarray(model(X))
    assert np.abs(a - expected).max() <= 1e-6 and difference <= 1e-6
    np.testing.assert_array_equal(b, expected.argmax(-1))


def test_functions_of_jax_are_their_own_after_a_conversion(tmp_path):
    before = dict(vars(jnp))
    predict = lambda model, batch: jnp.tanh(model["w"] * batch["x"])
    onnx_file.save_onnx(tmp_path / "m.onnx", {"w": jnp.ones(3)}, predict=predict, example={"x": X})
    assert [key for key, value in before.items() if callable(value) and vars(jnp)[key] is not value] == []
    assert jnp.cumsum(jnp.ones((2, 3)), 0).tolist() == [[1, 1, 1], [2, 2, 2]]


def test_a_wrong_conversion_and_an_impossible_one_leave_no_file(tmp_path, monkeypatch):
    model, example = {"w": jnp.ones(3)}, {"x": X}
    right = onnx_file._converted

    def wrong(run, *more):
        return right(lambda *inputs: tuple(each + 0.1 for each in run(*inputs)), *more)

    monkeypatch.setattr(onnx_file, "_converted", wrong)
    with pytest.raises(ValueError) as caught:
        onnx_file.save_onnx(
            tmp_path / "m.onnx", model, predict=lambda model, batch: batch["x"] * model["w"], example=example
        )
    assert str(caught.value) == (
        "jax2onnx converts the prediction wrongly: for 5 examples onnxruntime gives float32[5, 3] and JAX "
        "float32[5, 3], with a largest difference of 0.1. Save it as StableHLO, fb.models.save."
    )
    monkeypatch.setattr(onnx_file, "_converted", right)
    with pytest.raises(ValueError, match=r"jax2onnx cannot convert the prediction: .*eig"):
        onnx_file.save_onnx(
            tmp_path / "m.onnx",
            model,
            predict=lambda model, batch: jnp.linalg.eigvals(jnp.einsum("bi,bj->bij", *2 * [batch["x"]])).real,
            example=example,
        )
    assert os.listdir(tmp_path) == []
