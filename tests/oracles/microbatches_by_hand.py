"""Gradients of weighted batches as a careful user writes them by hand: nothing of fourbeat in them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from tests.oracles.steps_by_hand import as_data


def accumulate_module(model, items, batch, num_microbatches):
    """Microbatches one after the other through one live NNX model. Returns (grads, rest, loss).

    The gradients of the summed weighted losses are summed, and divided by the summed weight at the end;
    a microbatch of no weight is left out.
    """
    model.train()

    @nnx.jit
    def loss_and_grads(model, microbatch, weight):
        return nnx.value_and_grad(lambda model: (items(model, microbatch)[0] * weight).sum())(model)

    size = len(batch["x"]) // num_microbatches
    grads, loss, total = None, 0.0, 0.0
    for start in range(0, len(batch["x"]), size):
        microbatch = {name: jnp.asarray(column[start : start + size]) for name, column in batch.items()}
        weight = weight_of(microbatch)
        if weight.sum() == 0:
            continue

        value, more = loss_and_grads(model, microbatch, weight)
        more = nnx.to_pure_dict(more)
        grads = more if grads is None else jax.tree.map(np.add, grads, more)
        loss, total = loss + value, total + weight.sum()
    _, _, rest = nnx.split(model, nnx.Param, ...)
    return jax.tree.map(lambda g: g / total, grads), as_data(nnx.to_pure_dict(rest)), loss / total


def accumulate_tree(params, items, batch):
    """The whole batch at once, for a dict of parameters. Returns (grads, loss); zeros for no weight."""
    weight = weight_of(batch)
    return _accumulate_tree(items, params, batch, weight, np.maximum(np.asarray(weight).sum(), 1e-30))


@partial(jax.jit, static_argnums=0)
def _accumulate_tree(items, params, batch, weight, total):
    def loss_fn(params):
        return (items(params, batch)[0] * weight).sum() / total

    loss, grads = jax.value_and_grad(loss_fn)(params)
    return grads, loss


def weight_of(batch):
    """A weight for each item of the loss, ones where there is no column."""
    shape = batch["label"].shape
    weight = jnp.asarray(batch.get("weight", np.ones(shape, np.float32)))
    return jnp.broadcast_to(weight.reshape(weight.shape + (1,) * (len(shape) - weight.ndim)), shape)
