"""LoRA on every kind of linear layer: beside the sums by hand, trained alone, merged back."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import fourbeat as fb
from fourbeat.models import add_lora, merge_lora
from fourbeat.trees.paths import leaves_with_paths
from tests.kinds import KINDS, SmallCNN, SmallTransformer, assert_bit_equal, cross_entropy, token_batch


class Stacked(nnx.Module):
    """Layers that are stacked along an axis, for nnx.scan."""

    def __init__(self, *, rngs):
        self.layers = nnx.vmap(lambda key: nnx.Linear(4, 4, rngs=nnx.Rngs(key)))(jax.random.split(rngs(), 3))

    def __call__(self, x):
        return nnx.scan(lambda x, layer: nnx.tanh(layer(x)), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)(
            x, self.layers
        )


# name: (how it is made, shape of its input, the product with both matrices, what it meets and gives)
LAYERS = {
    "linear": (lambda rngs: nnx.Linear(6, 5, rngs=rngs), (2, 3, 6), "xyi,ir,ro->xyo", (6,), (5,)),
    "no bias": (lambda rngs: nnx.Linear(6, 5, use_bias=False, rngs=rngs), (6,), "i,ir,ro->o", (6,), (5,)),
    "to heads": (
        lambda rngs: nnx.LinearGeneral(6, (2, 3), rngs=rngs),
        (2, 4, 6),
        "xyi,ir,rhk->xyhk",
        (6,),
        (2, 3),
    ),
    "from heads": (
        lambda rngs: nnx.LinearGeneral((2, 3), 5, axis=(-2, -1), rngs=rngs),
        (4, 2, 3),
        "xhk,hkr,ro->xo",
        (2, 3),
        (5,),
    ),
    "turned axes": (
        lambda rngs: nnx.LinearGeneral((2, 3), 5, axis=(-1, -2), rngs=rngs),
        (4, 2, 3),
        "xhk,hkr,ro->xo",
        (2, 3),
        (5,),
    ),
    "einsum": (
        lambda rngs: nnx.Einsum("btd,hdk->bhtk", (2, 6, 3), (2, 3), rngs=rngs),
        (2, 4, 6),
        "xyi,ir,rhk->xhyk",
        (6,),
        (2, 3),
    ),
    "einsum with dots": (
        lambda rngs: nnx.Einsum("...hk,hdk->...d", (2, 5, 3), rngs=rngs),
        (4, 2, 3),
        "xhk,hkr,ro->xo",
        (2, 3),
        (5,),
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_gives_its_own_output_and_the_product_by_hand_and_merges(name):
    make, shape, product, met, given = LAYERS[name]
    layer = make(nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(1), shape)
    adapted = add_lora(layer, rank=2, key=3)
    assert_bit_equal(adapted(x), layer(x))  # lora_b is 0
    a, b = adapted.lora.lora_a, adapted.lora.lora_b
    assert (a.shape, b.shape) == ((np.prod(met), 2), (2, np.prod(given)))
    b[...] = jax.random.normal(jax.random.key(2), b.shape)
    by_hand = jnp.einsum(product, x, a[...].reshape(*met, 2), b[...].reshape(2, *given))
    np.testing.assert_allclose(adapted(x), layer(x) + by_hand, rtol=1e-5, atol=1e-5)
    merged = merge_lora(adapted)
    np.testing.assert_allclose(merged(x), adapted(x), rtol=1e-5, atol=1e-5)
    assert fb.split(merged)[0] is fb.split(layer)[0]  # built as the layer was: one program serves both
    assert type(adapted).__name__ == f"LoRA{type(layer).__name__}" and not hasattr(layer, "lora")


@pytest.fixture(scope="module")
def tuned():
    """`(base, state before, state after 4 steps)`: a transformer's adapters, trained with Adam and EMA."""
    base = SmallTransformer(rngs=nnx.Rngs(0))
    base.attention.rngs = None
    beats = fb.four_beats(cross_entropy_loss, optax.adam(0.05), wrt=nnx.LoRAParam, ema=0.5)
    state = beats.init(add_lora(base, rank=2), key=0)
    start, step = state.replace(), fb.compile(beats.train_step)
    for seed in range(4):
        state, _ = step(state, jax.tree.map(jnp.asarray, token_batch(seed, 4)))
    return base, start, state


