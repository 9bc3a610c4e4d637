"""Errors of a step name the beat, the parameters and the batch; their own texts stay as they are."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import fourbeat as fb
from tests.kinds import KINDS

CNN, BATCH = KINDS["cnn"], KINDS["cnn"].batch(0, 8)
MODEL = {"w": jnp.ones((3, 2)), "b": jnp.zeros(2)}


def step(loss_fn, model, batch, **options):
    beats = fb.four_beats(loss_fn, optax.adam(1e-2), **options)
    fb.compile(beats.train_step)(beats.init(model), batch)


def cnn_loss(model, batch):
    return CNN.items(model, batch)[0]


def linear_loss(model, batch):
    return ((batch["x"] @ model["w"] + model["b"]) ** 2).sum(-1)


def update(grads):
    beats = fb.four_beats(linear_loss, optax.adam(1e-2))
    state = beats.init(MODEL)
    _, out = beats.gradient(state, {"x": np.ones((4, 3), np.float32)})
    jax.jit(beats.update)(state, grads, out)


ALL_CNN = (
    "params['conv']['bias'] float32[4], params['conv']['kernel'] float32[3,3,1,4], params['head']['bias'] "
    "float32[5], params['head']['kernel'] float32[64,5], params['norm']['bias'] float32[4], "
    "params['norm']['scale'] float32[4]."
)
NOTES = {
    "images of another size": (
        lambda: step(cnn_loss, CNN.make(0), {**BATCH, "x": np.ones((8, 10, 10, 1), np.float32)}),
        [
            "Raised in beat one, the forward pass, in model.head, with params['head']['bias'] float32[5], "
            "params['head']['kernel'] float32[64,5].",
            "The batch: batch['label'] int32[8], batch['x'] float32[8,10,10,1].",
        ],
    ),
    "channels of a microbatch": (
        lambda: step(cnn_loss, CNN.make(0), {**BATCH, "x": np.ones((8, 8, 8, 3), np.int32)}, accumulate=2),
        [
            "Raised in beat one, the forward pass, in model.conv, with params['conv']['bias'] float32[4], "
            "params['conv']['kernel'] float32[3,3,1,4].",
            "The batch: batch['label'] int32[8], batch['x'] int32[8,8,8,3].",
        ],
    ),
    "labels of another shape": (
        lambda: step(cnn_loss, CNN.make(0), {**BATCH, "label": np.zeros(3, np.int32)}),
        [
            f"Raised in beat two, the loss (or beat one, where the model is no module), with {ALL_CNN}",
            "The batch: batch['label'] int32[3], batch['x'] float32[8,8,8,1].",
        ],
    ),
    "a model that is no module": (
        lambda: step(linear_loss, MODEL, {"x": np.ones((4, 2), np.float32)}),
        [
            "Raised in beat two, the loss (or beat one, where the model is no module), with params['b'] "
            "float32[2], params['w'] float32[3,2].",
            "The batch: batch['x'] float32[4,2].",
        ],
    ),
    "a column that is not there": (
        lambda: step(linear_loss, MODEL, {"image": np.ones((4, 3), np.float32)}),
        [
            "Raised in beat two, the loss (or beat one, where the model is no module), with params['b'] "
            "float32[2], params['w'] float32[3,2].",
            "The batch: batch['image'] float32[4,3].",
        ],
    ),
    "a batch without columns": (
        lambda: step(linear_loss, MODEL, {}),
        [
            "Raised in beat two, the loss (or beat one, where the model is no module), with params['b'] "
            "float32[2], params['w'] float32[3,2].",
            "The batch: batch of no array.",
        ],
    ),
    "gradients of another shape": (
        lambda: update({"w": jnp.ones((4, 2)), "b": jnp.zeros(2)}),
        [
            "Raised in beat four, the update, with params['b'] float32[2], params['w'] float32[3,2].",
            "The gradients are not like the parameters: params['w'] is float32[3,2] and grads['w'] "
            "float32[4,2].",
        ],
    ),
    "a gradient too few": (
        lambda: update({"w": jnp.ones((3, 2))}),
        [
            "Raised in beat four, the update, with params['b'] float32[2], params['w'] float32[3,2].",
            "The gradients are not like the parameters: params['b'] is float32[2] and grads['b'] is not "
            "there.",
        ],
    ),
}


@pytest.mark.parametrize("case", NOTES)
def test_what_the_notes_say(case):
    call, notes = NOTES[case]
    with pytest.raises((TypeError, ValueError, KeyError)) as caught:
        call()
    ours = [note for note in caught.value.__notes__ if note.startswith(("Raised in", "The "))]
    assert ours == notes


def test_evaluation_names_the_module_inside_a_tree_of_modules():
    heads = {"a": nnx.Linear(3, 2, rngs=nnx.Rngs(0)), "b": nnx.Linear(3, 2, rngs=nnx.Rngs(1))}
    beats = fb.four_beats(lambda m, b: (m["a"](b["x"]) + m["b"](b["y"])).sum(1), optax.sgd(0.1))
    batches = [{"x": np.ones((2, 3), np.float32), "y": np.ones((2, 4), np.float32)}]
    with pytest.raises(TypeError) as caught:
        fb.evaluator(beats)(beats.init(heads), batches)
    assert (
        "Raised in beat one, the forward pass, in model.b, with params['b']['bias'] float32[2], "
        in (caught.value.__notes__[0])
    )
