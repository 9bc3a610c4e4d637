"""Where PyTorch keeps what a layer of Flax holds, and in which layout: by the kind of layer, never by shape.

| Flax | PyTorch | layout |
|---|---|---|
| Linear.kernel (in, out) | weight (out, in) | transposed |
| LinearGeneral.kernel (*in, *out) | weight (out, in) | transposed, then cut into axes |
| Conv.kernel (*window, in, out) | weight (out, in, *window) | axes moved |
| ConvTranspose.kernel (*window, in, out) | weight (in, out, *window) | axes moved, window turned round |
| BatchNorm.scale, .mean, .var | weight, running_mean, running_var | as it is |
| LayerNorm, RMSNorm, GroupNorm, InstanceNorm .scale | weight | as it is |
| Embed.embedding | weight | as it is |
| MultiHeadAttention.query, .key, .value | a third of in_proj_weight, in_proj_bias | transposed, by heads |
| MultiHeadAttention.out | out_proj | transposed, by heads |

A leaf that has the same name in the file is taken as it is, and so is every bias.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from flax import nnx

from fourbeat.models.weights.renaming import Parts
from fourbeat.types import Object


class Source(NamedTuple):
    """Where a leaf of a model may be in a file.

    Attributes:
      parts: of its name there.
      layout: what is done to it, in words; empty where nothing is.
      convert: from the array of the file and the wanted shape.
    """

    parts: Parts
    layout: str
    convert: Callable[[np.ndarray, tuple[int, ...]], np.ndarray]


def sources(
    path: Parts, owners: Mapping[Parts, Object], unflattened: tuple[int, ...] | None
) -> Iterator[Source]:
    """Where a leaf may be, the likeliest first.

    Args:
      path: of the leaf, its keys as texts.
      owners: the modules of the model by path; none for other pytrees.
      unflattened: (channels, height, width) of what is flattened before this linear layer, or None.
    """
    *above, leaf = path
    owner, parent = owners.get(tuple(above)), owners.get(tuple(above[:-1]))
    by_heads = isinstance(owner, nnx.LinearGeneral)
    yield Source(path, "", _by_axes if by_heads else _as_it_is)
    if isinstance(parent, nnx.MultiHeadAttention) and above[-1] in _OF_ATTENTION:
        yield from _of_attention(tuple(above[:-1]), above[-1], leaf)
    layouts = _OF_TREES if owner is None else _of_module(owner)
    if leaf in layouts:
        name, layout, convert = layouts[leaf]
        if unflattened is not None and convert in (_transposed, _by_number_of_axes):
            yield Source((*above, name), "transposed, pixels before channels", _after_flattening(unflattened))
        else:
            yield Source((*above, name), layout, convert)


def _as_it_is(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return array


def _by_axes(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return array.reshape(shape)


def _transposed(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return array.transpose(1, 0)


def _transposed_by_axes(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return array.transpose(1, 0).reshape(shape)


def _of_convolution(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return array.transpose(*range(2, array.ndim), 1, 0)


def _of_transposed_convolution(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    window = tuple(range(array.ndim - 2))
    return np.flip(array.transpose(*range(2, array.ndim), 0, 1), window)


def _by_number_of_axes(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return _transposed(array, shape) if array.ndim == 2 else _of_convolution(array, shape)


def _after_flattening(channels_first: tuple[int, ...]) -> Callable[..., np.ndarray]:
    def convert(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        apart = np.moveaxis(array.reshape(len(array), *channels_first), 1, -1)
        return apart.reshape(len(array), -1).transpose(1, 0)

    return convert


_Layouts = Mapping[str, tuple[str, str, Callable[..., np.ndarray]]]
_SCALE: _Layouts = {"scale": ("weight", "", _as_it_is)}
_STATISTICS: _Layouts = {
    "mean": ("running_mean", "", _as_it_is),
    "var": ("running_var", "", _as_it_is),
}
_EMBEDDING: _Layouts = {"embedding": ("weight", "", _as_it_is)}
_OF_MODULES: tuple[tuple[tuple[type, ...], _Layouts], ...] = (
    ((nnx.Linear,), {"kernel": ("weight", "transposed", _transposed)}),
    ((nnx.LinearGeneral,), {"kernel": ("weight", "transposed", _transposed_by_axes)}),
    ((nnx.Conv,), {"kernel": ("weight", "window first", _of_convolution)}),
    ((nnx.BatchNorm,), {**_SCALE, **_STATISTICS}),
    ((nnx.LayerNorm, nnx.RMSNorm, nnx.GroupNorm, nnx.InstanceNorm), _SCALE),
    ((nnx.Embed,), _EMBEDDING),
    ((nnx.PReLU,), {"negative_slope": ("weight", "", _by_axes)}),
)
_OF_TREES: _Layouts = {
    "kernel": ("weight", "transposed", _by_number_of_axes),
    **_SCALE, **_STATISTICS, **_EMBEDDING,
}  # fmt: skip


def _of_module(owner: Object) -> _Layouts:
    if isinstance(owner, nnx.ConvTranspose):
        if owner.transpose_kernel:  # the layer itself turns the window round and exchanges in and out
            return {"kernel": ("weight", "window first", _of_convolution)}
        return {"kernel": ("weight", "window first and turned round", _of_transposed_convolution)}
    return next((layouts for kinds, layouts in _OF_MODULES if isinstance(owner, kinds)), {})


_OF_ATTENTION = {"query": 0, "key": 1, "value": 2, "out": None}


def _of_attention(above: Parts, which: str, leaf: str) -> Iterator[Source]:
    third = _OF_ATTENTION[which]
    if third is None:
        if leaf == "kernel":
            yield Source((*above, "out_proj", "weight"), "transposed, by heads", _transposed_by_axes)
        elif leaf == "bias":
            yield Source((*above, "out_proj", "bias"), "", _by_axes)
        return

    def cut(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        if len(array) % 3:
            raise ValueError
        part = np.split(array, 3)[third]
        return (part.transpose(1, 0) if leaf == "kernel" else part).reshape(shape)

    if leaf == "kernel":
        yield Source((*above, "in_proj_weight"), "a third, transposed, by heads", cut)
        apart = (*above, f"{which[0]}_proj_weight")
        yield Source(apart, "transposed, by heads", _transposed_by_axes)
    elif leaf == "bias":
        yield Source((*above, "in_proj_bias"), "a third, by heads", cut)


def is_unused(parts: Parts) -> bool:
    """Whether PyTorch counts something here that no model of Flax has."""
    return parts[-1:] == ("num_batches_tracked",)


def places_of(model: Any) -> dict[Parts, Any]:
    """The modules of a model by path, the keys as texts; none for a pytree without them."""
    nodes = nnx.iter_graph(model)
    return {tuple(map(str, path)): node for path, node in nodes if isinstance(node, nnx.Module)}
