"""split and merge: a model as parameters, all its other variables, and one static object."""

from collections.abc import Hashable

import jax
import jax.numpy as jnp
import numpy as np

from fourbeat.models import modules, pytrees
from fourbeat.models.changes import IN_A_MODULE, IN_A_TREE, in_structures, in_trees
from fourbeat.models.holding import Holding
from fourbeat.models.parts import ModelLeaf, Parts
from fourbeat.models.wrt import Wrt, trained_leaves
from fourbeat.trees.articles import a_type
from fourbeat.trees.interning import intern
from fourbeat.trees.keys import impl_of
from fourbeat.trees.paths import Path, look_up, nest, render, render_attribute
from fourbeat.types import Model, Object, Params, Rest, Tree


class Static:
    """Everything in a model that is not an array: structure, constants, and which leaves are parameters.

    Interned: two models built the same way share one `Static`, so comparing two of them costs
    nothing. Made by `split`; given to `merge`.
    """

    __slots__ = (
        "__weakref__", "_describe", "_rebuild", "_structure", "holding", "identity", "is_module", "key_impls",
        "places",
    )  # fmt: skip

    def __init__(self, parts: Parts, places: tuple, key_impls: tuple, is_module: bool, holding: Holding):
        self.holding = holding
        self.identity = parts.identity
        self.places: tuple[tuple[Path, bool], ...] = places  # (path, whether a parameter)
        self.key_impls: tuple[str | None, ...] = key_impls  # for typed PRNG keys; None elsewhere
        self.is_module = is_module
        self._rebuild = parts.rebuild
        self._describe = parts.describe
        self._structure: tuple[tuple[Path, Hashable], ...] | None = None

    @property
    def structure(self) -> tuple[tuple[Path, Hashable], ...]:
        """Everything but the arrays, as pairs of a path and the canonical form of the value there."""
        if self._structure is None:
            self._structure = self._describe()
        return self._structure

    def merge(self, params: Params, rest: Rest) -> Model:
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

    def take_apart(self, model: Model) -> Parts:
        """The parts of a model, taken apart in the same way as the model of this `Static`."""
        return modules.take_apart(model) if self.is_module else pytrees.take_apart(model)

    def __deepcopy__(self, memo: dict) -> "Static":
        return self

    def __copy__(self) -> "Static":
        return self

    def __repr__(self) -> str:
        num_params = sum(is_param for _, is_param in self.places)
        return f"Static({num_params} params, {len(self.places) - num_params} other arrays)"


def split(model: Model, wrt: Wrt = None) -> tuple[Static, Params, Rest]:
    """Takes a model apart into static structure, parameters and all its other arrays.

    Args:
      model: an NNX module (or a pytree of them), or any other pytree. It is not changed, and the
        arrays are the model's own, not copies.
      wrt: which leaves are parameters, "with respect to" which gradients are taken. For NNX an nnx
        filter, `nnx.Param` by default; for other pytrees `wrt(path, leaf) -> bool`, by default all
        floating and complex arrays but those below an `equinox.nn.State`. `path` is a tuple of keys.
        For both `fourbeat.models.paths("head/*")`, or a tree of booleans, in the model's structure, its
        upper part, or dicts by path.

    Returns:
      `(static, params, rest)`. `params` and `rest` are nested plain dicts of arrays; PRNG keys are
      stored as their uint32 data. Models built the same way give the same `static` object. Plain Python
      objects in the model are shared with it; what they hold is part of `static`.

    Raises:
      TypeError: `wrt` is of another kind.
      TypeError: the model is a PyTorch module.
      ValueError: `wrt` selects nothing or a leaf without a gradient (an integer, a PRNG key), or a tree
        of booleans does not fit the model.

    >>> static, params, rest = split({"w": jnp.ones(2), "steps": jnp.array(0)})
    >>> params, rest
    ({'w': Array([1., 1.], dtype=float32)}, {'steps': Array(0, dtype=int32, weak_type=True)})
    """
    is_module = modules.is_module(model)
    if not is_module:
        _check_is_of_jax(model)
    parts = modules.take_apart(model) if is_module else pytrees.take_apart(model)
    chosen = trained_leaves(model, parts, wrt, is_module=is_module)
    places = tuple((leaf.path, is_param) for leaf, is_param in zip(parts.leaves, chosen, strict=True))
    key_impls = tuple(impl_of(leaf.value) for leaf in parts.leaves)
    values = list(map(_raw, parts.leaves))
    holding = Holding(parts.values)
    identity = ("static", is_module, parts.identity, places, key_impls, tuple(holding.entries.items()))
    static = intern(identity, lambda: Static(_without_arrays(parts), places, key_impls, is_module, holding))
    return static, _nest(places, values, params=True), _nest(places, values, params=False)


