"""The four beats of a training step, as pure functions over one explicit state."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from fourbeat.beats.differentiation import without_masked_numbers
from fourbeat.beats.ema import initial_ema
from fourbeat.beats.error_notes import adding_notes
from fourbeat.beats.evaluation import eval_step, predict_step
from fourbeat.beats.gradient import GradientOut, gradient
from fourbeat.beats.loss import LossFunction, forward
from fourbeat.beats.optimizer import held
from fourbeat.beats.options import Options, checked
from fourbeat.beats.state import TrainState, packed
from fourbeat.beats.update import update
from fourbeat.data.batch import columns_of
from fourbeat.guard import Skip
from fourbeat.metrics import Metric
from fourbeat.models.constructors import is_constructor
from fourbeat.models.splitting import Wrt, split
from fourbeat.precision import LossScale, Policy
from fourbeat.shard.creating import created
from fourbeat.shard.laying_out import place
from fourbeat.shard.meshes import checked_mesh
from fourbeat.shard.rules import Rules, checked_rules
from fourbeat.trees.buffers import copied
from fourbeat.trees.keys import impl_of
from fourbeat.trees.rendering import one_line
from fourbeat.types import Aux, Batch, Logs, LossFn, Model, Object, Params, Rest


class Beats(NamedTuple):
    """The parts of a training step. Each is pure: compile it, nest it, or call it as it is.

    Attributes:
      init: `(model, *, key=0, mesh=None, shard=None) -> state`; `key` is an int or a PRNG key. The model is
        copied; a function without arguments makes it. With a mesh the state lies on its devices, each
        parameter as the rules `shard` say (see `fourbeat.shard`); what a function makes is never whole on
        one of them.
      loss: `(state, batch, **inputs) -> (loss, aux)`, beats one and two, to look at; train mode.
      gradient: `(state, batch, **inputs) -> (grads, out)`, beats one to three; nothing is applied yet.
      update: `(state, grads, out, **extra_args) -> (state, logs)`, beat four. Extra arguments go to
        the optax transformation, beside `value` (the loss) and `grad`.
      train_step: `(state, batch, **inputs) -> (state, logs)`: `update(state, *gradient(state, batch,
        **inputs))`. Inputs reach the loss function by name, whole: each microbatch, device and step of a
        block has the same. They are arrays, or pytrees of them, get no gradient and are only read.
      eval_step: `(state, batch, metrics, *, key=None, carry=False, **inputs) -> metrics`, in eval mode; with
        `carry` `(state, metrics)`, where the state holds what the forward pass wrote.
      predict_step: `(state, batch) -> outputs` of `predict(model, batch)`, in eval mode; with `carry=True`
        `(outputs, state)`.
      options: what `four_beats` was asked for.
    """

    init: Callable[..., TrainState]
    loss: Callable[..., tuple[jax.Array, Aux]]
    gradient: Callable[..., tuple[Params, GradientOut]]
    update: Callable[..., tuple[TrainState, Logs]]
    train_step: Callable[..., tuple[TrainState, Logs]]
    eval_step: Callable[..., Any]
    predict_step: Callable[..., Any]
    options: Options

    def given(self, **inputs: Any) -> Self:
        """The same beats, whose loss function has these inputs in every call.

        Inputs that a call gives go before them. A compiled function holds these as constants, so give what
        changes to each step. Functions that take beats, such as `fourbeat.sanity.check`, need no more:

        >>> loss_fn = lambda model, batch, temperature: model["w"] * batch["x"] / temperature
        >>> beats = four_beats(loss_fn, optax.sgd(0.1)).given(temperature=2.0)
        >>> loss, aux = beats.loss(beats.init({"w": jnp.ones(())}), {"x": jnp.ones(4)})
        >>> float(loss)
        0.5
        """
        names = ("loss", "gradient", "train_step", "eval_step")
        return self._replace(**{name: partial(getattr(self, name), **inputs) for name in names})

    def __repr__(self) -> str:
        """Its functions by name, and what was asked for beside the defaults."""
        functions = ", ".join(self._fields[:-1])
        asked = [
            f"{name}={getattr(value, '__name__', None) or repr(value)}"
            for name, value in self.options._asdict().items()
            if value != Options._field_defaults[name]
        ]
        return f"Beats({'; '.join([functions, *asked])})"

    def __treescope_repr__(self, path: str | None, subtree_renderer: Object) -> Any:
        return one_line(repr(self), path)


def four_beats(
    loss_fn: LossFn,
    tx: optax.GradientTransformation,
    *,
    wrt: Wrt = None,
    metrics: Metric | None = None,
    predict: Callable | None = None,
    accumulate: int = 1,
    rolled: bool | None = None,
    precision: str | Policy = "float32",
    guard: Skip | None = None,
    ema: float | None = None,
    schedule: Callable | None = None,
    logs: Sequence[str] | None = None,
) -> Beats:
    """Forward, loss, gradient, update: the four beats of a training step, each a pure function.

    Args:
      loss_fn: `loss_fn(model, batch)`, or `loss_fn(model, batch, key)` where it has a parameter named
        `key` (None in evaluation). Returns `loss` or `(loss, aux)`. A loss of one value an example,
        `(batch,)`, or a token is reduced by the weight contract: `sum(loss * weight) / sum(weight)`
        with `batch["weight"]`, or its mean without. `aux`, a dict, feeds the metrics. Further parameters
        are inputs, given by name to each step: `loss_fn(model, batch, *, critic, temperature=1.0)` and
        `train_step(state, batch, critic=critic.params)`. One with a default may be left out.
      tx: any optax transformation.
      wrt: what is trained: an nnx filter for NNX modules (default `nnx.Param`), `wrt(path, leaf)` for
        other pytrees (default: floating-point arrays but those of an `equinox.nn.State`); or a tree of
        booleans like the model. The rest gets no gradient and no optimizer state.
      metrics: a `fourbeat.metrics.Collection` or metric, fed with the loss, aux, the batch's columns
        and its weight.
      predict: `predict(model, batch)` for `predict_step`; needs no labels.
      accumulate: a step runs its batch in so many microbatches of consecutive examples, in the memory of one;
        over a mesh, of consecutive examples of each device's share.
        It is one update, with the gradient of the whole batch's weighted mean; batch statistics, random
        state and metrics go from each to the next, whose key is `fold_in(step_key, i)`.
      rolled: whether the microbatches run in a rolled loop, compiled once for all, or one after the other in
        the program. By default it is rolled, but for convolutions on CPU, which XLA makes slow in loops.
      precision: "float32" runs the model as it is written; "bfloat16" and "float16" compute its layers in
        half precision from float32 parameters, in evaluation too; or a `fourbeat.precision.Policy`, which
        says what is float32 in any case, and what a model that is no NNX module does. float16 scales the
        loss dynamically (`state.loss_scale`) and skips a step that overflows.
      guard: `fourbeat.guard.skip()` skips steps with bad numbers; None applies every step.
      ema: decay of a debiased, warmed-up average of the parameters, kept in `state.ema` in float32 and
        read as `state.ema_model`: `evaluate(state.replace(params=state.ema), batches)`. The n-th update,
        from 0, moves it by the larger of `(1 - ema) / (1 - ema**(n + 1))` and `9 / (10 + n)` of the way.
      schedule: the learning rate by count of applied updates, the function that the optimizer was given: for
        `logs["learning_rate"]` alone. `optax.inject_hyperparams` needs none.
      logs: the names that the logs of a step hold, such as `("loss", "grad_norm", "kl")`; None for all of the
        step's own, which are `loss`, `grad_norm`, `weight`, and where there is one `learning_rate`; under a
        guard `finite` and `update_norm`, in float16 `loss_scale`. Any other name is one of aux: an array of
        one value an example (or a token) is reduced as the loss is, over microbatches and devices too; a
        scalar is logged as it is, over microbatches by their shares of the weight. A step does not compute a
        number that is not logged and that no guard and no loss scale needs. The gradient norm is a pass over
        all gradients, and each number takes a little time at every call.

    Returns:
      The beats.

    Raises:
      TypeError: `loss_fn` is not a function or `tx` not an optax transformation.
      ValueError: an option is out of range; or, in a step, `accumulate` does not divide the batch, or
        neither the step nor aux has a name of `logs`.

    >>> def loss_fn(model, batch):
    ...     return (model["w"] * batch["x"] - batch["y"]) ** 2  # one value an example
    >>> beats = four_beats(loss_fn, optax.sgd(0.1))
    >>> state = beats.init({"w": jnp.zeros(())})
    >>> state, logs = beats.train_step(state, {"x": jnp.ones(4), "y": jnp.ones(4)})
    >>> float(logs["loss"]), round(float(state.params["w"]), 3)
    (1.0, 0.2)
    """
    tx = held(tx)
    options = checked(
        accumulate=accumulate, rolled=rolled, precision=precision, guard=guard, ema=ema, schedule=schedule,
        logs=logs,
    )  # fmt: skip
    loss_function = LossFunction(loss_fn, options.precision)
    beat_three = partial(gradient, loss_function, options, True)
    without_aux = partial(gradient, loss_function, options, False)
    beat_four = partial(update, tx, options)

    def train_step(state: TrainState, batch: Batch, /, **inputs: Any) -> tuple[TrainState, Logs]:
        return beat_four(state, *without_aux(state, batch, **inputs))

    return Beats(
        init=partial(_init, jax.jit(partial(_start, tx, options)), options, wrt, metrics),
        loss=partial(_loss, loss_function),
        gradient=beat_three,
        update=beat_four,
        train_step=train_step,
        eval_step=partial(eval_step, loss_function),
        predict_step=partial(predict_step, predict, options.precision),
        options=options,
    )


def _init(
    start: Callable[..., dict[str, Any]],
    options: Options,
    wrt: Wrt,
    metrics: Metric | None,
    model: Model | Callable[[], Model],
    *,
    key: int | jax.Array = 0,
    mesh: Mesh | None = None,
    shard: Rules | None = None,
) -> TrainState:
    if mesh is None and shard is not None:
        raise ValueError(
            f"shard is {shard!r} and there is no mesh to split over. Pass mesh=fourbeat.mesh(...)."
        )
    made_of = partial(_made, start, options, wrt, metrics, key)
    if mesh is None:
        return made_of(model() if is_constructor(model) else model)
    rules = checked_rules(shard)
    if not is_constructor(model):
        return place(made_of(model), mesh, rules)
    return created(model, made_of, checked_mesh(mesh), rules)


def _made(
    start: Callable[..., dict[str, Any]],
    options: Options,
    wrt: Wrt,
    metrics: Metric | None,
    key: int | jax.Array,
    model: Model,
) -> TrainState:
    static, params, rest = split(model, wrt)
    if options.precision is not None:
        options.precision.warn_where_idle(model)
    key = jax.random.key(key) if isinstance(key, int) else jnp.asarray(key)
    key_impl = impl_of(key)
    key = key if key_impl is None else jax.random.key_data(key)
    return TrainState(
        **start(params, rest, key),
        metrics=None if metrics is None else metrics.reset(),
        static=static,
        key_impl=key_impl or "threefry2x32",
    )


def _start(
    tx: optax.GradientTransformation, options: Options, params: Params, rest: Rest, key: jax.Array
) -> dict[str, Any]:
    """The arrays of a new state, each in a buffer of its own."""
    if options.precision is not None:
        params = options.precision.master(params)
    return copied(
        {
            "numbers": packed(jnp.int32(0), jnp.int32(0), key),
            "params": params,
            "rest": rest,
            "opt_state": tx.init(params),
            "lr_scale": jnp.ones((), jnp.float32),
            "ema": None if options.ema is None else initial_ema(params),
            "loss_scale": LossScale.start() if options.scales_loss else None,
            "guard": None if options.guard is None else options.guard.init(),
        }
    )


def _loss(loss_fn: LossFunction, state: TrainState, batch: Batch, /, **inputs: Any) -> tuple[jax.Array, Aux]:
    batch = columns_of(batch)
    loss_fn = loss_fn.given(inputs, "beats.loss(state, batch")
    with adding_notes("beat two, the loss", state, batch):
        key = state.step_key() if loss_fn.takes_key else None
        held = jax.lax.stop_gradient(state.params)
        batch = without_masked_numbers(loss_fn, state, held, state.rest, batch, key)
        look = lambda params: forward(loss_fn, state.static, params, state.rest, batch, key=key, train=True)
        seen = loss_fn.with_wide_sums(look)(state.params)
    return seen.loss, seen.aux
