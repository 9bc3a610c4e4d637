"""Whether rows of a batch see each other: losses of a linear layer in which they do, and in which not."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax import lax

from fourbeat.shard.row_independence import kinds_of_outputs
from fourbeat.shard.row_kinds import MEAN, SUM, Rows, RowsInteractError

cross_entropy = optax.softmax_cross_entropy_with_integer_labels


def out(model, batch):
    return batch["x"] @ model["w"] + model["b"]


@jax.custom_vjp
def with_mean_gradient(x):
    return 2 * x


with_mean_gradient.defvjp(lambda x: (2 * x, None), lambda _, g: (g - g.mean(0),))


@jax.custom_jvp
def with_mean_slope(x):
    return 2 * x


with_mean_slope.defjvp(lambda x, t: (2 * x[0], t[0] - t[0].mean(0)))


def attention(x, axis_of_rows):
    x = jnp.expand_dims(x, axis_of_rows)
    x = x[..., None] if axis_of_rows else x[:, :, None]
    return jax.nn.dot_product_attention(x, x, x, is_causal=True)


def kinds_of(loss, num_rows=16, num_of_share=4):
    """The kinds of the losses and of their slopes along the parameters."""
    rows = lambda num: {
        "x": jax.ShapeDtypeStruct((num, 6), "float32"),
        "y": jax.ShapeDtypeStruct((num,), "int32"),
    }
    model = {"w": (6, 5), "b": (5,), "v": (16,)}
    model = {name: jax.ShapeDtypeStruct(shape, "float32") for name, shape in model.items()}
    look = lambda model, along, batch: jax.jvp(lambda model: loss(model, batch), (model,), (along,))
    return kinds_of_outputs(look, (model, model, rows(num_rows)), (model, model, rows(num_of_share)))


ALONE = {
    "a layer and a penalty": lambda m, b: out(m, b).sum(1) + 0.1 * (m["w"] ** 2).sum(),
    "cross entropy": lambda m, b: cross_entropy(out(m, b), b["y"]),
    "one-hot labels": lambda m, b: optax.softmax_cross_entropy(out(m, b), jax.nn.one_hot(b["y"], 5)),
    "activations": lambda m, b: (jax.nn.relu(out(m, b)) + jax.nn.gelu(out(m, b))).sum(1),
    "a vmapped function": lambda m, b: jax.vmap(lambda x, y: jnp.tanh(x @ m["w"])[y])(b["x"], b["y"]),
    "an embedding": lambda m, b: jnp.take(m["w"], b["y"], axis=0).sum(1),
    "features sorted, summed up, turned": lambda m, b: (
        jnp.sort(b["x"], 1)[:, 0] * m["b"][0] + jnp.flip(jnp.cumsum(out(m, b), 1), 1)[:, 0]
    ),
    "features normed": lambda m, b: (out(m, b) - out(m, b).mean(1, keepdims=True)).var(1),
    "recomputed": lambda m, b: jax.checkpoint(lambda m, x: jnp.sin(x @ m["w"]))(m, b["x"]).sum(1),
    "a scan over features": lambda m, b: lax.scan(
        lambda carry, x: (jnp.tanh(carry + x[:, None]), None), jnp.zeros((len(b["y"]), 5)) + m["b"], b["x"].T
    )[0].sum(1),
    "a condition on a parameter": lambda m, b: lax.cond(m["b"][0] > 0, jnp.sin, lambda x: x, out(m, b)).sum(
        1
    ),
    "tokens beside their row": lambda m, b: (
        (b["x"].reshape(-1, 3) @ m["w"][:3]).reshape(-1, 2, 5).mean((1, 2))
    ),
    "attention in a row": lambda m, b: attention(out(m, b), 2).sum((1, 2, 3)),
    "a pool of features": lambda m, b: nnx.max_pool(out(m, b)[..., None], (2,), (2,)).sum((1, 2)),
    "a convolution of features": lambda m, b: lax.conv_general_dilated(
        b["x"][..., None], m["w"][:3, None], (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC")
    ).sum((1, 2)),
    "transposed": lambda m, b: jnp.concatenate([out(m, b).T, jnp.pad(b["x"], ((0, 0), (1, 2))).T]).sum(0),
}
BY_MEANS = {
    "a mean": lambda m, b: cross_entropy(out(m, b), b["y"]).mean(),
    "a sum divided": lambda m, b: 0.5 * (out(m, b) ** 2).sum() / len(b["y"]),
    "means and a penalty": lambda m, b: (out(m, b).mean() - 2 * (b["x"] @ m["w"]).mean()) / 3 + m["w"].sum(),
}
TOGETHER = {
    "less the mean": lambda m, b: (out(m, b) - out(m, b).mean(0)).sum(1),
    "less a mean without gradient": lambda m, b: out(m, b).sum(1) - lax.stop_gradient(out(m, b).mean()),
    "less the first": lambda m, b: (out(m, b) - out(m, b)[0]).sum(1),
    "less the last": lambda m, b: (out(m, b) - out(m, b)[-1:]).sum(1),
    "less the first by a traced index": lambda m, b: (
        (out(m, b) - lax.dynamic_index_in_dim(out(m, b), b["y"].dtype.type(0))).sum(1)
    ),
    "the first for all": lambda m, b: jnp.broadcast_to(out(m, b)[:1], out(m, b).shape).sum(1),
    "turned": lambda m, b: out(m, b)[::-1].sum(1),
    "rolled": lambda m, b: jnp.roll(out(m, b), 1, axis=0).sum(1),
    "shifted": lambda m, b: jnp.pad(out(m, b), ((1, 0), (0, 0)))[:-1].sum(1),
    "mixed with another": lambda m, b: (0.7 * out(m, b) + 0.3 * out(m, b)[::-1]).sum(1),
    "summed up": lambda m, b: jnp.cumsum(out(m, b), 0).sum(1),
    "summed up in pairs": lambda m, b: lax.associative_scan(jnp.add, out(m, b)).sum(1),
    "sorted": lambda m, b: jnp.sort(b["x"], 0).sum(1) * m["b"][0],
    "ranked": lambda m, b: jnp.argsort(b["y"]) * m["b"][0],
    "the largest of all": lambda m, b: out(m, b).sum(1) * (jnp.argmax(out(m, b)) == 0),
    "taken by labels": lambda m, b: out(m, b)[b["y"]].sum(1),
    "taken by a constant": lambda m, b: out(m, b)[np.arange(len(b["y"]))[::-1]].sum(1),
    "written to one": lambda m, b: out(m, b).at[0].set(0.0).sum(1),
    "the rows of one label": lambda m, b: jax.ops.segment_sum(out(m, b), b["y"], 5)[b["y"]].sum(1),
    "each against each": lambda m, b: jax.nn.log_softmax(out(m, b) @ out(m, b).T).diagonal(),
    "each less each": lambda m, b: (out(m, b)[:, None] - out(m, b)[None]).sum((1, 2)),
    "attention over rows": lambda m, b: attention(out(m, b), 0)[0].sum((1, 2)),
    "a product over rows": lambda m, b: out(m, b).sum(1) + (out(m, b).T @ out(m, b)).sum(),
    "a softmax over rows": lambda m, b: (jax.nn.softmax(out(m, b), 0) * out(m, b)).sum(1),
    "a pool over rows": lambda m, b: nnx.avg_pool(out(m, b)[None], (2,), (1,), "SAME")[0].sum(1),
    "a convolution over rows": lambda m, b: lax.conv_general_dilated(
        out(m, b)[None], m["w"][:3, :, None], (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC")
    )[0].sum(1),
    "a scan over rows": lambda m, b: lax.scan(lambda c, x: (c + x.sum(), c), 0.0, out(m, b))[1],
    "pairs of neighbours": lambda m, b: jnp.repeat(out(m, b).reshape(-1, 2, 5).sum(1), 2, axis=0).sum(1),
    "laid out by features": lambda m, b: out(m, b).T.reshape(-1, 5).sum(1),
    "repeated as a whole": lambda m, b: jnp.tile(out(m, b), (3, 1)).reshape(-1, 3, 5).sum((1, 2)),
    "a condition on rows": lambda m, b: lax.cond((b["y"] > 3).any(), jnp.sin, lambda x: x, out(m, b)).sum(1),
    "a mean in a scan": lambda m, b: lax.scan(
        lambda c, _: (c - c.mean(0), None), out(m, b), None, length=2
    )[0].sum(1),
    "a mean in a branch": lambda m, b: lax.cond(
        m["b"][0] > 0, lambda x: x - x.mean(0), lambda x: x, out(m, b)
    ).sum(1),
    "a mean, recomputed": lambda m, b: jax.checkpoint(lambda x: x - x.mean(0))(out(m, b)).sum(1),
    "a mean in a gradient": lambda m, b: with_mean_gradient(out(m, b)).sum(1),
    "a mean in a slope": lambda m, b: with_mean_slope(out(m, b)).sum(1),
    "a mean over a named axis": lambda m, b: jax.vmap(
        lambda x: x - lax.pmean(x, "rows"), axis_name="rows"
    )(out(m, b)).sum(1),
    "divided by their number": lambda m, b: out(m, b).sum(1) / len(b["y"]),
    "less a function of their number": lambda m, b: out(m, b).sum(1) - np.log(len(b["y"])),
    "times their numbers": lambda m, b: out(m, b).sum(1) * jnp.arange(len(b["y"])),
    "times constants": lambda m, b: out(m, b).sum(1) * np.linspace(0, 1, len(b["y"])),
    "times as many parameters": lambda m, b: out(m, b).sum(1) * m["v"][: len(b["y"])],
    "another way for many": lambda m, b: out(m, b).sum(1) if len(b["y"]) > 8 else 2 * out(m, b).sum(1),
    "random": lambda m, b: out(m, b).sum(1) * jax.random.uniform(jax.random.key(0), b["y"].shape),
    "an effect": lambda m, b: (jax.debug.print("{}", m["b"]), out(m, b).sum(1))[1],
    "a linear system": lambda m, b: jnp.linalg.solve(out(m, b).T @ out(m, b), out(m, b).T).sum(0),
    "a mean squared": lambda m, b: out(m, b).mean() ** 2,
    "a mean cut to a whole number": lambda m, b: out(m, b).mean().astype(int) * m["b"][0],
    "whole numbers divided": lambda m, b: lax.div(b["y"].sum(), 3) * m["b"][0],
    "a mean of a mean": lambda m, b: jnp.mean(jnp.exp(jnp.mean(out(m, b), 0))),
    "a mean by a mean": lambda m, b: m["w"].sum() / out(m, b).mean(),
    "a mean over some": lambda m, b: (out(m, b).sum(1) * (b["y"] > 2)).sum() / (b["y"] > 2).sum(),
    "a sum and a penalty, divided": lambda m, b: (out(m, b).sum() + m["w"].sum()) / len(b["y"]),
    "a mean times their number": lambda m, b: out(m, b).mean() * len(b["y"]),
    "divided by their number twice": lambda m, b: out(m, b).sum() / len(b["y"]) ** 2,
}  # fmt: skip


@pytest.mark.parametrize("name", ALONE)
def test_rows_that_do_not_see_each_other_are_proven(name):
    assert kinds_of(ALONE[name]) == (Rows(0), Rows(0))


@pytest.mark.parametrize("name", BY_MEANS)
def test_a_mean_over_rows_is_proven(name):
    assert kinds_of(BY_MEANS[name]) == (MEAN, MEAN)


def is_proven(loss, num_rows, num_of_share):
    try:
        return kinds_of(loss, num_rows, num_of_share) in ((Rows(0), Rows(0)), (MEAN, MEAN))
    except RowsInteractError:
        return False


@pytest.mark.parametrize("name", TOGETHER)
def test_rows_that_see_each_other_are_not_proven_alone(name):
    assert not is_proven(TOGETHER[name], 16, 4)
    assert not is_proven(TOGETHER[name], 16, 2)
    assert not is_proven(TOGETHER[name], 12, 6)  # a share has as many rows as features


def test_a_proof_names_the_operation_that_has_none():
    texts = {}
    for name in (
        "less the mean",
        "sorted",
        "each against each",
        "random",
        "a mean in a gradient",
        "an effect",
    ):
        with pytest.raises(RowsInteractError) as caught:
            kinds_of(TOGETHER[name])
        texts[name] = str(caught.value)
    assert texts == {
        "less the mean": "sub of a sum over the rows",
        "sorted": "sort along the rows, or of several values with rows",
        "each against each": "dot_general along the rows, or of several values with rows",
        "random": "random_seed has no rule",
        "a mean in a gradient": "custom_lin has no rule",
        "an effect": "the effect Debug",
    }


def test_a_sum_over_rows_is_no_mean():
    assert kinds_of(lambda m, b: out(m, b).sum()) == (SUM, SUM)
    assert kinds_of(lambda m, b: out(m, b).sum() / 16) == (SUM, SUM)