def _check_is_of_jax(model: Model) -> None:
    """Raises if a pytree without arrays is a model of another library."""
    if model is None:
        raise TypeError("model is None. Pass a model: perhaps the function that builds it returns nothing.")
    leaves = jax.tree_util.tree_leaves_with_path(model)
    if any(isinstance(leaf, jax.Array | np.ndarray) for _, leaf in leaves):
        return
    for path, leaf in leaves:
        kinds = {(kind.__module__.split(".")[0], kind.__name__) for kind in type(leaf).__mro__}
        place, name = f"model{jax.tree_util.keystr(path)}", type(leaf).__name__
        if kinds & {("torch", "Module"), ("torch", "Tensor")}:
            what = "module" if ("torch", "Module") in kinds else "tensor"
            raise TypeError(
                f"{place} is a PyTorch {what} ({name}), which JAX can neither trace nor differentiate. Pass "
                "an NNX module or another pytree of arrays; docs/from-pytorch.md carries the weights over."
            )
        if any(kind.__module__.startswith("flax.linen.") for kind in type(leaf).__mro__):
            raise TypeError(
                f"{place} is a Flax Linen module ({name}), which holds no parameters. Pass what its "
                "init(key, x) gives as the model, and call module.apply(model, x) in the loss function."
            )
        if isinstance(leaf, type) and not path:
            raise TypeError(f"model is the class {leaf.__name__}. Pass a model that is made of it.")


def merge(static: Static, params: Params, rest: Rest) -> Model:
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


def read_back(static: Static, model: Model, params: Params, rest: Rest) -> tuple[Params, Rest]:
    """What `params` and `rest` have become after `model`, merged from `static`, has run.

    Args:
      static: the static part that the model was merged from.
      model: the model after its forward pass, in any mode.
      params: the parameters that the model was merged from.
      rest: the other arrays that the model was merged from; their dtypes and shapes must not change.

    Returns:
      `(written, rest)`: a nested dict of only those parameters that were written, often empty; and the
      new `rest`. Both keep the earlier structure, shapes and dtypes.

    Raises:
      ValueError: the structure or a static attribute has changed, or an array has another shape or dtype.
        The text names the path.
    """
    parts = static.take_apart(model)
    if parts.identity != static.identity:
        raise ValueError(
            f"the forward pass changed the model's structure: {_differences(static, model, params, rest)}. A "
            f"compiled step cannot do that. {IN_A_MODULE if static.is_module else IN_A_TREE}"
        )
    written, others = [], []
    for leaf, (path, is_param) in zip(parts.leaves, static.places, strict=True):
        before = look_up(params if is_param else rest, path)
        value = _raw(leaf)
        if value.shape != before.shape or value.dtype != before.dtype:
            raise ValueError(
                f"the forward pass changed {render_attribute('model', path)} from "
                f"{before.dtype}{list(before.shape)} to {value.dtype}{list(value.shape)}. State keeps "
                "its shape and dtype from step to step: start it as it will be, or cast what is written."
            )
        if not is_param:
            others.append((path, value))
        elif value is not before:
            written.append((path, value))
    return nest(written), nest(others)


def read_in(static: Static, model: Model, params: Params, rest: Rest) -> tuple[Params, Rest]:
    """The arrays of another model built the same way, as `(params, rest)`: what `merge` takes.

    Args:
      static: the `Static` of both models.
      model: an NNX module in any mode, or a pytree; it is not changed.
      params: the parameters of a model with this `static`.
      rest: the other arrays of the same model.

    Raises:
      ValueError: `model` has another structure; the text names the places.
    """
    parts = static.take_apart(model)
    if parts.identity != static.identity:
        raise ValueError(
            f"the model has another structure: {_differences(static, model, params, rest)}. Give a model "
            "built the same way, or start from beats.init(model)."
        )
    values = list(map(_raw, parts.leaves))
    return _nest(static.places, values, params=True), _nest(static.places, values, params=False)


def _differences(static: Static, model: Model, params: Params, rest: Rest) -> str:
    if static.is_module:
        return in_structures(static.structure, static.take_apart(model).describe())
    return in_trees(static.merge(params, rest), model)


def held_in(tree: Tree) -> dict[str, str]:
    """The contents of the plain objects that the models of a tree hold, as texts by path.

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


def _static_of(node: Object) -> Static | None:
    static = getattr(node, "static", None)
    return static if isinstance(static, Static) else None


def _nest(places: tuple, values: list, *, params: bool) -> dict:
    chosen = zip(places, values, strict=True)
    return nest((path, value) for (path, is_param), value in chosen if is_param is params)


def _raw(leaf: ModelLeaf) -> jax.Array:
    """The array of a leaf; a typed PRNG key as its data."""
    value = leaf.value
    if isinstance(value, jax.Array):
        return value if impl_of(value) is None else jax.random.key_data(value)
    if isinstance(value, bool | int | float | complex | np.ndarray | np.generic):
        return jnp.asarray(value)
    raise TypeError(
        f"{render_attribute('model', leaf.path)} is {a_type(value)}, not an array. Make it a "
        "static attribute, or an array."
    )


def _without_arrays(parts: Parts) -> Parts:
    return Parts([], parts.identity, parts.describe, parts.rebuild, {})
