"""split and merge: a model as parameters, all its other variables, and one static object."""

from collections.abc import Callable, Hashable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from flax.nnx import filterlib

from fourbeat.explicit import modules, trees
from fourbeat.explicit.holding import Holding
from fourbeat.explicit.interning import intern
from fourbeat.explicit.keys import impl_of
from fourbeat.explicit.parts import Leaf, Parts
from fourbeat.explicit.paths import Path, look_up, nest, render, render_attribute

Wrt = Any  # an nnx filter, or `wrt(path, leaf) -> bool`


class Static:
    """All of a model that is not an array: its structure, its constants, which leaves are parameters.

    Interned: two models built the same way share one `Static`, so comparing two of them costs
    nothing. Made by `split`; given to `merge`.
    """

    __slots__ = ("__weakref__", "_rebuild", "holding", "is_module", "key_impls", "places", "structure")

    def __init__(self, parts: Parts, places: tuple, key_impls: tuple, is_module: bool, holding: Holding):
        self.holding = holding
        self.structure = parts.structure
        self.places: tuple[tuple[Path, bool], ...] = places  # (path, whether a parameter)
        self.key_impls: tuple[str | None, ...] = key_impls  # of typed PRNG keys; None elsewhere
        self.is_module = is_module
        self._rebuild = parts.rebuild

    def merge(self, params: dict, rest: dict) -> Any:
        """A new model that holds these very arrays; an NNX module is in evaluation mode."""
        values = []
        for (path, is_param), impl in zip(self.places, self.key_impls, strict=True):
            root, nested = ("params", params) if is_param else ("rest", rest)
            try:
                value = look_up(nested, path)
            except (KeyError, TypeError):
                raise ValueError(
                    f"cannot merge: {render(root, path)} is missing. Pass the params and the rest "
                    "that split gave, or trees of the same keys."
                ) from None
            values.append(value if impl is None else jax.random.wrap_key_data(value, impl=impl))
        return self._rebuild(values)

    def __deepcopy__(self, memo: dict) -> "Static":
        return self

    def __copy__(self) -> "Static":
        return self

    def __repr__(self) -> str:
        num_params = sum(is_param for _, is_param in self.places)
        return f"Static({num_params} params, {len(self.places) - num_params} other arrays)"


def split(model: Any, wrt: Wrt = None) -> tuple[Static, dict, dict]:
    """Takes a model apart into static structure, parameters and all its other arrays.

    Args:
      model: an NNX module (or a pytree of them), or any other pytree. It is not changed, and the
        arrays are the model's own, not copies.
      wrt: which leaves are parameters, "with respect to" which gradients are taken. For NNX an nnx
        filter, `nnx.Param` by default; for other pytrees `wrt(path, leaf) -> bool`, all floating
        and complex arrays by default. `path` is a tuple of keys.

    Returns:
      `(static, params, rest)`. `params` and `rest` are nested plain dicts of arrays; PRNG keys are
      stored as their uint32 data. Models built the same way give the same `static` object. Plain Python
      objects in the model are shared with it; what they hold is part of `static`.

    Raises:
      ValueError: nothing is selected, or what is selected has no gradient (integers, PRNG keys).

    >>> static, params, rest = split({"w": jnp.ones(2), "steps": jnp.array(0)})
    >>> params, rest
    ({'w': Array([1., 1.], dtype=float32)}, {'steps': Array(0, dtype=int32, weak_type=True)})
    """
    is_module = modules.is_module(model)
    parts = modules.take_apart(model) if is_module else trees.take_apart(model)
    selects = _selector(wrt, is_module)
    places = tuple((leaf.path, bool(selects(leaf.path, leaf.owner))) for leaf in parts.leaves)
    _check_selected(parts.leaves, places, wrt)
    values = [_as_array(leaf) for leaf in parts.leaves]
    key_impls = tuple(map(impl_of, values))
    values = [v if i is None else jax.random.key_data(v) for v, i in zip(values, key_impls, strict=True)]
    holding = Holding(parts.values)
    identity = ("static", is_module, parts.structure, places, key_impls, tuple(holding.entries.items()))
    static = intern(identity, lambda: Static(_without_arrays(parts), places, key_impls, is_module, holding))
    return static, _nest(places, values, params=True), _nest(places, values, params=False)


def merge(static: Static, params: dict, rest: dict) -> Any:
    """Puts a model together again from what `split` gave.

    Args:
      static: from `split`.
      params: nested dict of arrays.
      rest: nested dict of arrays.

    Returns:
      A new model holding these very arrays. An NNX module comes back in evaluation mode.

    Raises:
      ValueError: an array is missing; the text names its path.

    >>> merge(*split({"w": jnp.ones(2), "name": "line"}))
    {'name': 'line', 'w': Array([1., 1.], dtype=float32)}
    """
    return static.merge(params, rest)


