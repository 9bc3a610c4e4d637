"""Train and eval mode reach every module of a model, whatever its root is."""

import jax
import numpy as np
import optax
import pytest
from flax import nnx

import fourbeat as fb
from fourbeat.models.modules import eval_mode, outermost_modules, train_mode


class Block(nnx.Module):
    """A module with two modes, inside of it and one deeper."""

    def __init__(self, seed):
        self.norm = nnx.BatchNorm(2, rngs=nnx.Rngs(seed))
        self.inner = nnx.List([nnx.Dropout(0.5, rngs=nnx.Rngs(seed))])

    def __call__(self, x):
        return self.inner[0](self.norm(x))


ROOTS = {
    "module": lambda: Block(0),
    "nnx.List": lambda: nnx.List([Block(0), Block(1)]),
    "nnx.Dict": lambda: nnx.Dict(a=Block(0), b=Block(1)),
    "nnx.Sequential": lambda: nnx.Sequential(Block(0), Block(1)),
    "list": lambda: [Block(0), Block(1)],
    "dict": lambda: {"a": Block(0), "b": Block(1)},
    "tuple of lists": lambda: ([Block(0)], nnx.List([Block(1)])),
}


def blocks_of(model):
    return [node for _, node in nnx.iter_graph(model) if isinstance(node, Block)]


def modes_of(model):
    return {(b.norm.use_running_average, b.inner[0].deterministic) for b in blocks_of(model)}


@pytest.mark.parametrize("root", ROOTS)
def test_a_mode_is_set_in_all_of_a_model(root):
    model = ROOTS[root]()
    for set_mode, mode in ((train_mode, (False, False)), (eval_mode, (True, True))):
        set_mode(model)
        assert modes_of(model) == {mode}
    outermost = outermost_modules(model)
    inside = [node for one in outermost for _, node in nnx.iter_graph(one)]
    assert all(any(block is node for node in inside) for block in blocks_of(model))


@pytest.mark.parametrize("root", ROOTS)
def test_a_step_trains_and_an_evaluation_evaluates_whatever_the_root(root):
    seen = []

    def loss_fn(model, batch):
        seen.append(modes_of(model))
        return sum(block(batch["x"]) for block in blocks_of(model)).sum(1)

    beats = fb.four_beats(loss_fn, optax.sgd(0.1))
    state = beats.init(ROOTS[root]())
    batch = {"x": np.ones((3, 2), np.float32)}
    after, _ = jax.eval_shape(beats.train_step, state, batch)
    jax.eval_shape(beats.eval_step, state, batch, fb.metrics.Mean("loss"))
    assert seen == [{(False, False)}, {(True, True)}]
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert modes_of(state.model) == {(True, True)}
