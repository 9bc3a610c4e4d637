"""Weights of a file put into a model, by name."""

import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from fourbeat.models import modules
from fourbeat.models.names import name_of
from fourbeat.models.weights.layouts import Source, is_unused, places_of, sources
from fourbeat.models.weights.reading import read_weights
from fourbeat.models.weights.renaming import Parts, paths_of
from fourbeat.models.weights.report import Fit, PartialWeightsWarning, WeightsReport
from fourbeat.trees.keys import impl_of
from fourbeat.trees.paths import Path, plain_path
from fourbeat.types import Model, Object


def load_weights(
    model: Model,
    file: str | os.PathLike[str],
    rename: Mapping[str, str | None] | None = None,
    *,
    flattened: Mapping[str, Sequence[int]] | None = None,
    partial: bool = False,
) -> tuple[Model, WeightsReport]:
    """A model with the weights of a safetensors file, each found by its name.

    Names and layouts are those of PyTorch, by the kind of each layer: `first.weight` (out, in) of a linear
    layer becomes `first/kernel` (in, out), the kernels of convolutions, the scales and statistics of
    normalisation, embeddings and the heads of attention likewise; the page "In and out" has the table. In a
    pytree without modules, a `kernel` counts as that of a linear layer, or of a convolution if it has 3 axes
    or more. A leaf that has the same name in the file, as in those that `fb.models.save` writes, is taken as
    it is. The lengths of axes decide nothing: a square kernel is transposed too. `num_batches_tracked` counts
    for nothing.

    Args:
      model: an NNX module or any pytree; arrays may be `jax.ShapeDtypeStruct`s, as `nnx.eval_shape` gives
        them. It is not changed.
      file: a safetensors file; the index of several (`model.safetensors.index.json`); or a folder with one of
        the two. Nothing is unpickled.
      rename: beginnings of the file's names to paths of the model: `{"0": "first"}` finds "0.weight" at
        `first`. Parts count as a whole; the longest beginning that fits counts; `*` is any one part,
        `{"layers.*.attn": "blocks.*.attention"}`; None leaves a name out.
      flattened: paths of linear layers that PyTorch gives a flattened image, with the (channels, height,
        width) of this image: its channels come first there and last in Flax, so the inputs are put in order.
      partial: whether it is meant that leaves are missing or arrays are left. Otherwise a
        `PartialWeightsWarning` has the table.

    Returns:
      `(model, report)`. The model is a new one of the same structure, dtypes and places on devices. The
      report says what fits, what is missing and what is left; its text is a table.

    Raises:
      ModelFileError: the file is no safetensors file, or damaged.
      ValueError: nothing fits; a name in `rename` or `flattened` is of nothing; a leaf without a value gets
        none.

    >>> import tempfile, fourbeat as fb
    >>> from safetensors.numpy import save_file
    >>> file = tempfile.mkdtemp() + "/model.safetensors"
    >>> save_file({"0.weight": np.ones((3, 2), np.float32), "0.bias": np.zeros(3, np.float32)}, file)
    >>> linear = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    >>> model, report = fb.models.load_weights({"first": linear}, file, rename={"0": "first"})
    >>> print(report)
    model         wants         file      holds
    first/bias    float32[3]    0.bias    float32[3]
    first/kernel  float32[2,3]  0.weight  float32[3,2], transposed
    """
    if hasattr(model, "opt_state") or hasattr(model, "num_members"):
        raise TypeError(
            "model is a state. Give state.model, and put the result back: state.replace(model=model)."
        )
    arrays = read_weights(file)
    paths = paths_of(arrays, rename or {})
    names = {parts: name for name, parts in paths.items() if parts is not None}
    leaves, random, put = _opened(model)
    owners = places_of(model) if modules.is_module(model) else {}
    unflattened = _of_linear_layers(flattened or {}, leaves)
    values, used = dict(leaves), set()
    fits, differing, missing = [], [], []
    for path, leaf in leaves.items():
        parts = tuple(map(str, path))
        place, wanted = name_of(path), _kind(leaf)
        found = [each for each in sources(parts, owners, unflattened.get(parts[:-1])) if each.parts in names]
        if not found:
            missing.append((place, wanted))
            continue
        name = names[found[0].parts]
        used.add(name)
        converted = _converted(arrays[name], leaf, found[0])
        fit = Fit(place, name, _kind(arrays[name]), wanted, found[0].layout)
        (differing if converted is None else fits).append(fit)
        values[path] = leaf if converted is None else converted
    left = tuple(
        (name, _kind(arrays[name]))
        for name, parts in paths.items()
        if name not in used and parts not in random and not is_unused(parts or ())
    )
    report = WeightsReport(tuple(fits), tuple(differing), tuple(missing), left)
    _check(report, values, file)
    if not (partial or report.is_whole):
        warnings.warn(
            f"the weights of {os.fspath(file)} were loaded in part: {len(fits)} leaves fit, {len(missing)} "
            f"are "
            f"missing in the file, {len(differing)} do not fit, and {len(left)} of its arrays are left. "
            f"Rename "
            f"what should fit, or pass partial=True where that is meant.\n{report}",
            PartialWeightsWarning,
            stacklevel=2,
        )
    return put(values), report


