"""Shares alone: each device's gradient of its own rows, which nothing sums over devices yet."""

import dataclasses
import warnings
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from fourbeat.beats.differentiation import differentiated
from fourbeat.beats.loss import Forward, LossFunction, forward
from fourbeat.beats.state import TrainState
from fourbeat.shard.row_independence import kinds_of_outputs
from fourbeat.shard.row_kinds import MEAN, WHOLE, Given, Kind, Rows, RowsInteractError
from fourbeat.shard.rows import axes_of_whole_states, mesh_in_trace
from fourbeat.types import Batch, Object, Params, Rest


class SharesAlone:
    """The gradients of a microbatch, one of each share of its rows.

    Args:
      loss_fn: whose rows are proven not to see each other.
      state: for its model and loss scale.
      mesh: with `Auto` axes.
      axes: of the mesh, over which rows are split and the whole state is on every device.
      proof: of `loss_fn`.
    """

    def __init__(
        self, loss_fn: LossFunction, state: TrainState, mesh: Mesh, axes: tuple[str, ...], proof: "_Proof"
    ):
        self._loss_fn = loss_fn
        self._state = state
        self._mesh = mesh
        self._axes = axes
        self._proof = proof
        self.num = num_shares(mesh, axes)

    def __call__(
        self, params: Params, rest: Rest, batch: Batch, *, key: jax.Array | None, share: jax.Array
    ) -> tuple[tuple[Params, jax.Array, jax.Array], Forward]:
        """The gradients of a microbatch, and what its forward pass gave.

        Args:
          params: what is differentiated.
          rest: the other variables.
          batch: columns of the microbatch.
          key: for a loss function that takes one.
          share: of shape (num,), what the mean loss of each share is multiplied by.

        Returns:
          `((grads, loss, weight), seen)`; the first three of each share, with a leading axis of shares, and
          grads and loss multiplied by it.
        """
        shares, whole = PartitionSpec(self._axes), PartitionSpec()
        columns = jax.tree.map(lambda column: shares if jnp.ndim(column) else whole, batch)
        items, item_weight, aux = jax.tree.map(self._spec, self._proof.kinds)
        run = jax.shard_map(
            self._of_one,
            mesh=jax.sharding.get_abstract_mesh() if _is_within_another() else self._mesh,
            in_specs=(whole, whole, columns, whole, whole, whole, shares),
            out_specs=(shares, shares, shares, items, item_weight, aux),
            axis_names=set(self._axes),
            check_vma=False,
        )
        others = (key, dict(self._loss_fn.inputs), self._state.loss_scale, share)
        grads, losses, weights, items, item_weight, aux = run(params, rest, batch, *others)
        total, is_mean = share.sum(), self._proof.is_mean
        loss = losses.sum() / jnp.where(total == 0, 1, total)
        items = jnp.broadcast_to(loss, items.shape) if is_mean else items
        seen = Forward(loss, weights.sum(), items, item_weight, aux, rest, {}, is_mean)
        return (grads, losses, weights), seen

    def summed(self, values: Object) -> Any:
        """Sums over shares: over the devices, once."""
        return jax.tree.map(lambda each: each.sum(0), values)

    def kept_apart(self, values: Object) -> Any:
        """Values for each share, on its devices: with a leading axis of shares."""

        def apart(each: jax.Array) -> jax.Array:
            rest = [PartitionSpec.UNCONSTRAINED] * each.ndim  # as the parameters are split over other axes
            over = NamedSharding(self._mesh, PartitionSpec(self._axes, *rest))
            return jax.lax.with_sharding_constraint(jnp.broadcast_to(each, (self.num, *each.shape)), over)

        return jax.tree.map(apart, values)

    def _of_one(
        self,
        params: Params,
        rest: Rest,
        batch: Batch,
        key: Object,
        inputs: dict[str, Any],
        loss_scale: Object,
        share: jax.Array,
    ) -> tuple:
        loss_fn, state = (
            _given(self._loss_fn, inputs),
            dataclasses.replace(self._state, loss_scale=loss_scale),
        )
        grads, seen = differentiated(loss_fn, state, params, rest, batch, key=key, share=share[0])
        lead = partial(jax.tree.map, lambda leaf: leaf[None])
        aux = seen.aux if self._proof.has_aux else None
        return lead(grads), share * seen.loss, lead(seen.weight), seen.items, seen.item_weight, aux

    def _spec(self, kind: Kind) -> PartitionSpec:
        if isinstance(kind, Rows):
            return PartitionSpec(*[None] * kind.axis, self._axes)
        return PartitionSpec()


