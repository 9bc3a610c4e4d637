"""Half-precision computation from float32 parameters, and dynamic loss scaling."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import fourbeat as fb
from fourbeat import guard, precision
from fourbeat.precision.attention import attention
from fourbeat.precision.reductions import is_half
from fourbeat.trees.jaxprs import equations
from tests.kinds import KINDS, assert_bit_equal

HALVES = ("bfloat16", "float16")


class Network(nnx.Module):
    """Layers written without a dtype argument, and a parameter used by hand."""

    def __init__(self, *, rngs):
        self.first = nnx.Linear(4, 8, rngs=rngs)
        self.norm = nnx.BatchNorm(8, rngs=rngs)
        self.scale = nnx.Param(jnp.ones((8, 8)) / 8)
        self.head = nnx.Linear(8, 3, rngs=rngs)
        self.seen = nnx.Variable(jnp.zeros((), jnp.int32))

    def __call__(self, x):
        self.seen[...] += 1
        x = nnx.relu(self.norm(self.first(x)))
        return self.head(x @ self.scale[...])


def by_hand(model, x, dtype):
    """The same forward pass in training mode with every cast written out."""
    cast = lambda tree: jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), tree)
    layer = lambda x, linear: x @ cast(linear.kernel[...]) + cast(linear.bias[...])
    x = layer(cast(x), model.first)
    wide = x.astype(jnp.float32)
    mean, var = wide.mean(0), jnp.maximum((wide**2).mean(0) - wide.mean(0) ** 2, 0)
    x = cast((wide - mean) * (jax.lax.rsqrt(var + 1e-5) * model.norm.scale[...]) + model.norm.bias[...])
    x = jnp.maximum(x, 0) @ cast(model.scale[...])
    return layer(x, model.head).astype(jnp.float32), 0.01 * mean, 0.99 + 0.01 * var


BATCH = {
    "x": np.random.RandomState(0).standard_normal((16, 4)).astype(np.float32),
    "label": np.random.RandomState(1).randint(0, 3, 16).astype(np.int32),
}


def loss_fn(model, batch):
    logits = model(batch["x"])
    assert logits.dtype == jnp.float32
    assert isinstance(model, Network) and type(model).__name__ == "Network"
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
    return loss, {"logits": logits, "labels": batch["label"]}


def make(precision, tx=None, **options):
    beats = fb.four_beats(
        loss_fn,
        tx or optax.sgd(0.1),
        precision=precision,
        metrics=fb.metrics.Mean("loss"),
        predict=lambda model, batch: model(batch["x"]),
        **options,
    )
    return beats, beats.init(Network(rngs=nnx.Rngs(0)))


@pytest.mark.parametrize("half", HALVES)
def test_computes_in_half_what_a_careful_hand_would_cast(half):
    beats, state = make(half)
    model = Network(rngs=nnx.Rngs(0))
    logits, mean, var = jax.jit(by_hand, static_argnums=2)(model, BATCH["x"], half)
    expected = optax.softmax_cross_entropy_with_integer_labels(logits, BATCH["label"]).mean()
    grads, out = jax.jit(beats.gradient)(state, BATCH)
    np.testing.assert_allclose(out.loss, expected, rtol=2e-3)
    np.testing.assert_allclose(out.rest["norm"]["mean"], mean, atol=2e-4)
    np.testing.assert_allclose(out.rest["norm"]["var"], var, rtol=2e-3)
    full, full_state = make("float32")
    # half precision it is, not float32 called so
    assert abs(out.loss - jax.jit(full.gradient)(full_state, BATCH)[1].loss) > 1e-6
    for leaf in jax.tree.leaves((state.params, grads, out.loss, out.rest["norm"])):
        assert leaf.dtype == jnp.float32
    read = precision.Policy(compute=half).computed(state.static, state.params)
    assert read["scale"].dtype == read["head"]["bias"].dtype == jnp.dtype(half)
    assert read["norm"]["scale"].dtype == jnp.float32
    products = precision.explain(beats, state, BATCH).splitlines()[-1]
    assert products == f"products of one step: 8 in {half}"


def test_evaluation_reads_statistics_in_float32():
    beats, state = make("bfloat16")
    rest = {**state.rest, "norm": {"mean": jnp.full(8, 1000.5), "var": jnp.full(8, 1.0)}}
    first = {"kernel": jnp.zeros((4, 8)), "bias": jnp.full(8, 1000.0)}
    params = {**state.params, "first": first, "head": {**state.params["head"], "bias": jnp.zeros(3)}}
    state = state.replace(rest=rest, params=params)
    state = state.replace(params={**state.params, "norm": {"scale": jnp.full(8, -1.0), "bias": jnp.zeros(8)}})
    predicted, _ = jax.jit(partial(beats.predict_step, carry=True))(state, BATCH)
    # bfloat16 holds 1000 and not 1000.5: -(1000 - 1000.5) is 0.5, and 0 were the mean rounded
    expected = 0.5 * np.asarray(state.params["head"]["kernel"]).sum(0)
    np.testing.assert_allclose(predicted[0], expected, rtol=2e-2)
    assert predicted.dtype == jnp.float32
    assert np.isfinite(fb.evaluator(beats, carry=True)(state, [BATCH])["value"])


def test_the_model_that_comes_out_is_as_it_was_written():
    beats, state = make("bfloat16")
    step = fb.compile(beats.train_step, on_recompile="raise")
    for _ in range(3):
        state, _ = step(state, BATCH)
    live = state.model
    assert type(live) is Network and live.first.dtype is None
    assert live(BATCH["x"]).dtype == jnp.float32
    assert int(state.rest["seen"]) == 3


EXACT = {"convert_element_type", "reduce_max", "reduce_window_max"}


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("kind", ["cnn", "transformer"])
def test_no_sum_no_softmax_and_no_statistic_of_a_step_is_in_half_precision(kind, half):
    kind = KINDS[kind]
    beats = fb.four_beats(
        lambda model, batch: kind.items(model, batch)[0],
        optax.adam(1e-2),
        precision=half,
        metrics=fb.metrics.Mean("loss"),
        accumulate=2,
    )
    state = beats.init(kind.make(0))
    for step in (beats.train_step, lambda state, batch: beats.eval_step(state, batch, state.metrics)):
        traced = jax.make_jaxpr(step)(state, kind.batch(0, 8))
        found = {e.primitive.name for e in equations(traced.jaxpr) if any(is_half(v.aval) for v in e.outvars)}
        assert "dot_general" in found  # half precision it is
        accumulating = ("sum", "prod", "scatter", "exp", "log", "sqrt", "reduce", "cum")
        assert not [n for n in found - EXACT if any(word in n for word in accumulating)]


class Sums(nnx.Module):
    """Layers whose gradients are sums over rows: an embedding and a bias."""

    def __init__(self, *, rngs):
        self.embed = nnx.Embed(2, 4, rngs=rngs)
        self.linear = nnx.Linear(4, 4, rngs=rngs)

    def __call__(self, tokens):
        return 0.1 * self.linear(self.embed(tokens))


@pytest.mark.parametrize("half", HALVES)
def test_gradients_of_biases_and_embeddings_are_summed_in_float32(half):
    """Of 700 equal terms a running sum in bfloat16 would stay at the 256th."""
    tokens, seen = np.zeros((2, 700), np.int32), {}
    for dtype in ("float32", half):
        beats = fb.four_beats(
            lambda model, batch: model(batch["x"]).sum(-1) ** 2, optax.sgd(0.1), precision=dtype
        )
        grads, out = jax.jit(beats.gradient)(beats.init(Sums(rngs=nnx.Rngs(0))), {"x": tokens})
        seen[dtype] = (grads, out.loss)
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=0.02, atol=1e-3)
    jax.tree.map(close, seen[half], seen["float32"])


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("options", [{}, {"dropout_rate": 0.1, "deterministic": True}])
def test_attention_normalises_its_weights_in_float32(half, options):
    """Scores near 100 apart by less than a half-precision number can tell: the products are exact here."""
    key = jnp.asarray([[[[64.0, 1.0]], [[64.0, 2.0]], [[64.0, 3.0]]]], half)
    query = jnp.asarray([[[[1.5, 0.25]]]], half) * 2**0.5
    value = jnp.asarray([[[[1.0, 0.0]], [[0.0, 1.0]], [[0.0, 0.0]]]], half)
    out = attention(query, key, value, **options)
    scores = np.einsum("qd,kd->qk", np.float64(query)[0, :, 0], np.float64(key)[0, :, 0]) / 2**0.5
    weights = np.exp(scores - scores.max())
    expected = (weights / weights.sum()) @ np.float64(value)[0, :, 0]
    assert out.dtype == half
    np.testing.assert_allclose(np.float64(out)[0, :, 0], expected, atol=2e-3 if half == "float16" else 0.1)


def plain_items(model, batch):
    x = batch["x"].astype(model["w"].dtype)
    logits = (jnp.tanh(x @ model["w"]) @ model["v"]).astype(jnp.float32)
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])


def make_plain():
    keys = jax.random.split(jax.random.key(0))
    return {"w": jax.random.normal(keys[0], (4, 8)), "v": jax.random.normal(keys[1], (8, 3))}


@pytest.mark.parametrize("half", HALVES)
def test_a_plain_pytree_computes_as_its_loss_function_casts(half):
    def by_hand(params):
        cast = lambda leaf: leaf.astype(half)
        logits = jnp.tanh(cast(BATCH["x"]) @ cast(params["w"])) @ cast(params["v"])
        shifted = logits.astype(jnp.float32) - logits.astype(jnp.float32).max(1, keepdims=True)
        picked = jnp.take_along_axis(shifted, BATCH["label"][:, None], 1)[:, 0]
        return (jnp.log(jnp.exp(shifted).sum(1)) - picked).mean()

    expected_loss, expected = jax.jit(jax.value_and_grad(by_hand))(make_plain())
    beats = fb.four_beats(plain_items, optax.sgd(0.1), precision=half)
    state = beats.init(make_plain())
    grads, out = jax.jit(beats.gradient)(state, BATCH)
    np.testing.assert_allclose(out.loss, expected_loss, rtol=1e-3)
    for name in ("w", "v"):
        assert grads[name].dtype == state.params[name].dtype == jnp.float32
        np.testing.assert_allclose(grads[name], expected[name], rtol=0.05, atol=2e-3)
    products = precision.explain(beats, state, BATCH).splitlines()[-1]
    assert products == f"products of one step: 5 in {half}"


def uncast(model, batch):
    return (batch["x"] @ model["w"]).sum(1)


def half_loss(model, batch):
    return (batch["x"].astype(model["w"].dtype) @ model["w"]).sum(1)


WARNINGS = {
    uncast: "precision 'bfloat16' changes no product: all 2 are in float32. In a model that is no NNX module "
    "only the parameters are cast. Cast what meets them, such as x = batch['x'].astype(model['w'].dtype), "
    "and what comes out back to float32 before the loss.",
    half_loss: "precision 'bfloat16': loss_fn computed its loss in bfloat16. Only what the model's own call "
    "returns is cast to float32: cast what the loss is made of, such as logits.astype(jnp.float32).",
}


@pytest.mark.parametrize("loss_fn", WARNINGS)
def test_a_precision_that_reaches_no_product_or_the_loss_is_warned_of(loss_fn):
    beats = fb.four_beats(loss_fn, optax.sgd(0.1), precision="bfloat16")
    with pytest.warns(precision.PrecisionWarning) as caught:
        jax.jit(beats.train_step).lower(beats.init(make_plain()), BATCH)
    assert [str(warning.message) for warning in caught] == [WARNINGS[loss_fn]]


def test_embeddings_attention_and_a_model_of_half_parameters_train():
    for kind in (KINDS["transformer"], KINDS["bfloat16 cnn"]):
        loss_fn = lambda model, batch, kind=kind: kind.items(model, batch)[0]
        beats = fb.four_beats(loss_fn, optax.sgd(0.5), precision="bfloat16")
        state = beats.init(kind.make(0))
        assert {leaf.dtype for leaf in jax.tree.leaves(state.params)} == {jnp.dtype("float32")}
        step = fb.compile(beats.train_step, on_recompile="raise")
        losses = []
        for _ in range(8):
            state, logs = step(state, kind.batch(0, 8))
            losses.append(float(logs["loss"]))
        assert losses[-1] < losses[0] - 0.1


def test_a_policy_says_each_dtype_and_keeps_bfloat16_parameters():
    policy = precision.Policy(params="bfloat16", compute=jnp.bfloat16, output=jnp.float32)
    beats, state = make(policy, ema=0.9)
    assert {leaf.dtype for leaf in jax.tree.leaves(state.params)} == {jnp.dtype("bfloat16")}
    state, logs = fb.compile(beats.train_step)(state, BATCH)
    assert {leaf.dtype for leaf in jax.tree.leaves(state.ema)} == {jnp.dtype("float32")}
    assert logs["loss"].dtype == jnp.float32
    assert state.ema_model.first.kernel.dtype == jnp.bfloat16


def test_gradients_are_unscaled_before_clipping_and_before_their_norm_is_logged():
    tx = optax.chain(optax.clip_by_global_norm(0.01), optax.sgd(1.0))
    (full, one), (half, other) = make("float32", tx), make("float16", tx)
    one, logs = jax.jit(full.train_step)(one, BATCH)
    other, half_logs = jax.jit(half.train_step)(other, BATCH)
    np.testing.assert_allclose(half_logs["grad_norm"], logs["grad_norm"], rtol=1e-2)
    np.testing.assert_allclose(half_logs["loss"], logs["loss"], rtol=1e-2)
    for a, b in zip(*map(jax.tree.leaves, (one.params, other.params)), strict=True):
        np.testing.assert_allclose(a, b, atol=5e-4)


def test_small_gradients_survive_float16():
    def tiny(model, batch):
        return 1e-4 * loss_fn(model, batch)[0]

    norms = []
    for dtype in ("float32", "float16"):
        beats = fb.four_beats(tiny, optax.sgd(0.1), precision=dtype)
        _, logs = jax.jit(beats.train_step)(beats.init(Network(rngs=nnx.Rngs(0))), BATCH)
        norms.append(float(logs["grad_norm"]))
    np.testing.assert_allclose(*norms, rtol=2e-2)


@pytest.mark.parametrize("with_guard", [False, True])
def test_an_overflow_is_skipped_and_halves_the_scale_and_blames_nobody(with_guard):
    options = {"guard": guard.skip()} if with_guard else {}
    beats, state = make("float16", optax.adam(1e-2), ema=0.9, accumulate=2, **options)
    step = fb.compile(beats.train_step, donate=False, on_recompile="raise")
    huge = state.loss_scale.__class__(jnp.float32(2.0**24), jnp.int32(5), jnp.int32(0))
    before = state.replace(loss_scale=huge)
    after, logs = step(before, BATCH)
    assert not logs["finite"]
    assert float(logs["loss_scale"]) == 2.0**24
    assert float(after.loss_scale.scale) == 2.0**23
    assert int(after.step) == 1 and int(after.num_updates) == 0
    assert_bit_equal(
        after.replace(step=0, loss_scale=before.loss_scale, guard=before.guard), before.replace(step=0)
    )
    while not logs["finite"]:
        after, logs = step(after, BATCH)
    assert int(after.num_updates) == 1 and int(after.loss_scale.num_skipped) == int(after.step) - 1
    if with_guard:
        guard.check(after)
        bad = {**BATCH, "x": BATCH["x"] * np.float32(np.nan)}
        after, _ = step(after, bad)
        with pytest.raises(guard.BadStepError, match="was skipped"):
            guard.check(after)


def test_the_scale_doubles_after_many_finite_steps_and_stays_in_bounds():
    scale = precision.LossScale(jnp.float32(4.0), jnp.int32(1_998), jnp.int32(0))
    finite, overflow = jnp.array(True), jnp.array(False)
    trace = []
    for seen in [finite, finite, finite] + [overflow] * 5:
        scale = scale.after(seen)
        trace.append((float(scale.scale), int(scale.num_finite)))
    assert trace == [(4, 1999), (8, 0), (8, 1), (4, 0), (2, 0), (1, 0), (1, 0), (1, 0)]
    top = precision.LossScale(jnp.float32(2.0**24), jnp.int32(1_999), jnp.int32(0)).after(finite)
    assert float(top.scale) == 2.0**24


def test_explain_tells_kept_from_computed():
    beats, state = make("float16")
    assert precision.explain(beats, state) == (
        "layer               kept     computed\n"
        "model.first: Linear    float32  float16\n"
        "model.head: Linear     float32  float16\n"
        "model.norm: BatchNorm  float32  float16, statistics float32\n"
        "model: Network         float32  float16, where its inputs are\n"
        "loss, its mean, metrics, gradient norms: float32 at least\n"
        "sums, the gradients of biases and embeddings among them: accumulated in float32\n"
        "output of the model: float32; parameters: float32\n"
        "the loss is scaled by state.loss_scale.scale; gradients are unscaled at once"
    ).replace("layer               kept", "layer                  kept")


def test_explain_names_attention_and_what_its_softmax_is_computed_in():
    class Two(nnx.Module):
        def __init__(self, *, rngs):
            self.mine = nnx.MultiHeadAttention(1, 2, attention_fn=sharp, rngs=rngs)
            self.flax = nnx.MultiHeadAttention(1, 2, rngs=rngs)

    beats = fb.four_beats(loss_fn, optax.sgd(0.1), precision="bfloat16")
    lines = precision.explain(beats, beats.init(Two(rngs=nnx.Rngs(0)))).splitlines()
    said = {line.split()[0]: line.split(maxsplit=2)[2] for line in lines if line.startswith("model.")}
    assert said["model.flax:"] == "-        bfloat16, softmax float32"
    assert said["model.mine:"] == "-        bfloat16, softmax as it is written"


def sharp(query, key, value, **_):
    return query + key + value


ERRORS = {
    "precision": (
        lambda: make("half"),
        "precision is 'half'. Use 'float32', 'bfloat16', 'float16', or "
        "fb.precision.Policy(params=, compute=, output=).",
    ),
    "integers": (
        lambda: precision.Policy(compute="int8"),
        "Policy: compute='int8' must be a floating-point dtype, such as 'float32' or 'bfloat16'.",
    ),
    "no dtype": (
        lambda: precision.Policy(output="half-ish"),
        "Policy: output='half-ish' must be a floating-point dtype, such as 'float32' or 'bfloat16'.",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_error_texts(case):
    call, text = ERRORS[case]
    with pytest.raises(ValueError) as caught:
        call()
    assert str(caught.value) == text


def test_a_precision_that_no_layer_takes_on_is_warned_of():
    kind = KINDS["bfloat16 cnn"]
    beats = fb.four_beats(lambda m, b: kind.items(m, b)[0], optax.sgd(0.1), precision="float16")
    with pytest.warns(precision.PrecisionWarning) as caught:
        beats.init(kind.make(0))
    assert str(caught[0].message) == (
        "precision 'float16' changes no layer: each was built with a dtype of its own and keeps it "
        "(model.conv in bfloat16, model.head in bfloat16). Build the layers without dtype=."
    )
