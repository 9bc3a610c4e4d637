"""Saving a model: one folder, whole or absent, that is of use without the code that trained it."""

import dataclasses
import importlib.metadata
import json
import os
import platform
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fourbeat.distributed import speaks
from fourbeat.models.errors import ModelFileError
from fourbeat.models.names import names_of
from fourbeat.models.saved.program import columns_in, prediction, traced
from fourbeat.models.saved.readme import readme_of
from fourbeat.models.saved.signature import (
    FILES,
    PROGRAM,
    README,
    SIGNATURE,
    WEIGHTS,
    Array,
    Signature,
    sha256_of,
)
from fourbeat.models.saved.whole_files import WRITING, flush, whole_file
from fourbeat.models.splitting import Static, split
from fourbeat.models.tensor_files import write_tensors
from fourbeat.trees.paths import look_up, nest
from fourbeat.types import Batch, Model, Object, Params, Rest, State, Tree

_REPLACED = ".replaced"
_ABOUT = {"format": "fourbeat"}
_LIBRARIES = ("fourbeat", "jax", "flax", "numpy")


def save(
    path: str | os.PathLike[str],
    state: State | Model,
    *,
    predict: Object,
    example: Batch,
    ema: bool = False,
    classes: Sequence[str] | None = None,
    notes: Mapping[str, Any] | None = None,
    platforms: Sequence[str] = ("cpu", "cuda", "tpu"),
    overwrite: bool = False,
) -> None:
    """Writes a model and its prediction into one folder.

    The folder needs neither fourbeat nor the model's code. `weights.safetensors` holds the parameters and all
    other variables under their paths ("blocks/0/kernel"). `program.stablehlo` is the prediction, `(weights,
    columns) -> outputs` over plain dicts, for any number of examples; JAX alone runs it.
    `signature.json` says what goes in and out and has the sha256 of each file; `README.md` has the few lines
    that run the program, and those that read the weights with NumPy alone.

    The folder appears when it is whole and on the disk, or not at all. Of several processes, process 0 writes
    it.

    Args:
      path: of the folder; nothing lies there.
      state: a `TrainState`, also one over several devices; or a model, which is computed as it is written.
      predict: `predict(model, batch) -> outputs`, which runs in evaluation mode; or the beats, with whose
        `predict` and precision the outputs are those of `fb.predictor(beats)`. The outputs are an array with
        one entry an example, or a dict, list or tuple of these.
      example: a batch, for its columns, shapes and dtypes. Of one with mapped functions the program takes the
        stored columns: the mapped functions are part of it. It takes only those columns that the outputs
        depend on.
      ema: whether to save the averaged parameters.
      classes: the names of the classes in their order, for the signature.
      notes: what else the signature says, as JSON has it: the words of a vocabulary, the units of numbers.
      platforms: those that the program is to run on.
      overwrite: whether a saved model may lie there already; it is replaced.

    Raises:
      ValueError: something lies at `path`; the state averages nothing; the prediction cannot be traced for
        any number of examples or draws random numbers; an array has a dtype that safetensors has not.
      TypeError: the example is no batch, the outputs are in a container of your own, or notes are no JSON.

    >>> import tempfile, jax.numpy as jnp, fourbeat as fb
    >>> folder = tempfile.mkdtemp() + "/line"
    >>> model, batch = {"w": jnp.full((), 2.0)}, {"x": jnp.arange(3.0), "label": jnp.zeros(3)}
    >>> save(folder, model, predict=lambda model, batch: batch["x"] * model["w"], example=batch)
    >>> loaded = fb.models.load(folder)
    >>> loaded.predict({"x": jnp.arange(5.0)}).tolist()
    [0.0, 2.0, 4.0, 6.0, 8.0]
    >>> loaded.weights
    {'w': array(2., dtype=float32)}
    """
    path = Path(path)
    static, arrays = weights_of(state, ema=ema)
    if not speaks():
        on_the_host(arrays)  # raises where process 0 does
        return
    _check_free(path, overwrite)
    columns = columns_in(example)
    program = traced(over_weights(state, static, predict, arrays), arrays, columns, platforms)
    weights = on_the_host(arrays)
    signature = Signature(
        inputs=program.inputs,
        outputs=program.outputs,
        weights={name: Array(array.shape, array.dtype.name) for name, array in weights.items()},
        averaged=ema,
        step=int(state.step) if hasattr(state, "opt_state") else None,
        classes=None if classes is None else tuple(map(str, classes)),
        preprocessing=columns.transforms,
        notes=_as_json(notes),
        platforms=tuple(platforms),
        versions=_versions(),
        files={},
    )
    _write(path, weights, program.serialized, signature, overwrite)


def save_weights(path: str | os.PathLike[str], state: State | Model, *, ema: bool = False) -> None:
    """Writes the parameters and all other variables of a model as one safetensors file, whole or not at all.

    Of several processes, process 0 writes.

    Args:
      path: of the file, such as "weights.safetensors"; nothing lies there.
      state: a `TrainState`, or a model.
      ema: whether to save the averaged parameters.

    Raises:
      ValueError: something lies at `path`, the state averages nothing, or an array has a dtype that
        safetensors has not.

    >>> import tempfile, jax.numpy as jnp, fourbeat as fb
    >>> file = tempfile.mkdtemp() + "/weights.safetensors"
    >>> save_weights(file, {"layers": [{"w": jnp.ones(2)}]})
    >>> model, report = fb.models.load_weights({"layers": [{"w": jnp.zeros(2)}]}, file)
    >>> print(report)
    model       wants       file        holds
    layers/0/w  float32[2]  layers/0/w  float32[2]
    """
    arrays = on_the_host(weights_of(state, ema=ema)[1])
    if not speaks():
        return
    with whole_file(Path(path)) as unfinished:
        write_tensors(unfinished, arrays, _ABOUT)


