"""Adapters alone in a file: what was trained, without the weights that it stands beside."""

import os
from pathlib import Path
from typing import Any, TypeVar

import jax.numpy as jnp
import numpy as np
from flax import nnx

from fourbeat.distributed import speaks
from fourbeat.models.errors import ModelFileError
from fourbeat.models.lora import add_lora
from fourbeat.models.modules import is_module
from fourbeat.models.names import name_of
from fourbeat.models.tensor_files import read_tensors, write_tensors
from fourbeat.trees.articles import a_type

_Model = TypeVar("_Model")
_PARTS = ("lora_a", "lora_b")


def save_lora(file: str | os.PathLike[str], model: Any) -> None:
    """Writes the adapters of a model, and nothing else, as safetensors.

    Of several processes, process 0 writes.

    Args:
      file: where to, such as "adapters.safetensors". A file that is there is replaced, whole or not at all.
      model: from `add_lora`, or a state's `.model` or `.ema_model`.

    Raises:
      ValueError: there is no adapter.
      OSError: the file cannot be written.
    """
    arrays = {name: np.asarray(variable.get_value()) for name, variable in _adapters(model).items()}
    if not arrays:
        raise ValueError(f"save_lora: the model, {a_type(model)}, holds no adapter.")
    if not speaks():
        return
    unfinished = Path(f"{os.fspath(file)}.unfinished")
    write_tensors(unfinished, arrays, {"format": "lora of fourbeat.models"})
    unfinished.replace(file)


def load_lora(model: _Model, file: str | os.PathLike[str]) -> _Model:
    """A copy of a model with the adapters of a file, at the layers where they were.

    Args:
      model: without adapters, built as the one before was. It is not changed.
      file: from `save_lora`.

    Raises:
      ModelFileError: the file is damaged, or no file of adapters, or its adapters do not fit the model; the
        text names the layer.
      OSError: it cannot be read.

    >>> import tempfile
    >>> layer, file = nnx.Linear(3, 2, rngs=nnx.Rngs(0)), Path(tempfile.mkdtemp(), "adapters.safetensors")
    >>> save_lora(file, adapted := add_lora(layer, rank=1))
    >>> again = load_lora(layer, file)
    >>> bool((again.lora.lora_a[...] == adapted.lora.lora_a[...]).all())
    True
    """
    arrays = read_tensors(file)
    ranks: dict[str, int] = {}
    for name, array in arrays.items():
        layer, _, part = name.rpartition("lora/")
        if part not in _PARTS or array.ndim < 2:
            raise ModelFileError(
                f"{file} holds {name!r}, which is no part of an adapter. Give a file that save_lora wrote."
            )
        ranks[layer] = array.shape[-1 if part == "lora_a" else -2]
    adapted: Any = model
    modules = nnx.iter_modules(adapted, graph=True) if is_module(model) else ()
    there = {_prefix(path) for path, _ in modules}
    if missing := sorted(ranks.keys() - there):
        raise ModelFileError(
            f"{file} has an adapter for {missing[0].rstrip('/')!r}, and the model has no such layer. Give "
            "the model that the adapters were trained beside."
        )
    for rank in sorted(set(ranks.values())):
        layers = {layer for layer, its in ranks.items() if its == rank}
        adapted = add_lora(adapted, rank, lambda path, _, layers=layers: _prefix(path) in layers)
    for name, variable in _adapters(adapted).items():
        array, wanted = arrays.get(name), variable.get_value()
        if array is None or array.shape != wanted.shape:
            kind = "nothing" if array is None else f"shape {array.shape}"
            raise ModelFileError(
                f"{file} has {kind} for {name!r}, and the model needs shape {wanted.shape}. "
                "Give the model that the adapters were trained beside."
            )
        variable.set_value(jnp.asarray(array, wanted.dtype))
    return adapted


def _adapters(model: Any) -> dict[str, nnx.LoRAParam]:
    state = nnx.state(model, nnx.LoRAParam, graph=True) if is_module(model) else nnx.State({})
    return {name_of(path): variable for path, variable in nnx.to_flat_state(state)}


def _prefix(path: tuple) -> str:
    return f"{name_of(path)}/" if path else ""
