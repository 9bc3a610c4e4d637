"""LoRA: small trained adapters beside the frozen kernels of a model's linear layers."""

import functools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx

from fourbeat.models.linear_forms import Form, form_of
from fourbeat.models.modules import is_module
from fourbeat.models.path_filters import Paths, paths
from fourbeat.trees.articles import a_type
from fourbeat.trees.globs import joined, matches, unmatched
from fourbeat.trees.paths import Path, render_attribute

_Model = TypeVar("_Model")


def add_lora(
    model: _Model,
    rank: int,
    where: str | Sequence[str] | Paths | Callable[[Path, Any], bool] | None = None,
    *,
    key: int | jax.Array = 0,
) -> _Model:
    """A copy of an NNX model whose linear layers have adapters: `kernel + lora_a @ lora_b` in effect.

    A layer that lies at `blocks/0/up` gets an `nnx.LoRA` at `blocks/0/up/lora`, and everything else keeps
    its path, so checkpoints of the model before still fit. `lora_b` is 0, so the outputs are those of
    `model`, bit for bit. Train the adapters alone by `four_beats(..., wrt=nnx.LoRAParam)`. Adapters have no
    factor of their own (an alpha): the learning rate stands for it. The method is that of Hu et al. 2021,
    arXiv:2106.09685.

    What can have an adapter: `nnx.Linear`, `nnx.LinearGeneral`, which are the projections of
    `nnx.MultiHeadAttention` too, and `nnx.Einsum` with one kernel for all of its inputs. What cannot, such as
    a convolution, an embedding or a layer with a `__call__` of its own, stays as it is, frozen.

    Args:
      model: an NNX module, or a pytree of modules. It is not changed; the copy shares its arrays.
      rank: of the adapters: an adapter holds `rank * (inputs + outputs)` numbers.
      where: which layers: patterns over their paths, as `fourbeat.models.paths` takes them, such as "head" or
        "blocks/*"; or a filter of path and module. None for every layer that can have one.
      key: of the initial values of `lora_a`.

    Returns:
      The model with adapters, in the mode of `model`.

    Raises:
      TypeError: the model is no NNX module, or the rank no whole number.
      ValueError: nothing is chosen, or a pattern matches nothing that can have an adapter; or a layer has one
        already, or shares its kernel with another layer.

    >>> rngs = nnx.Rngs(0)
    >>> model = nnx.Sequential(nnx.Linear(4, 3, rngs=rngs), nnx.relu, nnx.Linear(3, 2, rngs=rngs))
    >>> adapted = add_lora(model, rank=2, where="layers/0")
    >>> x = jnp.ones((1, 4))
    >>> bool((adapted(x) == model(x)).all()), adapted.layers[0].lora.lora_a.shape
    (True, (4, 2))
    """
    if not is_module(model):
        raise TypeError(f"add_lora: the model is {a_type(model)}, and adapters are for NNX modules.")
    if isinstance(rank, bool) or not isinstance(rank, int):
        raise TypeError(f"add_lora: rank is {rank!r}; give a whole number from 1.")
    if rank < 1:
        raise ValueError(f"add_lora: rank is {rank}; give a whole number from 1.")
    adapted: Any = nnx.clone(model, graph=True)
    found: dict[Path, Any] = dict(nnx.iter_modules(adapted, graph=True))
    forms = {path: form for path, module in found.items() if (form := _form_of(module)) is not None}
    holders = Counter(id(v) for m in found.values() for v in vars(m).values() if isinstance(v, nnx.Variable))
    rngs = nnx.Rngs(key)
    for path in _chosen(found, forms, where):
        layer = found[path]
        if holders[id(layer.kernel)] > 1:
            raise ValueError(
                f"add_lora: {render_attribute('model', path)} shares its kernel with another layer: an "
                "adapter here would not change that one, and merging it would. Leave it out by where=."
            )
        layer.lora = _adapter(layer, forms[path], rank, rngs)
        object.__setattr__(layer, "__class__", _with_adapter(type(layer)))
    return adapted


def merge_lora(model: _Model) -> _Model:
    """A copy of a model with its adapters added to the kernels they stand beside: for export, at no cost.

    It is built as the model was before `add_lora`, and its outputs are those of `model` within rounding.
    An `nnx.LoRALinear` becomes an `nnx.Linear`.

    Args:
      model: from `add_lora`, or a state's `.model` or `.ema_model`. It is not changed.

    Raises:
      ValueError: there is no adapter.

    >>> adapted = add_lora(nnx.Linear(2, 2, rngs=nnx.Rngs(0)), rank=1)
    >>> adapted.lora.lora_b[...] += 1
    >>> merged, x = merge_lora(adapted), jnp.eye(2)
    >>> type(merged).__name__, bool(jnp.allclose(merged(x), adapted(x)))
    ('Linear', True)
    """
    merged: Any = nnx.clone(model, graph=True) if is_module(model) else model
    modules = nnx.iter_modules(merged, graph=True) if is_module(model) else ()
    layers: list[Any] = [module for _, module in modules if _has_adapter(module)]
    if not layers:
        raise ValueError(
            f"merge_lora: the model, {a_type(model)}, holds no adapter of fourbeat.models.add_lora."
        )
    for layer in layers:
        form = _form_of(layer)
        assert form is not None
        delta = jnp.matmul(layer.lora.lora_a[...], layer.lora.lora_b[...], precision="highest")
        kernel = layer.kernel[...]
        layer.kernel[...] = (kernel + form.as_kernel(delta, kernel.shape)).astype(kernel.dtype)
        object.__setattr__(layer, "__class__", _base_of(type(layer)))
        del layer.lora
    return merged


