"""The dtypes of training, and a model that computes in them."""

import contextlib
import dataclasses
import weakref
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from fourbeat.models.modules import outermost_modules
from fourbeat.models.splitting import Static
from fourbeat.precision.attention import attention
from fourbeat.precision.precision_warnings import warn_of_kept_layers
from fourbeat.trees.paths import look_up, nest, render_attribute
from fourbeat.types import Model, Object

NORMALISATIONS = (nnx.BatchNorm, nnx.LayerNorm, nnx.RMSNorm, nnx.GroupNorm, nnx.InstanceNorm)


@dataclasses.dataclass(frozen=True)
class Policy:
    """The dtypes of training: for the stored parameters, the computation, and the model's output.

    Losses, their reductions, gradients' norms, metrics, the statistics of normalisation layers, the softmax
    of `nnx.MultiHeadAttention` with Flax's own attention function, and every sum are always in float32. The
    sums of the backward pass are among them, such as the gradients of biases and embeddings, which plain JAX
    adds up in half precision. Elementwise operations that a model writes itself, such as an `exp`, keep the
    dtype of their inputs.

    An NNX model casts at its layers and at its own call. Any other pytree has no call at which to cast, so
    only its parameters are cast. Your loss function casts the inputs that meet them,
    `x.astype(model["w"].dtype)`, and casts the result back to float32. A `PrecisionWarning` names the places
    where it does not.

    Args:
      params: the master parameters that the optimizer updates.
      compute: layers cast their inputs and parameters to it. A layer that was built with a dtype of its
        own keeps it.
      output: the dtype of what calling the model returns.

    Raises:
      ValueError: a dtype is not floating-point.

    >>> Policy(compute="bfloat16")
    Policy(params='float32', compute='bfloat16', output='float32')
    """

    params: Any = "float32"
    compute: Any = "float32"
    output: Any = "float32"

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            try:
                dtype = jnp.dtype(value)
            except TypeError:
                dtype = None
            if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
                raise ValueError(
                    f"Policy: {field.name}={value!r} must be a floating-point dtype, such as 'float32' or "
                    "'bfloat16'."
                )
            object.__setattr__(self, field.name, dtype.name)

    @property
    def scales_loss(self) -> bool:
        """Whether gradients would underflow without a scaled loss."""
        return self.compute == "float16"

    def master(self, params: dict) -> dict:
        """The parameters as they are kept."""
        return jax.tree.map(lambda param: _as_float(param, self.params), params)

    def computed(self, static: Static, params: dict) -> dict:
        """The parameters as the forward pass reads them. Those of normalisation layers keep their dtype."""
        norms = [
            path
            for path, what in static.structure
            if isinstance(what, tuple) and isinstance(what[0], type) and issubclass(what[0], NORMALISATIONS)
        ]
        paths = [path for path, is_param in static.places if is_param]
        kept = {path for path in paths if any(path[: len(norm)] == norm for norm in norms)}
        return nest(
            (path, value if path in kept else _as_float(value, self.compute))
            for path in paths
            for value in (look_up(params, path),)
        )

    @contextlib.contextmanager
    def computing(self, model: Model) -> Iterator[None]:
        """Within it the layers of an NNX model compute in `compute` and the model returns `output`.

        Any other pytree stays as it is: its parameters alone are cast.

        >>> model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
        >>> with Policy(compute="bfloat16", output="bfloat16").computing(model):
        ...     model(jnp.ones((1, 2))).dtype
        dtype(bfloat16)
        >>> model(jnp.ones((1, 2))).dtype
        dtype('float32')
        """
        outermost = outermost_modules(model)
        changed: list[tuple[Any, str, Any]] = []
        try:
            for root in outermost:
                for _, module in nnx.iter_modules(root):
                    for name, value in self._settings(module):
                        changed.append((module, name, getattr(module, name)))
                        setattr(module, name, value)
                object.__setattr__(root, "__class__", _casting(type(root), self))
            yield
        finally:
            for root in outermost:
                if isinstance(root, _Casting):
                    object.__setattr__(root, "__class__", type(root).__bases__[0])
            for module, name, value in reversed(changed):
                setattr(module, name, value)

    def warn_where_idle(self, model: Model) -> None:
        """Warns where every layer of an NNX model was built with a dtype of its own, and keeps it."""
        kept = []
        for root in outermost_modules(model):
            for path, module in nnx.iter_modules(root):
                if "dtype" in vars(module) and not isinstance(module, NORMALISATIONS):
                    if _is_open(module) or _name_of(vars(module)["dtype"]) == self.compute:
                        return
                    kept.append(f"{render_attribute('model', path)} in {_name_of(vars(module)['dtype'])}")
        warn_of_kept_layers(self.compute, kept)

    def _settings(self, module: nnx.Module) -> Iterator[tuple[str, Any]]:
        if "dtype" not in vars(module) or not _is_open(module):
            return
        yield "dtype", jnp.dtype(self.compute)
        if isinstance(module, NORMALISATIONS):
            # it would cast running statistics, scale and bias to half precision; only its output is cast
            yield "promote_dtype", _as_given
        if isinstance(module, nnx.MultiHeadAttention) and module.attention_fn is nnx.dot_product_attention:
            yield "attention_fn", attention


def as_policy(precision: Object) -> Policy | None:
    """The policy that `four_beats(..., precision=)` means; None for "float32", the model as it is written.

    Raises:
      ValueError: neither a policy nor one of the three names.
    """
    if isinstance(precision, Policy):
        return precision
    if precision not in ("float32", "bfloat16", "float16"):
        raise ValueError(
            f"precision is {precision!r}. Use 'float32', 'bfloat16', 'float16', or "
            "fb.precision.Policy(params=, compute=, output=)."
        )
    return None if precision == "float32" else Policy(compute=precision)


class _Casting:
    """Marks the class that a model has while it is computed under a policy."""

    __slots__ = ()


_casting_classes: weakref.WeakKeyDictionary[type, dict[Policy, type]] = weakref.WeakKeyDictionary()


def _casting(cls: type, policy: Policy) -> type:
    """A subclass of a module's class whose call casts what goes in and what comes out."""
    known = _casting_classes.setdefault(cls, {})
    if policy not in known:

        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            args, kwargs = jax.tree.map(lambda leaf: _as_float(leaf, policy.compute), (args, kwargs))
            out = cls.__call__(self, *args, **kwargs)
            return jax.tree.map(lambda leaf: _as_float(leaf, policy.output), out)

        members = {"__call__": call} if "__call__" in dir(cls) else {}
        known[policy] = type(cls)(cls.__name__, (cls, _Casting), {"__module__": cls.__module__, **members})
    return known[policy]


def _name_of(dtype: DTypeLike) -> str:
    try:
        return jnp.dtype(dtype).name
    except TypeError:  # the user's own attribute that happens to have this name
        return repr(dtype)


def _is_open(module: nnx.Module) -> bool:
    """Whether a layer was built without a dtype. Only Embed then takes the dtype of its parameters."""
    dtype = vars(module)["dtype"]
    return dtype is None or (isinstance(module, nnx.Embed) and dtype == module.param_dtype)


def _as_float(leaf: Object, dtype: str) -> Any:
    """A floating-point array in another dtype; anything else as it is."""
    is_float = hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)
    return jnp.asarray(leaf, dtype) if is_float else leaf


def _as_given(args: tuple, /, **_: Any) -> tuple:
    return args