def cross_entropy_loss(model, batch):
    model.eval()  # no dropout
    return cross_entropy(model, batch)[0]


def test_only_the_adapters_are_trained_with_every_bit_of_a_loop_by_hand(tuned):
    base, _, state = tuned
    frozen = dict(leaves_with_paths(state.rest))
    for path, array in leaves_with_paths(fb.split(base)[1]):
        assert_bit_equal(frozen[path], array)
    graph, adapters, rest = nnx.split(add_lora(base, rank=2), nnx.LoRAParam, ...)
    tx = optax.adam(0.05)
    opt_state = tx.init(adapters)

    @jax.jit
    def step(adapters, opt_state, batch):
        loss_of = lambda adapters: cross_entropy_loss(
            nnx.merge(graph, adapters, rest, copy=True), batch
        ).mean()
        updates, opt_state = tx.update(jax.grad(loss_of)(adapters), opt_state)
        return optax.apply_updates(adapters, updates), opt_state

    for seed in range(4):
        adapters, opt_state = step(adapters, opt_state, jax.tree.map(jnp.asarray, token_batch(seed, 4)))
    assert_bit_equal(state.params, nnx.to_pure_dict(adapters))
    assert sorted(state.params) == ["attention", "head"]
    assert sorted(state.params["attention"]) == ["key", "out", "query", "value"]


def test_a_model_begins_with_the_outputs_it_had_and_ends_merged(tuned):
    base, start, state = tuned
    tokens = jnp.asarray(token_batch(9, 4)["x"])
    logits = lambda model: jax.jit(model)(tokens)
    base.eval()
    assert_bit_equal(logits(start.model), logits(base))
    for model in (state.model, state.ema_model):
        moved = logits(model)
        assert np.abs(moved - logits(base)).max() > 1e-2
        np.testing.assert_allclose(logits(merge_lora(model)), moved, rtol=1e-4, atol=1e-5)
    assert fb.split(merge_lora(state.model))[0] is fb.split(base)[0]


def test_a_checkpoint_of_the_base_model_fits_below_the_adapters_which_are_saved_alone(tuned, tmp_path):
    base, _, state = tuned
    before = fb.four_beats(cross_entropy_loss, optax.sgd(0.1)).init(base)
    adapted = fb.four_beats(cross_entropy_loss, optax.adam(0.05), wrt=nnx.LoRAParam, ema=0.5).init(
        add_lora(SmallTransformer(rngs=nnx.Rngs(5)), rank=2)
    )
    with fb.Checkpoints(tmp_path / "base") as checkpoints:
        checkpoints.save(0, before)
        restored, _ = checkpoints.restore(adapted, partial=True)
    assert_bit_equal(restored.rest["head"], before.params["head"])
    with fb.Checkpoints(tmp_path / "adapters") as checkpoints:
        checkpoints.save(4, state.params)
        alone = checkpoints.restore(adapted.params)
    tokens = jnp.asarray(token_batch(9, 4)["x"])
    assert_bit_equal(restored.replace(params=alone).model(tokens), state.model(tokens))


def test_it_computes_in_half_precision_and_lies_on_a_mesh_with_the_model():
    batch = jax.tree.map(jnp.asarray, token_batch(0, 4))
    beats = fb.four_beats(cross_entropy_loss, optax.sgd(0.1), wrt=nnx.LoRAParam, precision="bfloat16")
    mesh = fb.mesh(data=-1)
    make = lambda: add_lora(SmallTransformer(rngs=nnx.Rngs(0)), rank=2, where="head")
    state = beats.init(make, mesh=mesh, shard=fb.shard.fsdp(axis="data"))
    state, logs = fb.compile(beats.train_step, mesh=mesh)(state, batch)
    assert list(state.params) == ["head"] and np.isfinite(logs["loss"])
    assert float(jnp.abs(state.params["head"]["lora"]["lora_b"]).max()) > 0
    with fb.precision.Policy(compute="bfloat16").computing(model := state.model):
        assert "bf16" in str(jax.make_jaxpr(lambda x: model.head.lora(x))(jnp.ones((1, 8))))