_WHICH = "Linear, LinearGeneral and Einsum layers of Flax can; convolutions and embeddings cannot."


def _chosen(found: dict[Path, Any], forms: dict[Path, Form], where: Any) -> list[Path]:
    """The paths of the layers that get an adapter, in the model's order."""
    if where is None:
        chosen = set(forms)
    elif isinstance(where, str | list | tuple | Paths):
        given = [where] if isinstance(where, str) else where.patterns if isinstance(where, Paths) else where
        chosen = {path for pattern in paths(*given).patterns for path in _matched(pattern, found, forms)}
    elif callable(where):
        chosen = {path for path in forms if where(path, found[path])}
    else:
        raise TypeError(
            f"add_lora: where is {where!r:.200}; give patterns such as 'blocks/*', or a filter of path and "
            "module."
        )
    if not chosen:
        whose = "the model has" if where is None else f"where={where!r:.200} chooses"
        raise ValueError(f"add_lora: {whose} no layer that can have an adapter. {_WHICH}")
    for path in sorted(chosen, key=str):
        if _has_adapter(found[path]):
            raise ValueError(
                f"add_lora: {render_attribute('model', path)} has an adapter already. Merge it first, by "
                "fourbeat.models.merge_lora, or leave the layer out by where=."
            )
    return [path for path in found if path in chosen]


def _matched(pattern: str, found: dict[Path, Any], forms: dict[Path, Form]) -> list[Path]:
    """The layers that a pattern matches, by their own paths or by those of their kernels."""
    places = {path: (joined(path), joined((*path, "kernel"))) for path in found if path}
    matched = [path for path, names in places.items() if any(matches(pattern, name) for name in names)]
    if () in forms and matches(pattern, "kernel"):  # the model is itself a layer
        matched.append(())
    if able := [path for path in matched if path in forms]:
        return able
    if matched:
        place, kind = render_attribute("model", matched[0]), type(found[matched[0]]).__name__
        raise ValueError(
            f"add_lora: the pattern {pattern!r} matches {place}, a layer of type {kind}, and no layer that "
            f"can have an adapter. {_WHICH} To train that layer itself, name it in wrt: "
            f"nnx.Any(nnx.LoRAParam, fb.models.paths({joined((*matched[0], '*'))!r}))."
        )
    places = [joined(path) for path in forms]
    raise ValueError(unmatched([pattern], places, of="add_lora", what="layer that can have an adapter"))


def _adapter(layer: Any, form: Form, rank: int, rngs: nnx.Rngs) -> nnx.LoRA:
    shape = layer.kernel[...].shape
    stacked = shape[: len(shape) - len(form.kernel)]
    of_each = [
        nnx.LoRA(
            *_around(rank, form.num_features(shape)), dtype=layer.dtype, param_dtype=layer.param_dtype,
            promote_dtype=layer.promote_dtype, rngs=rngs,
        )
        for _ in range(math.prod(stacked))
    ]  # fmt: skip
    adapter = of_each[0]
    for name in ("lora_a", "lora_b"):
        values = jnp.stack([getattr(each, name)[...] for each in of_each])
        setattr(adapter, name, nnx.LoRAParam(values.reshape(*stacked, *values.shape[1:])))
    return adapter


def _around(rank: int, num_features: tuple[int, int]) -> tuple[int, int, int]:
    return num_features[0], rank, num_features[1]


class _WithAdapter:
    """Marks the class of a linear layer that has an adapter."""

    __slots__ = ()


@functools.cache
def _with_adapter(kind: type) -> type:
    """A subclass of a layer's class whose output is that of the kernel and that of the adapter."""
    base: Any = kind

    def call(self: Any, inputs: jax.Array, *args: Any, **kwargs: Any) -> jax.Array:
        form = form_of(self, kind)
        assert form is not None
        outputs = base.__call__(self, inputs, *args, **kwargs)
        return outputs + form.as_outputs(self.lora(form.rows(inputs)), inputs, self.kernel.shape)

    members = {"__module__": __name__, "__call__": call}
    return type(kind)(f"LoRA{kind.__name__}", (kind, _WithAdapter), members)


def _base_of(kind: type) -> type:
    """The class of the layer without its adapter; the class itself where it has none."""
    if issubclass(kind, nnx.LoRALinear):
        return nnx.Linear
    return next((each.__bases__[0] for each in kind.__mro__ if _WithAdapter in each.__bases__), kind)


def _form_of(layer: Any) -> Form | None:
    return form_of(layer, _base_of(type(layer)))


def _has_adapter(module: object) -> bool:
    return isinstance(module, _WithAdapter | nnx.LoRALinear)
