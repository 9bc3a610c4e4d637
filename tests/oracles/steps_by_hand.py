"""Training loops as a user writes them today, for any kind of model: nothing of fourbeat in them.

They give the norm of the gradients beside the loss, as fourbeat's logs do. Without a second reader of the
gradient XLA may fuse its last operation with the optimizer's first (a scatter-add of an embedding with the
decay of the momentum, say), and that is another program with other roundings.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx


def train_module(model, items, tx, batches, *, wrt=nnx.Param):
    """The NNX loop: `nnx.jit`, `nnx.value_and_grad`, `nnx.Optimizer`. Returns (params, rest, losses)."""
    model.train()
    optimizer = nnx.Optimizer(model, tx, wrt=wrt)

    @nnx.jit
    def step(model, optimizer, batch):
        def loss_fn(model):
            return items(model, batch)[0].mean()

        loss, grads = nnx.value_and_grad(loss_fn, argnums=nnx.DiffState(0, wrt))(model)
        norm = optax.tree.norm(grads)
        optimizer.update(model, grads, **extra_args(tx, loss))
        return loss, norm

    losses = [step(model, optimizer, jax.tree.map(jnp.asarray, batch))[0] for batch in batches]
    _, params, rest = nnx.split(model, wrt, ...)
    return nnx.to_pure_dict(params), as_data(nnx.to_pure_dict(rest)), losses


def train_tree(params, items, tx, batches):
    """The plain JAX loop over a dict of parameters."""
    opt_state = tx.init(params)

    @jax.jit
    def step(params, opt_state, batch):
        loss, grads = jax.value_and_grad(lambda p: items(p, batch)[0].mean())(params)
        norm = optax.tree.norm(grads)
        updates, opt_state = tx.update(grads, opt_state, params, **extra_args(tx, loss))
        return optax.apply_updates(params, updates), opt_state, loss, norm

    losses = []
    for batch in batches:
        params, opt_state, loss, _ = step(params, opt_state, batch)
        losses.append(loss)
    return params, {}, losses


def extra_args(tx, loss):
    """What a transformation with extra arguments is given."""
    return {"value": loss} if isinstance(tx, optax.GradientTransformationExtraArgs) else {}


def as_data(tree):
    """PRNG keys as their uint32 data."""
    return jax.tree.map(
        lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x, tree
    )


def accuracy(items, model, batches):
    """Share of right answers over batches, counted in NumPy one batch at a time; and the mean loss."""
    right, total, loss_sum = 0, 0, 0.0
    for batch in batches:
        loss, logits = items(model, batch)
        right += int((np.asarray(logits).argmax(-1) == batch["label"]).sum())
        total += batch["label"].size
        loss_sum += float(np.asarray(loss, np.float64).sum())
    return right / total, loss_sum / total
