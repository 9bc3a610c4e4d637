"""Train and eval mode reach every module of a model, whatever its root is."""

import sys

import jax
import jax.numpy as jnp
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


class Mode(nnx.Variable):
    """A mode that is no plain attribute."""


class ByProperty(Block):
    """Its mode is kept under another name."""

    @property
    def deterministic(self):
        return self.quiet

    @deterministic.setter
    def deterministic(self, value):
        self.quiet = value


class ByClass(Block):
    """Its mode is the class's until it is set."""

    deterministic = False


class ByEval(Block):
    """It does more than Flax on its way into a mode."""

    def eval(self, **attributes):
        self.evaluated = True
        return super().eval(**attributes)


class BySetattr(Block):
    """It keeps another attribute in step with its mode."""

    def __setattr__(self, name, value):
        super().__setattr__(name, value)
        if name == "deterministic":
            super().__setattr__("noise", not value)

    def __init__(self, seed):
        super().__init__(seed)
        self.deterministic = False


class ByVariable(Block):
    """Its mode is a variable, which evaluation replaces by a flag."""

    def __init__(self, seed):
        super().__init__(seed)
        self.deterministic = Mode(jnp.array(False))


class Both(Block):
    """Two modes of its own, beside those of its layers; a dict in it has a key of that name."""

    def __init__(self, seed):
        super().__init__(seed)
        self.deterministic = None
        self.use_running_average = False
        self.table = nnx.Dict(layer=nnx.Linear(1, 1, rngs=nnx.Rngs(seed)))
        self.settings = {"deterministic": "no"}


@pytest.mark.parametrize("kind", [Block, ByProperty, ByClass, ByEval, BySetattr, ByVariable, Both])
@pytest.mark.parametrize("root", [lambda block: block, lambda block: {"a": [block]}])
def test_a_split_model_is_as_eval_leaves_it_and_the_users_is_as_it_was(kind, root):
    kept = {"quiet": False} if kind is ByProperty else {}
    model, by_hand = root(made(kind, kept)), root(made(kind, kept))
    before = nnx.graphdef(model)
    merged = fb.merge(*fb.split(model))
    assert nnx.graphdef(model) == before
    for module in outermost_modules(by_hand):
        module.eval()
    assert nnx.graphdef(merged) == nnx.graphdef(by_hand)
    train_mode(by_hand)
    assert fb.split(by_hand)[0] is fb.split(merged)[0] or kind is ByEval


def made(kind, kept):
    module = kind(0)
    for name, value in kept.items():
        setattr(module, name, value)
    return module


class Doubled(nnx.Param):
    """It gives another value than it keeps."""

    def get_value(self, **index):
        return 2 * super().get_value(**index)


def test_a_variable_gives_its_value_in_its_own_way():
    _, params, _ = fb.split({"w": Doubled(jnp.ones(2)), "v": nnx.Param(jnp.ones(2))})
    assert (params["w"].tolist(), params["v"].tolist()) == ([2.0, 2.0], [1.0, 1.0])


def calls_in(function):
    """Calls of Python functions and of built-in ones: a measure of work that noise does not move."""
    count = 0

    def see(frame, event, argument):
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(see)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count


def test_a_split_of_many_layers_takes_few_calls_more_than_that_of_nnx():
    layers = [nnx.Linear(2, 2, rngs=nnx.Rngs(0)) for _ in range(200)]
    model = nnx.List([*layers, nnx.Dropout(0.5, rngs=nnx.Rngs(0))])
    fb.split(model)
    by_flax = calls_in(lambda: nnx.split(model, nnx.Param, ...))
    assert calls_in(lambda: fb.split(model)) < 2.5 * by_flax