def test_stacked_layers_have_stacked_adapters():
    model = Stacked(rngs=nnx.Rngs(0))
    adapted, x = add_lora(model, rank=2), jnp.ones((2, 4))
    assert adapted.layers.lora.lora_a.shape == (3, 4, 2)
    assert_bit_equal(adapted(x), model(x))
    adapted.layers.lora.lora_b[...] += 0.1
    assert np.abs(adapted(x) - model(x)).max() > 1e-3
    np.testing.assert_allclose(merge_lora(adapted)(x), adapted(x), rtol=1e-5, atol=1e-6)


def test_where_takes_patterns_of_layers_and_of_kernels_and_filters():
    model = SmallTransformer(rngs=nnx.Rngs(0))
    for where, expected in (
        (None, {"attention", "head"}),
        ("head", {"head"}),
        (("head/*",), {"head"}),
        (fb.models.paths("attention/*"), {"attention"}),
        (lambda path, layer: layer.use_bias and path[-1] == "head", {"head"}),
    ):
        _, params, _ = fb.split(add_lora(model, 1, where), nnx.LoRAParam)
        assert set(params) == expected
    first, second = (add_lora(model, 2, "head", key=key).head.lora.lora_a[...] for key in (0, 1))
    assert (first != second).any() and float(jnp.abs(first).min()) > 0
    once = add_lora(model, 2, "head")
    assert sorted(fb.split(add_lora(once, 2, "attention/*"), nnx.LoRAParam)[1]) == ["attention", "head"]


class Tied(nnx.Module):
    def __init__(self, *, rngs):
        self.down, self.up = nnx.Linear(2, 2, rngs=rngs), nnx.Linear(2, 2, rngs=rngs)
        self.up.kernel = self.down.kernel


CANNOT = "Linear, LinearGeneral and Einsum layers of Flax can; convolutions and embeddings cannot."
REFUSALS = {
    "a convolution": (
        lambda: add_lora(SmallCNN(rngs=nnx.Rngs(0)), 2, "conv"),
        "add_lora: the pattern 'conv' matches model.conv, a layer of type Conv, and no layer that can have "
        f"an adapter. {CANNOT} To train that layer itself, name it in wrt: nnx.Any(nnx.LoRAParam, "
        "fb.models.paths('conv/*')).",
    ),
    "a typing mistake": (
        lambda: add_lora(SmallCNN(rngs=nnx.Rngs(0)), 2, ["head", "haed"]),
        "the pattern 'haed' of add_lora matches no layer that can have an adapter. Near it are 'head'. A '*' "
        "stands for any part of a path, slashes too.",
    ),
    "no linear layer": (
        lambda: add_lora(nnx.Conv(1, 1, (3,), rngs=nnx.Rngs(0)), 2),
        f"add_lora: the model has no layer that can have an adapter. {CANNOT}",
    ),
    "twice": (
        lambda: add_lora(add_lora(SmallCNN(rngs=nnx.Rngs(0)), 2), 2),
        "add_lora: model.head has an adapter already. Merge it first, by fourbeat.models.merge_lora, or "
        "leave the layer out by where=.",
    ),
    "a shared kernel": (
        lambda: add_lora(Tied(rngs=nnx.Rngs(0)), 2),
        "add_lora: model.down shares its kernel with another layer: an adapter here would not change that "
        "one, and merging it would. Leave it out by where=.",
    ),
    "rank 0": (
        lambda: add_lora(SmallCNN(rngs=nnx.Rngs(0)), 0),
        "add_lora: rank is 0; give a whole number from 1.",
    ),
    "a dict": (
        lambda: add_lora(KINDS["dict"].make(0), 2),
        "add_lora: the model is a dict, and adapters are for NNX modules.",
    ),
    "nothing to merge": (
        lambda: merge_lora(SmallCNN(rngs=nnx.Rngs(0))),
        "merge_lora: the model, a SmallCNN, holds no adapter of fourbeat.models.add_lora.",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_cannot_have_an_adapter_is_refused_by_name(name):
    call, text = REFUSALS[name]
    with pytest.raises((ValueError, TypeError), match=f"^{re.escape(text)}$"):
        call()