def read_back(static: Static, model: Any, params: dict, rest: dict) -> dict:
    """What `rest` has become after `model`, merged from `static`, has run.

    Args:
      static: what the model was merged from.
      model: the model after its forward pass, in any mode.
      params: what the model was merged from.
      rest: what the model was merged from; gives the dtypes and shapes that must still hold.

    Returns:
      The new `rest`, of the same structure, shapes and dtypes.

    Raises:
      ValueError: the structure or a static attribute has changed, a parameter was written, or an
        array has another shape or dtype. The text names the path.
    """
    is_module = static.is_module
    parts = modules.take_apart(model) if is_module else trees.take_apart(model)
    if parts.structure != static.structure:
        raise ValueError(_explain_structure(static.structure, parts.structure))
    values = []
    for leaf, (path, is_param), impl in zip(parts.leaves, static.places, static.key_impls, strict=True):
        before = look_up(params if is_param else rest, path)
        value = _as_array(leaf)
        value = value if impl is None else jax.random.key_data(value)
        if is_param and value is not before:
            raise ValueError(
                f"the forward pass wrote the parameter {render_attribute('model', path)}. A parameter "
                "changes by its update alone: hold what the forward pass writes in a variable of "
                "another type, such as nnx.BatchStat, or leave it out of wrt. Where it was nnx.remat or "
                "another transformation of Flax, which writes back all that it was given: "
                "nnx.remat(..., graph_updates=False)."
            )
        if value.shape != before.shape or value.dtype != before.dtype:
            raise ValueError(
                f"the forward pass changed {render_attribute('model', path)} from "
                f"{before.dtype}{list(before.shape)} to {value.dtype}{list(value.shape)}. State keeps "
                "its shape and dtype from step to step: start it as it will be, or cast what is written."
            )
        values.append(value)
    return _nest(static.places, values, params=False)


def held_in(tree: Any) -> dict[str, str]:
    """What the plain objects hold that the models of a tree hold, by path, as texts.

    Args:
      tree: any pytree; the models are those of the states in it.

    >>> held_in({"w": jnp.ones(2)})
    {}
    """
    found, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda node: _static_of(node) is not None)
    entries: dict[str, str] = {}
    for path, node in found:
        if (static := _static_of(node)) is not None:
            place = f"tree{jax.tree_util.keystr(path)}"
            entries.update({f"{place}.{name}": text for name, text in static.holding.entries.items()})
    return entries


def _static_of(node: Any) -> Static | None:
    static = getattr(node, "static", None)
    return static if isinstance(static, Static) else None


def _nest(places: tuple, values: list, *, params: bool) -> dict:
    chosen = zip(places, values, strict=True)
    return nest((path, value) for (path, is_param), value in chosen if is_param is params)


def _selector(wrt: Wrt, is_module: bool) -> Callable[..., Any]:
    if is_module:
        return filterlib.to_predicate(nnx.Param if wrt is None else wrt)
    if wrt is None:
        return lambda path, leaf: jnp.issubdtype(leaf.dtype, jnp.inexact)
    if not callable(wrt):
        raise TypeError(
            f"wrt is {wrt!r}, but this model is a plain pytree. Pass a function wrt(path, leaf) -> bool, "
            "such as lambda path, leaf: path[0] == 'head'."
        )
    return wrt


def _check_selected(leaves: list[Leaf], places: tuple, wrt: Wrt) -> None:
    selected = [leaf for leaf, (_, is_param) in zip(leaves, places, strict=True) if is_param]
    if not selected:
        seen = ", ".join(render_attribute("model", leaf.path) for leaf in leaves[:8]) or "no array at all"
        raise ValueError(
            f"wrt={wrt!r} selects no parameter: the model holds {seen}. Choose a filter that matches "
            "one of these (Python numbers are constants: make them arrays to train them)."
        )
    for leaf in selected:
        dtype = jnp.result_type(leaf.value)
        if not jnp.issubdtype(dtype, jnp.inexact):
            raise ValueError(
                f"wrt={wrt!r} selects {render_attribute('model', leaf.path)} of dtype {dtype}, which "
                "has no gradient. Narrow wrt to floating-point arrays."
            )


def _as_array(leaf: Leaf) -> jax.Array:
    value = leaf.value
    if isinstance(value, jax.Array):
        return value
    if isinstance(value, bool | int | float | complex | np.ndarray | np.generic):
        return jnp.asarray(value)
    raise TypeError(
        f"{render_attribute('model', leaf.path)} is a {type(value).__name__}, not an array. Make it a "
        "static attribute, or an array."
    )


def _without_arrays(parts: Parts) -> Parts:
    return Parts([], parts.structure, parts.rebuild, {})


def _explain_structure(before: tuple, after: tuple) -> str:
    def visible(structure: tuple) -> dict[Path, Hashable]:
        # `_pytree__nodes` and the like are Flax's own records of the attributes beside them
        return {p: v for p, v in structure if not (p and str(p[-1]).startswith("_pytree__"))}

    old, new = visible(before), visible(after)
    changes = []
    for path in sorted(old.keys() | new.keys(), key=str):
        name = render_attribute("model", path)
        if path not in old:
            changes.append(f"{name} appeared")
        elif path not in new:
            changes.append(f"{name} is gone")
        elif old[path] != new[path]:
            changes.append(f"{name} changed from {_show(old[path])} to {_show(new[path])}")
    return (
        f"the forward pass changed the model's structure: {'; '.join(changes) or 'its pytree nodes'}. A "
        "compiled step cannot do that. Hold what changes in an nnx.Variable (self.n = "
        "nnx.Variable(jnp.array(0)), self.n[...] += 1), and return intermediates as aux, not by sow."
    )


def _show(value: Hashable) -> str:
    if isinstance(value, tuple) and len(value) == 2 and value[0] in (bool, int, float, complex):
        return str(value[1])
    return repr(value)
