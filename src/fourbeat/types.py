"""The types that recur in signatures, each with one name and one meaning. This needs no JAX."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import jax

Object: TypeAlias = Any
"""Any Python object, such as one of the user's that is looked at, or a value that is yet to be checked."""

Tree: TypeAlias = Any
"""Any pytree of arrays."""

Scalar: TypeAlias = Any
"""A single number: of Python, of NumPy, or an array of shape () on the device, traced or not."""

Model: TypeAlias = Any
"""An NNX module, a pytree of modules, or any other pytree."""

Params: TypeAlias = dict[Any, Any]
"""What is trained, or a tree like it (gradients, an average): nested dicts of arrays by path."""

Rest: TypeAlias = dict[Any, Any]
"""The model's other variables, such as batch statistics and random state: nested dicts of arrays by path."""

OptState: TypeAlias = Any
"""The optimizer's state, a pytree that optax gives."""

Batch: TypeAlias = Any
"""A batch of examples: a `fourbeat.data.Batch`, a dict of columns, or another pytree of arrays. Each array
has one leading axis, that of the examples."""

BatchSource: TypeAlias = Any
"""Many batches: a `fourbeat.data.Batches`, a list, or anything that gives batches one after another."""

State: TypeAlias = Any
"""What a step takes and gives: a `fourbeat.TrainState`, or any other pytree of arrays."""

Device: TypeAlias = Any
"""A `jax.Device`, which is a variable to type checkers."""

Config: TypeAlias = Any
"""The flags of a recipe, a dataclass."""

Figure: TypeAlias = Any
"""A matplotlib figure."""

Aux: TypeAlias = Any
"""What a loss function returns beside the loss: a dict of values for the metrics, or None."""

Logs: TypeAlias = dict[str, "jax.Array"]
"""What a step has to log: scalars on the device, by name."""

LossFn: TypeAlias = Callable[..., Any]
"""`loss_fn(model, batch)`, or `loss_fn(model, batch, key)`, that returns `loss` or `(loss, aux)`."""

StepFunction: TypeAlias = Callable[..., tuple[Any, Any]]
"""A pure function `(state, *args) -> (state, out)`, such as `beats.train_step` or `as_step(F.method)`.

The state may be any pytree; the one that comes out has the structure, shapes and dtypes of the one given.
"""

Args: TypeAlias = tuple[Any, ...]
"""The positional arguments of a function of the user's."""

Keywords: TypeAlias = Mapping[str, Any]
"""The keyword arguments of a function of the user's."""