def _opened(model: Model) -> tuple[dict[Path, Any], set[Parts], Any]:
    """The arrays of a model by path, where it keeps random state, and what makes a model of other arrays."""
    if modules.is_module(model):
        graphdef, state = nnx.split(model)
        flat = nnx.to_flat_state(state)
        variables = {path: each for path, each in flat if not isinstance(each, nnx.RngState)}
        leaves = {path: each.get_raw_value() for path, each in variables.items()}
        random = {tuple(map(str, path)) for path, each in flat if isinstance(each, nnx.RngState)}

        def put(values: dict[Path, Any]) -> Any:
            entries = [(path, each.replace(values[path]) if path in values else each) for path, each in flat]
            return nnx.merge(graphdef, nnx.from_flat_state(entries))

        return {path: leaf for path, leaf in leaves.items() if _is_array(leaf)}, random, put
    found, structure = jax.tree_util.tree_flatten_with_path(model)
    by_path = [(plain_path(path) or ("value",), leaf) for path, leaf in found]
    kept = {path: leaf for path, leaf in by_path if _is_array(leaf) and impl_of(leaf) is None}
    random = {tuple(map(str, path)) for path, leaf in by_path if impl_of(leaf) is not None}
    return (
        kept,
        random,
        lambda values: structure.unflatten([values.get(path, leaf) for path, leaf in by_path]),
    )


def _of_linear_layers(
    flattened: Mapping[str, Sequence[int]], leaves: Mapping[Path, Any]
) -> dict[Parts, tuple[int, ...]]:
    kernels = {tuple(map(str, path[:-1])): leaf for path, leaf in leaves.items() if path[-1] == "kernel"}
    found = {}
    for place, shape in flattened.items():
        parts = tuple(place.replace(".", "/").split("/"))
        kernel = kernels.get(parts)
        if kernel is None or kernel.ndim != 2 or kernel.shape[0] != np.prod(shape):
            seen = "no linear layer" if kernel is None else f"a kernel {_kind(kernel)}"
            raise ValueError(
                f"flattened has {place!r}: {tuple(shape)}, and the model has {seen} there. Give the path of "
                f"the "
                "linear layer, and the (channels, height, width) of the image that is flattened before it."
            )
        found[parts] = tuple(shape)
    return found


def _converted(array: np.ndarray, leaf: Object, source: Source) -> Any:
    """The array in the layout, the dtype and the place of a leaf; None where it does not fit."""
    try:
        value = source.convert(array, tuple(leaf.shape))
    except ValueError:  # another number of axes
        return None
    is_float = [jnp.issubdtype(each.dtype, jnp.inexact) for each in (array, leaf)]
    if value.shape != tuple(leaf.shape) or is_float[0] != is_float[1]:
        return None
    own = np.array(value, dtype=leaf.dtype, order="C")  # no view of the file
    if isinstance(leaf, np.ndarray):
        return own
    sharding = getattr(leaf, "sharding", None)
    is_placed = sharding is not None and getattr(leaf, "committed", True)
    return jnp.asarray(own, device=sharding if is_placed else None)


def _check(report: WeightsReport, values: Mapping[Path, Any], file: str | os.PathLike[str]) -> None:
    if not report.fits:
        raise ValueError(
            f"nothing in {os.fspath(file)} fits the model. Say which names are which places, such as "
            f'rename={{"0": "first"}}.\n{report}'
        )
    empty = [name_of(path) for path, value in values.items() if isinstance(value, jax.ShapeDtypeStruct)]
    if empty:
        raise ValueError(
            f"the model has no value for {', '.join(empty[:4])}, and the file has none that fits. Give a "
            f"model "
            f"with values, or a file that has them all.\n{report}"
        )


def _is_array(leaf: Object) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | np.generic | jax.ShapeDtypeStruct)


def _kind(array: Object) -> str:
    return f"{array.dtype}[{','.join(map(str, array.shape))}]"