class _Proof(NamedTuple):
    kinds: tuple  # of items, their weight, and aux
    is_mean: bool
    has_aux: bool


def num_shares(mesh: Mesh, axes: tuple[str, ...]) -> int:
    """Into how many shares rows are split over some axes."""
    num = 1
    for axis in axes:
        num *= mesh.shape[axis]
    return num


def shares_alone(
    loss_fn: LossFunction, state: TrainState, microbatch: Batch, key: jax.Array | None, *, needs_aux: bool
) -> SharesAlone | None:
    """How each device computes its gradient alone; None where that is of no use, or not proven the same.

    Args:
      loss_fn: the loss.
      state: before the step.
      microbatch: columns of the first one.
      key: for a loss function that takes one.
      needs_aux: whether anybody reads aux.
    """
    mesh, axes = mesh_in_trace(), axes_of_whole_states()
    if mesh is None or not axes:
        return None
    try:
        with warnings.catch_warnings():  # the step itself says those too
            warnings.simplefilter("ignore")
            proof = _proven(loss_fn, state, microbatch, key, needs_aux, num_shares(mesh, axes))
    except Exception:  # the step itself says what is wrong
        return None
    return SharesAlone(loss_fn, state, mesh, axes, proof)


def _proven(
    loss_fn: LossFunction,
    state: TrainState,
    microbatch: Batch,
    key: jax.Array | None,
    needs_aux: bool,
    num: int,
) -> _Proof:
    """Looks at the losses and at their derivatives along all parameters.

    A gradient is the transposed of such a derivative. So where each row's depends on that row alone, the
    gradients of all shares sum to that of the whole.
    """
    is_mean: list[bool] = []

    def look(
        params: Params, along: Params, rest: Rest, batch: Batch, key: Object, inputs: dict[str, Any]
    ) -> tuple:
        def seen_of(params: Params) -> tuple:
            how: dict[str, Any] = {"key": key, "train": True, "is_checked": True}
            seen = forward(_given(loss_fn, inputs), state.static, params, rest, batch, **how)
            if seen.written:
                raise RowsInteractError("the forward pass writes parameters")
            is_mean.append(seen.is_mean)
            losses = seen.loss if seen.is_mean else seen.items
            return losses, (seen.item_weight, seen.aux if needs_aux else None, seen.rest)

        losses, slopes, others = jax.jvp(seen_of, (params,), (along,), has_aux=True)
        return losses, slopes, *others

    given = (state.params, state.params, state.rest, microbatch, key, dict(loss_fn.inputs))
    shapes = jax.tree.map(_shape, given)
    of_share = jax.tree.map(lambda leaf: _share_of(leaf, num), shapes[3])
    losses, slopes, weight, aux, rest = kinds_of_outputs(look, shapes, (*shapes[:3], of_share, *shapes[4:]))
    num_before = len(jax.tree.leaves(shapes[:2]))
    if jax.tree.leaves(rest) != [Given(num_before + i) for i in range(len(jax.tree.leaves(shapes[2])))]:
        raise RowsInteractError("the forward pass writes")
    expected: Kind = MEAN if is_mean[0] else Rows(0)
    if not (losses == expected and slopes in (expected, WHOLE)):
        raise RowsInteractError("the loss is none of each row")
    if not all(isinstance(kind, Rows | Given) or kind is WHOLE for kind in jax.tree.leaves((weight, aux))):
        raise RowsInteractError("a value of aux is of several rows")
    return _Proof((Rows(0), weight, aux), is_mean[0], needs_aux)


def _is_within_another() -> bool:
    """Whether this is traced for a device's part already, as for members that are spread over a mesh."""
    return AxisType.Manual in jax.sharding.get_abstract_mesh().axis_types


def _given(loss_fn: LossFunction, inputs: dict[str, Any]) -> LossFunction:
    return loss_fn.given(inputs, "train_step(state, batch")


def _shape(leaf: jax.Array) -> jax.ShapeDtypeStruct:
    leaf = leaf if hasattr(leaf, "dtype") else jnp.asarray(leaf)
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)


def _share_of(leaf: jax.ShapeDtypeStruct, num: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((leaf.shape[0] // num, *leaf.shape[1:]), leaf.dtype) if leaf.shape else leaf