def weights_of(source: State | Model, *, ema: bool = False) -> tuple[Static, dict[str, Any]]:
    """The static part of a model, and its arrays by name, where they lie."""
    static, params, rest = _parts_of(source, ema)
    names = names_of([place for place, _ in static.places], "model")
    found = [look_up(params if is_param else rest, place) for place, is_param in static.places]
    return static, dict(zip(names, found, strict=True))


def over_weights(
    source: State | Model, static: Static, predict: Object, names: Iterable[str]
) -> Callable[[Mapping[str, Any], Mapping[str, Any]], Tree]:
    """The prediction as a function of `(weights, mapped columns)`, the weights by name."""
    run = prediction(source, static, predict)
    places = list(zip(names, static.places, strict=True))

    def of_weights(weights: Mapping[str, Any], columns: Mapping[str, Any]) -> Tree:
        parts: tuple[list, list] = ([], [])
        for name, (place, is_param) in places:
            parts[not is_param].append((place, weights[name]))
        return run(nest(parts[0]), nest(parts[1]), columns)

    return of_weights


def on_the_host(arrays: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The arrays as those of NumPy.

    Raises:
      ValueError: parts of one lie on devices of other processes.
    """
    for name, array in arrays.items():
        is_elsewhere = isinstance(array, jax.Array) and not array.is_fully_addressable
        if is_elsewhere and not array.is_fully_replicated:
            raise ValueError(
                f"cannot save {name}: parts of it lie on devices of other processes. Gather it first, with "
                "jax.experimental.multihost_utils.process_allgather, and save in one process."
            )
    return {name: np.asarray(array) for name, array in arrays.items()}


def _check_free(path: Path, overwrite: bool) -> None:
    if not os.path.lexists(path):
        return
    is_model = (path / SIGNATURE).is_file() and not path.is_symlink()
    if overwrite and is_model:
        return
    if overwrite:
        raise ValueError(
            f"{path} is there and is no saved model, so it is not replaced. Choose another path."
        )
    what = "holds a saved model already" if is_model else "is there already"
    repair = ", or replace it with overwrite=True" if is_model else ""
    raise ValueError(f"{path} {what}. Choose another path{repair}.")


def _parts_of(source: State | Model, ema: bool) -> tuple[Static, Params, Rest]:
    if hasattr(source, "num_members") and hasattr(source, "member"):
        raise TypeError(
            f"the state has {source.num_members} members, and a saved model is one of them. Give one, such "
            f"as "
            "state.member(0)."
        )
    if not hasattr(source, "opt_state"):
        if ema:
            raise ValueError("ema=True saves the averaged parameters of a state, and this is a model.")
        return split(source)
    static, params, rest = source.static, source.params, source.rest
    if ema:
        if source.ema is None:
            source.ema_model  # noqa: B018 (it raises, and says why)
        params = jax.tree.map(lambda average, param: average.astype(param.dtype), source.ema, params)
    return static, params, rest


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # run from its source alone
            found[name] = "unknown"
    return found


def _as_json(notes: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Notes as they will be read."""
    try:
        return None if notes is None else json.loads(json.dumps(dict(notes), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"notes cannot be written as JSON: {error}. Give texts, numbers, lists and dicts."
        ) from None


def _write(
    path: Path, weights: dict[str, np.ndarray], program: bytes, signature: Signature, overwrite: bool
) -> None:
    unfinished = path.with_name(path.name + WRITING)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftover(unfinished)
    unfinished.mkdir()
    try:
        write_tensors(unfinished / WEIGHTS, weights, _ABOUT)
        (unfinished / PROGRAM).write_bytes(program)
        (unfinished / README).write_text(readme_of(signature), encoding="utf-8")
        files = {name: (sha256_of(unfinished / name), (unfinished / name).stat().st_size) for name in FILES}
        (unfinished / SIGNATURE).write_bytes(dataclasses.replace(signature, files=files).encode())
        for name in (*FILES, SIGNATURE):
            flush(unfinished / name)
        flush(unfinished)
        _check_free(path, overwrite)
        _put(unfinished, path)
        flush(path.parent)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)  # on a full disk its space is wanted most
        raise


def _put(unfinished: Path, path: Path) -> None:
    """Gives the folder its name. What had the name goes away after that."""
    if not path.exists():
        unfinished.rename(path)
        return
    replaced = path.with_name(path.name + _REPLACED)
    _remove_leftover(replaced)
    path.rename(replaced)
    try:
        unfinished.rename(path)
    except BaseException:
        replaced.rename(path)
        raise
    _remove_leftover(replaced)


def _remove_leftover(folder: Path) -> None:
    """Removes what a killed save left, and nothing else."""
    if not os.path.lexists(folder):
        return
    known = {*FILES, SIGNATURE}
    if folder.is_symlink() or not folder.is_dir() or {each.name for each in folder.iterdir()} - known:
        raise ModelFileError(f"{folder} is in the way: it is nothing that an earlier save left. Move it.")
    shutil.rmtree(folder)
