"""TrainState: one pytree that holds all that training changes."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fourbeat.data.placement import place_over_mesh_like
from fourbeat.guard.guard_state import GuardState
from fourbeat.metrics import Metric
from fourbeat.metrics.host_scores import TRAINED, read_scores
from fourbeat.models.splitting import Static, read_in
from fourbeat.precision import LossScale
from fourbeat.trees.buffers import copied
from fourbeat.trees.donation import TAKEN, explaining_used_up, used_up
from fourbeat.trees.flat import FLAT, Flat, fields_of
from fourbeat.trees.keys import as_data, impl_of
from fourbeat.trees.rendering import opened
from fourbeat.types import Model, Object, OptState, Params, Rest

_DATA = (
    "numbers", "params", "rest", "opt_state", "metrics", "lr_scale", "ema", "loss_scale", "guard",
)  # fmt: skip
_IN_NUMBERS = ("step", "num_updates", "key")
_set = object.__setattr__  # a state is frozen


@dataclasses.dataclass(frozen=True, eq=False)
class TrainState:
    """All that training changes, as one pytree. Made by `beats.init`; passed from step to step.

    `step`, `num_updates` and `key` are one array, `numbers`: each leaf of a state costs time at every call.
    A state from a compiled step makes its other fields when you first read one: the next step needs the
    leaves alone.

    Attributes:
      step: int32 scalar, batches consumed: the place in the data. Advances on every train step.
      num_updates: int32 scalar, updates applied: `step` less the steps that a guard or loss scaling skipped,
        those on a batch of no weight, and those whose update the optimizer kept back (`optax.MultiSteps`,
        `optax.apply_every`, `optax.apply_if_finite`). A loop that moves `step` leaves it as it is.
      params: nested dict of arrays, what `wrt` selects.
      rest: nested dict of arrays: batch statistics, RNG keys and counts, custom variables.
      opt_state: the optax state.
      key: uint32 key data; the key of a step is `fold_in(key, step)`.
      metrics: accumulated metrics of the epoch so far, or None.
      lr_scale: float32 scalar that multiplies every update.
      ema: averaged parameters, in float32 at least, or None.
      loss_scale: a `fourbeat.precision.LossScale`, or None.
      guard: a `fourbeat.guard.GuardState`, what a guard has seen; or None.
      numbers: int32, of `step`, `num_updates` and the bits of `key`.
      static: the model's structure and constants.
      key_impl: the PRNG implementation of `key`.
    """

    numbers: jax.Array
    params: Params
    rest: Rest
    opt_state: OptState
    metrics: Metric | None
    lr_scale: jax.Array
    # by a factory, so that the class has no value to give where a state is used up
    ema: Params | None = dataclasses.field(default_factory=lambda: None)
    loss_scale: LossScale | None = dataclasses.field(default_factory=lambda: None)
    guard: GuardState | None = dataclasses.field(default_factory=lambda: None)
    static: Static = dataclasses.field(kw_only=True)
    key_impl: str = dataclasses.field(kw_only=True, default_factory=lambda: "threefry2x32")

    if not TYPE_CHECKING:  # to a type checker a name that is no field stays unknown

        def __getattr__(self, name: str) -> Object:  # a field is missing where a step gave or took the state
            if name not in _FIELDS:
                raise AttributeError(f"'TrainState' object has no attribute {name!r}")
            held = vars(self)
            if FLAT in held and name == "numbers":
                return held[FLAT].leaves[0]
            if FLAT in held:
                _set(self, "__dict__", held := fields_of(held))
            if name not in held:
                raise used_up(self, "state.step")
            return held[name]

    @property
    @explaining_used_up
    def step(self) -> jax.Array:
        """Batches consumed, int32 scalar."""
        return _read(_step, self.numbers)

    @property
    @explaining_used_up
    def num_updates(self) -> jax.Array:
        """Updates applied, int32 scalar."""
        return _read(_num_updates, self.numbers)

    @property
    @explaining_used_up
    def key(self) -> jax.Array:
        """Key data, uint32 (2,) for threefry."""
        return _read(_key, self.numbers)

    @property
    @explaining_used_up
    def model(self) -> Model:
        """A live model holding copies of these parameters, in evaluation mode."""
        return self.static.merge(*copied((self.params, self.rest)))

    @property
    @explaining_used_up
    def ema_model(self) -> Model:
        """A live model holding copies of the averaged parameters, each in its parameter's dtype.

        Its other variables, such as batch statistics, are not averaged: they are the latest.

        Raises:
          ValueError: nothing is averaged.
        """
        if self.ema is None:
            raise ValueError("this state has no averaged parameters. Pass four_beats(..., ema=0.999).")
        params = jax.tree.map(lambda average, param: average.astype(param.dtype), self.ema, self.params)
        return self.static.merge(*copied((params, self.rest)))

    @explaining_used_up
    def step_key(self) -> jax.Array:
        """The typed PRNG key of the step to come."""
        return jax.random.fold_in(jax.random.wrap_key_data(self.key, impl=self.key_impl), self.step)

    @explaining_used_up
    def replace(self, **changes: Any) -> Self:
        """A copy of this state with some fields changed; each leaf keeps its dtype, and its place on a mesh.

        Nothing is shared with this state or with what is given, so a donated step may take the one while
        the other is held: `best_state = state.replace()` keeps a state.

        Args:
          changes: fields by name. A field that holds arrays takes a tree of the same structure and
            shapes; Python numbers will do for scalars. `model`, a model built the same way, stands for
            `params` and `rest`: `state.replace(model=state.model)` is `state.replace()`.

        Raises:
          TypeError: no such field.
          ValueError: another structure or shape; the text names the path. A model and its parts at once.

        >>> import fourbeat as fb, optax
        >>> beats = fb.four_beats(lambda model, batch: model["w"] * batch["x"], optax.sgd(0.1))
        >>> state = beats.init({"w": jnp.ones(())})
        >>> state.replace(lr_scale=0.5).lr_scale
        Array(0.5, dtype=float32)
        """
        for name in changes:
            if name not in [*_NAMES, "model"]:
                raise TypeError(f"TrainState has no field {name!r}. Its fields: {', '.join(_NAMES)}.")
        if "model" in changes:
            changes |= self._parts_of(changes)
            del changes["model"]
        impl = impl_of(changes.get("key"))
        if impl not in (None, self.key_impl):
            raise ValueError(
                f"cannot replace key: it is a key of {impl} and this state's are of {self.key_impl}. Start "
                "from beats.init(model, key=...)."
            )
        data = {
            name: _like(name, getattr(self, name), as_data(value) if name == "opt_state" else value)
            if name not in ("static", "key_impl")
            else value
            for name, value in changes.items()
        }
        if not data.keys().isdisjoint(_IN_NUMBERS):
            parts = [data.pop(name, getattr(self, name)) for name in _IN_NUMBERS]
            data["numbers"] = packed(*parts)
        return copied(dataclasses.replace(self, **data))

    def _parts_of(self, changes: dict[str, Any]) -> dict[str, Any]:
        if also := sorted(changes.keys() & {"params", "rest", "static"}):
            raise ValueError(
                f"cannot replace model and {' and '.join(also)} at once: the model holds them. Give one or "
                "the other."
            )
        try:
            params, rest = read_in(self.static, changes["model"], self.params, self.rest)
        except ValueError as error:
            raise ValueError(f"cannot replace model: {error}") from None
        return {"params": params, "rest": rest}

    @explaining_used_up
    def pop_metrics(self) -> tuple[dict, Self]:
        """The metrics since the last call, and a state that starts them anew.

        Returns:
          `(values, state)`. The values are Python floats by name, or NumPy arrays where a metric has
          many; empty without metrics. This waits for the device.

        Warns:
          NothingSeenWarning: a metric has seen no example of a weight above 0: its score is NaN.
          CapacityWarning: a metric has seen more examples than it keeps: its score is NaN.
        """
        if self.metrics is None:
            return {}, self
        empty = place_over_mesh_like(self.metrics.reset(), self.metrics)
        values = read_scores(self.metrics, TRAINED, stacklevel=3)  # beside this one, of its decorator
        return values, dataclasses.replace(self, metrics=empty)

    def __getstate__(self) -> dict[str, Any]:
        return fields_of(vars(self))

    def __repr__(self) -> str:
        fields = fields_of(vars(self).get(TAKEN, vars(self)))
        sizes = [leaf.size for leaf in jax.tree.leaves(fields["params"])]
        used = [n for n in ("metrics", "ema", "loss_scale", "guard") if fields[n] is not None]
        return (
            f"TrainState(step={_shown(fields['numbers'])}, {sum(sizes):,} parameters in {len(sizes)} arrays"
            + (f", with {', '.join(used)}" if used else "")
            + ")"
        )

    def __treescope_repr__(self, path: str | None, subtree_renderer: Object) -> Any:
        fields = fields_of(vars(self).get(TAKEN, vars(self)))
        used = {name: fields[name] for name in _DATA if fields[name] is not None}
        numbers = used["numbers"]
        if isinstance(numbers, jax.Array) and not numbers.is_deleted():
            del used["numbers"]
            used = {
                "step": _step(numbers),
                "num_updates": _num_updates(numbers),
                "key": _key(numbers),
                **used,
            }
        about = repr(self).removeprefix("TrainState(").removesuffix(")")
        return opened(self, used, path, subtree_renderer, about)


jax.tree_util.register_dataclass(TrainState, data_fields=_DATA, meta_fields=("static", "key_impl"))
_FIELDS = frozenset(field.name for field in dataclasses.fields(TrainState))
_NAMES = (*_IN_NUMBERS, *(field.name for field in dataclasses.fields(TrainState) if field.name != "numbers"))


def flat_of(state: TrainState) -> Flat:
    """The leaves of a state, as a compiled step takes them: those that a step gave, if no field was read."""
    flat = vars(state).get(FLAT)
    return Flat.of(state) if flat is None else flat


def state_of(flat: Flat) -> TrainState:
    """The state of these leaves. It makes its fields when one of them is read."""
    state = object.__new__(TrainState)
    _set(state, "__dict__", {FLAT: flat})
    return state


@partial(jax.jit, inline=True)
def packed(step: jax.Array, num_updates: jax.Array, key: jax.Array) -> jax.Array:
    """The `numbers` of a state.

    >>> packed(jnp.int32(3), jnp.int32(2), jnp.array([0, 7], jnp.uint32))
    Array([3, 2, 0, 7], dtype=int32)
    """
    counts = jnp.stack([step, num_updates], axis=-1).astype(jnp.int32)
    return jnp.concatenate([counts, lax.bitcast_convert_type(key, jnp.int32)], axis=-1)


@partial(jax.jit, inline=True)
def _step(numbers: jax.Array) -> jax.Array:
    return numbers[..., 0]


@partial(jax.jit, inline=True)
def _num_updates(numbers: jax.Array) -> jax.Array:
    return numbers[..., 1]


@partial(jax.jit, inline=True)
def _key(numbers: jax.Array) -> jax.Array:
    return lax.bitcast_convert_type(numbers[..., 2:], jnp.uint32)


def advanced(numbers: jax.Array, is_applied: jax.Array | None) -> jax.Array:
    """The `numbers` after one more step; `is_applied` is None if every update is applied.

    >>> advanced(jnp.array([3, 2, 0, 7]), jnp.bool_(False)).tolist()
    [4, 2, 0, 7]
    """
    place = np.arange(numbers.shape[-1])
    applied, skipped = (jnp.asarray(place < count, numbers.dtype) for count in (2, 1))
    return numbers + (applied if is_applied is None else jnp.where(is_applied, applied, skipped))


def _read(part: Callable[[jax.Array], jax.Array], numbers: jax.Array) -> Any:
    if isinstance(numbers, jax.ShapeDtypeStruct):
        return jax.eval_shape(part, numbers)
    return np.asarray(part(numbers)) if isinstance(numbers, np.ndarray) else part(numbers)


def _shown(numbers: Object) -> Any:
    if isinstance(numbers, jax.Array):
        return "donated" if numbers.is_deleted() else _step(numbers)
    return numbers


def _like(name: str, old: Object, new: Object) -> Any:
    """`new` with the dtypes of `old`, after a check that they have one structure."""
    if old is None or new is None:
        return new
    try:
        return jax.tree_util.tree_map_with_path(lambda path, o, n: _leaf_like(name, path, o, n), old, new)
    except ValueError as error:
        if str(error).startswith("cannot replace"):
            raise
        raise ValueError(f"cannot replace {name}: the new tree has another structure. {error}") from None


def _leaf_like(name: str, path: tuple, old: Object, new: Object) -> jax.Array:
    if impl_of(new) is not None and impl_of(old) is None:
        new = jax.random.key_data(new)
    array = jnp.asarray(new, dtype=old.dtype)
    if array.shape != old.shape:
        raise ValueError(
            f"cannot replace {name}{jax.tree_util.keystr(path)} of shape {old.shape} with an array of "
            f"shape {array.shape}. Give one of the same shape, or start from beats.init."
        )
    return place_over_mesh_like(array, old)
