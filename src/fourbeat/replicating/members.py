"""replicas: the four beats for several members at once."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from fourbeat.beats.assembling import Beats
from fourbeat.beats.bad_numbers import select
from fourbeat.beats.gradient import GradientOut
from fourbeat.beats.options import Options
from fourbeat.beats.state import TrainState
from fourbeat.data.batch import columns_of
from fourbeat.models.changes import in_structures
from fourbeat.replicating.convolutions import convolves
from fourbeat.replicating.forms import stacked
from fourbeat.replicating.member_metrics import MemberMetrics
from fourbeat.replicating.replicas_state import ReplicasState
from fourbeat.replicating.stepping import for_each
from fourbeat.replicating.varied import SEED, checked_over, made, warn_of_same_values, with_hyperparameter
from fourbeat.shard.laying_out import place
from fourbeat.shard.meshes import REPLICAS, checked_mesh
from fourbeat.shard.rules import Rules
from fourbeat.types import Aux, Batch, Logs, Model, Object, Params


class Replicas(NamedTuple):
    """The four beats for several members, as `Beats` has them for one. Made by `fourbeat.replicas`.

    Results have a leading axis of members: a loss of shape (n,), logs of shape (n,).

    Attributes:
      init: `(model, *, key=0, mesh=None, shard=None) -> state`, a `ReplicasState`. `model` is a function of
        the seed where seeds vary; else a model, or a function without arguments. With a mesh that has an axis
        `replicas`, the members are spread over it.
      loss: `(state, batch, **inputs) -> (loss, aux)`. Inputs are the same for all members.
      gradient: `(state, batch, **inputs) -> (grads, out)`, in the form in which the state holds its members.
      update: `(state, grads, out, **extra_args) -> (state, logs)`.
      train_step: `(state, batch, **inputs) -> (state, logs)`. The logs of a member that has stopped are NaN.
      eval_step: `(state, batch, metrics, *, key=None, carry=False, **inputs) -> metrics`, of
        `MemberMetrics`.
      predict_step: `(state, batch) -> outputs` of shape (batch, n, ...).
      options: what `four_beats` was asked for.
      beats: those of one member, for `state.member(i)`.
      over: the values of each member, by name.
    """

    init: Callable[..., ReplicasState]
    loss: Callable[..., tuple[jax.Array, Aux]]
    gradient: Callable[..., tuple[Any, Any]]
    update: Callable[..., tuple[ReplicasState, Logs]]
    train_step: Callable[..., tuple[ReplicasState, Logs]]
    eval_step: Callable[..., Any]
    predict_step: Callable[..., Any]
    options: Options
    beats: Beats
    over: dict[str, list]

    def __repr__(self) -> str:
        """The values that vary, and the beats of a member."""
        over = ", ".join(f"{name}={values}" for name, values in self.over.items())
        return f"Replicas({over or 'nothing varies'}; {self.beats!r})"


def replicas(
    beats: Beats,
    n: int,
    *,
    over: Mapping[str, Sequence[Any]] | None = None,
    vmapped: bool | None = None,
) -> Replicas:
    """Beats that train `n` members in one program, each as its run alone would be trained.

    All members get the same batches. Member `i` is the run `beats.init(make_model(seed), key=seed)` with its
    own seed and its own hyperparameters, on these batches. Members never meet: what one of them computes, NaN
    included, changes no bit of another.

    Args:
      beats: from `four_beats`.
      n: the number of members.
      over: what varies, by name, with one value a member. "seed" is given to the function that makes the
        model, and is the key of the state. Any other name is a hyperparameter of the optimizer, such as
        "learning_rate", made with `optax.inject_hyperparams`.
      vmapped: True vmaps the members in one step; False steps them one after the other in one program, where
        each computes what it computes alone, to the bit, and the program grows with `n`. By default they are
        vmapped, but for models with convolutions on a CPU, where that gains nothing and loses these bits.

    Returns:
      The beats of all members. `fourbeat.compile`, `evaluator`, `predictor` and `Checkpoints` take them and
      their state as those of one.

    Raises:
      TypeError: `beats` or `over` is something else.
      ValueError: `over` has not one value a member; or, in `init`, the optimizer has no such hyperparameter.

    >>> import optax, fourbeat as fb
    >>> beats = fb.four_beats(
    ...     lambda model, batch: (model["w"] - batch["x"]) ** 2,
    ...     optax.inject_hyperparams(optax.sgd)(learning_rate=0.1),
    ... )
    >>> sweep = replicas(beats, 3, over={"learning_rate": [0.0, 0.25, 0.5]})
    >>> state = sweep.init({"w": jnp.zeros(())})
    >>> state, logs = sweep.train_step(state, {"x": jnp.ones(4)})
    >>> state.params["w"].tolist(), logs["loss"].tolist()
    ([0.0, 0.5, 1.0], [1.0, 1.0, 1.0])
    """
    if not isinstance(beats, Beats):
        raise TypeError(f"beats is {beats!r:.80}; expected what fb.four_beats gives.")
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise ValueError(f"n is {n!r}; expected a number of members of at least 1.")
    if vmapped not in (None, True, False):
        raise ValueError(f"vmapped is {vmapped!r}. Use True, False or None.")
    varied = checked_over(over, n)
    beat_three, beat_four = partial(_gradient, beats), partial(_update, beats)

    def train_step(state: ReplicasState, batch: Batch, /, **inputs: Any) -> tuple[ReplicasState, Logs]:
        trained = partial(_trained, beats)
        return _advanced(state, _each(trained, state, [_running(state)], columns_of(batch), inputs))

    return Replicas(
        init=partial(_init, beats, n, varied, vmapped),
        loss=partial(_loss, beats),
        gradient=beat_three,
        update=beat_four,
        train_step=train_step,
        eval_step=partial(_eval_step, beats),
        predict_step=partial(_predict_step, beats),
        options=beats.options,
        beats=beats,
        over=varied,
    )


def _init(
    beats: Beats,
    n: int,
    over: dict[str, list],
    vmapped: bool | None,
    model: Model | Callable[..., Model],
    *,
    key: int | jax.Array | None = None,
    mesh: Mesh | None = None,
    shard: Rules | None = None,
) -> ReplicasState:
    seeds = over.get(SEED)
    if key is not None and seeds is not None:
        raise ValueError(
            f"key is {key!r}, and the seeds vary: the key of each member is its seed. Leave key out."
        )
    if mesh is None and shard is not None:
        raise ValueError(
            f"shard is {shard!r} and there is no mesh to split over. Pass mesh=fourbeat.mesh(...)."
        )
    mesh = None if mesh is None else checked_mesh(mesh)
    warn_of_same_values(model, seeds)
    states = []
    for each in range(n):
        own = made(model, seeds, each)
        if each == 0 and vmapped is None:
            platform = jax.default_backend() if mesh is None else mesh.devices.flat[0].platform
            vmapped = not (platform == "cpu" and convolves(own))
        state = beats.init(own, key=(0 if key is None else key) if seeds is None else seeds[each])
        opt_state = state.opt_state
        for name, values in over.items():
            opt_state = opt_state if name == SEED else with_hyperparameter(opt_state, name, values[each])
        states.append(dataclasses.replace(state, opt_state=opt_state))
        _check_alike(states)
        if mesh is not None:  # so that no device holds all of them
            states[-1] = jax.device_get(states[-1])
    is_stacked = vmapped or (mesh is not None and REPLICAS in mesh.shape)
    held = stacked(states) if is_stacked else tuple(states)
    state = ReplicasState(jnp.int32(0), jnp.ones(n, bool), held, bool(vmapped))
    return state if mesh is None else place(state, mesh, shard)


def _check_alike(states: list[TrainState]) -> None:
    first, last = states[0].static, states[-1].static
    if first is not last:
        raise ValueError(
            f"the model of member {len(states) - 1} is built otherwise than that of member 0: "
            f"{in_structures(first.structure, last.structure)}. Members may differ in the values of their "
            "arrays alone: hold what differs in an nnx.Variable, and keep no seed as an attribute."
        )


def _each(function: Callable[..., Any], state: ReplicasState, more: Sequence[Any], *shared: Any) -> Any:
    """`function(member, *more_of_it, *shared)` for each member of a state, in the form of its members."""
    _check_has_members(state)
    return for_each(function, (state.held, *more), shared, vmapped=state.vmapped)


def _check_has_members(state: Object) -> None:
    if not isinstance(state, ReplicasState):
        raise TypeError(
            f"state is {state!r:.80}; the beats of replicas take the state that their own init makes. For "
            "one member use the beats that replicas was given."
        )


def _running(state: ReplicasState) -> Any:
    _check_has_members(state)
    return state.going if state.is_stacked else tuple(state.going)


def _parts(state: ReplicasState, results: Any) -> tuple[Any, ...]:
    """A tuple of two or more things for each member as so many things in the form of the members."""
    return tuple(results) if state.is_stacked else tuple(zip(*results, strict=True))


def _with_axis(state: ReplicasState, results: Any) -> Any:
    return results if state.is_stacked else stacked(results)


def _loss(beats: Beats, state: ReplicasState, batch: Batch, /, **inputs: Any) -> tuple[jax.Array, Aux]:
    look = lambda member, batch, inputs: beats.loss(member, batch, **inputs)
    loss, aux = _parts(state, _each(look, state, [], columns_of(batch), inputs))
    return _with_axis(state, loss), _with_axis(state, aux)


def _gradient(beats: Beats, state: ReplicasState, batch: Batch, /, **inputs: Any) -> tuple[Any, Any]:
    differentiated = lambda member, batch, inputs: beats.gradient(member, batch, **inputs)
    grads, out = _parts(state, _each(differentiated, state, [], columns_of(batch), inputs))
    return grads, out


def _update(
    beats: Beats, state: ReplicasState, grads: Any, out: Any, **extra_args: Any
) -> tuple[ReplicasState, Logs]:
    def updated(
        member: TrainState, is_running: jax.Array, grads: Params, out: GradientOut, extra_args: dict[str, Any]
    ) -> tuple[TrainState, Logs]:
        return _kept(is_running, member, *beats.update(member, grads, out, **extra_args))

    return _advanced(state, _each(updated, state, [_running(state), grads, out], extra_args))


def _trained(
    beats: Beats, member: TrainState, is_running: jax.Array, batch: Batch, inputs: dict[str, Any]
) -> tuple[TrainState, Logs]:
    return _kept(is_running, member, *beats.train_step(member, batch, **inputs))


def _kept(
    is_running: jax.Array, before: TrainState, after: TrainState, logs: Logs
) -> tuple[TrainState, Logs]:
    """The member after its step, or as it was where it has stopped; then its logs are NaN."""
    names = [field.name for field in dataclasses.fields(before) if field.name not in ("static", "key_impl")]
    new, old = ({name: getattr(state, name) for name in names} for state in (after, before))
    state = dataclasses.replace(before, **select(is_running, new, old))
    return state, jax.tree.map(partial(_nan_unless, is_running), logs)


def _nan_unless(is_running: jax.Array, log: jax.Array) -> jax.Array:
    return jnp.where(is_running, log, jnp.nan) if jnp.issubdtype(log.dtype, jnp.inexact) else log


def _advanced(state: ReplicasState, results: Any) -> tuple[ReplicasState, Logs]:
    """The state one step on, and the logs with an axis of members."""
    held, logs = _parts(state, results)
    step = state.step + jnp.ones((), state.step.dtype)
    return dataclasses.replace(state, step=step, held=held), _with_axis(state, logs)


def _eval_step(
    beats: Beats,
    state: ReplicasState,
    batch: Batch,
    metrics: MemberMetrics,
    *,
    key: jax.Array | None = None,
    carry: bool = False,
    **inputs: Any,
) -> Any:
    def evaluated(
        member: TrainState, metrics: Any, batch: Batch, key: jax.Array | None, inputs: dict[str, Any]
    ) -> Any:
        return beats.eval_step(member, batch, metrics, key=key, carry=carry, **inputs)

    results = _each(evaluated, state, [metrics.held], columns_of(batch), key, inputs)
    if not carry:
        return MemberMetrics(results)
    held, after = _parts(state, results)
    return dataclasses.replace(state, held=held), MemberMetrics(after)


def _predict_step(beats: Beats, state: ReplicasState, batch: Batch, *, carry: bool = False) -> Any:
    def predicted(member: TrainState, batch: Batch) -> tuple[Any, TrainState | None]:
        outputs = beats.predict_step(member, batch, carry=carry)
        return outputs if carry else (outputs, None)

    outputs, after = _parts(state, _each(predicted, state, [], columns_of(batch)))
    outputs = jax.tree.map(_examples_first, _with_axis(state, outputs))
    return (outputs, dataclasses.replace(state, held=after)) if carry else outputs


def _examples_first(output: jax.Array) -> jax.Array:
    return jnp.moveaxis(output, 0, 1) if output.ndim > 1 else output
