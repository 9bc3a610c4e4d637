"""A prediction as an ONNX file, compared with onnxruntime before it is there."""

import contextlib
import importlib.util
import io
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fourbeat.models.saved.program import BATCH, columns_in, columns_read
from fourbeat.models.saved.saving import over_weights, weights_of
from fourbeat.models.saved.whole_files import whole_file
from fourbeat.trees.example_counts import num_examples
from fourbeat.trees.paths import leaves_with_paths
from fourbeat.types import Batch, Model, Object, State

_MOST = 1e-3  # of the largest output: far above what another order of sums does in float32
_ERRORS_ONLY = 3  # of onnxruntime, which warns of what it merges


def save_onnx(
    path: str | os.PathLike[str],
    state: State | Model,
    *,
    predict: Object,
    example: Batch,
    ema: bool = False,
) -> float:
    """Writes a prediction as an ONNX file for any number of examples, in evaluation mode.

    jax2onnx converts it: `pip install 'fourbeat[onnx]'`. What onnxruntime computes on the CPU for the
    example, and for twice as many examples, is compared with what JAX computes before the file is there.

    Args:
      path: of the file, such as "model.onnx"; nothing lies there.
      state: a `TrainState`, or a model.
      predict: `predict(model, batch) -> outputs`, or the beats, as `fb.models.save` takes them. Compute in
        float32: few operations of onnxruntime know bfloat16.
      example: a batch; its columns that the outputs depend on are the inputs, its mapped functions are part
        of the model.
      ema: whether to save the averaged parameters.

    Returns:
      The largest difference between the outputs of onnxruntime and of JAX.

    Raises:
      ImportError: jax2onnx or onnxruntime is not installed.
      ValueError: something lies at `path`; jax2onnx cannot convert the prediction, or converts it wrongly.
    """
    _check_installed()
    static, arrays = weights_of(state, ema=ema)
    predict_with = over_weights(state, static, predict, arrays)
    columns = columns_in(example)
    read = columns_read(predict_with, arrays, columns)
    names = [name for name in columns.arrays if name in read]
    rest = {name: array for name, array in columns.arrays.items() if name not in read}

    def outputs_of(*inputs: jax.Array) -> Any:
        every = {**rest, **dict(zip(names, inputs, strict=True))}
        return predict_with(arrays, columns.mapped({name: every[name] for name in columns.arrays}))

    run = lambda *inputs: tuple(jax.tree.leaves(outputs_of(*inputs)))
    given = [columns.arrays[name] for name in names]
    count = num_examples(columns.arrays)
    outputs = [place for place, _ in leaves_with_paths(jax.eval_shape(outputs_of, *given), "outputs")]
    serialized = _converted(run, given, names, outputs, count)
    with whole_file(Path(path)) as unfinished:
        unfinished.write_bytes(serialized)
        twice = [np.concatenate([each, each]) if each.shape[:1] == (count,) else each for each in given]
        return max(_difference(unfinished, run, names, inputs) for inputs in (given, twice))


def _check_installed() -> None:
    for name in ("jax2onnx", "onnxruntime"):
        if importlib.util.find_spec(name) is None:
            raise ImportError(f"ONNX needs {name}, which is not installed: pip install 'fourbeat[onnx]'")


def _converted(
    run: Callable[..., Any], given: list[jax.Array], names: list[str], outputs: list[str], count: int
) -> bytes:
    kinds = [
        jax.ShapeDtypeStruct(
            (BATCH, *each.shape[1:]) if each.shape[:1] == (count,) else each.shape, each.dtype
        )
        for each in given
    ]
    try:
        with _silenced(), _functions_as_they_were():
            import jax2onnx

            model = jax2onnx.to_onnx(run, kinds, return_mode="proto", input_names=names, output_names=outputs)
    except Exception as error:  # of many kinds
        line = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ValueError(
            f"jax2onnx cannot convert the prediction: {line} Save it as StableHLO, fb.models.save, or write "
            f"the "
            "operation otherwise."
        ) from error
    assert not isinstance(model, str)
    return model.SerializeToString()


def _difference(file: Path, run: Callable[..., Any], names: list[str], inputs: list[Any]) -> float:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    try:
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        seen = session.run(None, {name: np.asarray(each) for name, each in zip(names, inputs, strict=True)})
    except Exception as error:  # of onnxruntime's own kinds
        raise ValueError(f"onnxruntime cannot run what jax2onnx made: {error}") from error
    expected = jax.jit(run)(*inputs)
    largest = 0.0
    for one, other in zip(seen, expected, strict=True):
        one, other = np.asarray(one), np.asarray(other)
        difference = np.inf
        if one.shape == other.shape:
            difference = float(np.max(np.abs(one.astype(np.float64) - other.astype(np.float64)), initial=0))
        if not difference <= _MOST * max(1.0, float(np.max(np.abs(other), initial=0))):
            raise ValueError(
                f"jax2onnx converts the prediction wrongly: for {len(inputs[0])} examples onnxruntime gives "
                f"{one.dtype}{list(one.shape)} and JAX {other.dtype}{list(other.shape)}, with a largest "
                f"difference of {difference:.3g}. Save it as StableHLO, fb.models.save."
            )
        largest = max(largest, difference)
    return largest


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """jax2onnx prints the tracebacks of plugins that do not load, and logs what it does."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            with contextlib.redirect_stderr(io.StringIO()):
                yield
    finally:
        logging.disable(before)


@contextlib.contextmanager
def _functions_as_they_were() -> Iterator[None]:
    """jax2onnx leaves functions of its own in JAX: `jnp.cumsum(x, 0)` fails after a conversion."""
    modules = {name: module for name, module in sys.modules.items() if name.split(".")[0] in ("jax", "flax")}
    held = {
        name: {key: value for key, value in vars(module).items() if callable(value)}
        for name, module in modules.items()
        if not any(part.startswith("_") for part in name.split("."))
    }
    try:
        yield
    finally:
        for name, functions in held.items():
            for key, function in functions.items():
                if vars(modules[name]).get(key) is not function:
                    setattr(modules[name], key, function)
