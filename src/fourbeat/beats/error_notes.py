"""Errors of a step that name the beat, the parameters and the batch."""

import contextlib
from collections.abc import Iterator
from types import FrameType
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from fourbeat.beats.loss import LossFunction, forward
from fourbeat.beats.state import TrainState
from fourbeat.trees.donation import raise_if_used_up
from fourbeat.trees.paths import Path, leaves_with_paths, plain_path, render_attribute
from fourbeat.types import Batch, Model, Object, Params, Tree

_MOST_LISTED = 8


@contextlib.contextmanager
def adding_notes(
    beat: str, state: TrainState, batch: Batch = None, grads: Params | None = None
) -> Iterator[None]:
    """Adds to a TypeError, ValueError or KeyError raised within where in the step it came from.

    The error's own text stays as it is: the additions are notes, which Python prints after it. An error about
    deleted arrays becomes a `UsedUpError`.

    Args:
      beat: what runs within, unless the error comes from the model's call or the loss function.
      state: whose parameters are named.
      batch: columns of the batch.
      grads: the gradients, for the update.
    """
    try:
        yield
    except (RuntimeError, TypeError, ValueError, KeyError) as error:
        raise_if_used_up(error, state=state, batch=batch, grads=grads)
        if isinstance(error, RuntimeError):
            raise
        frames = list(_frames(error))
        beat, module_path, module = _place(beat, frames)
        where = "" if module is None else f", in {render_attribute('model', module_path)}"
        error.add_note(f"Raised in {beat}{where}, with {_parameters(state, module_path)}.")
        if batch is not None:
            error.add_note(f"The batch: {listed(batch, 'batch')}.")
        if grads is not None and (unlike := _unlike(grads, state.params)):
            error.add_note(f"The gradients are not like the parameters: {unlike}.")
        raise


def _frames(error: BaseException) -> Iterator[FrameType]:
    """From the outermost to where the error was raised."""
    traceback = error.__traceback__
    while traceback is not None:
        yield traceback.tb_frame
        traceback = traceback.tb_next


def _place(beat: str, frames: list[FrameType]) -> tuple[str, Path, Any]:
    """The beat, and the innermost module of the model whose method was running."""
    codes = [frame.f_code for frame in frames]
    if forward.__code__ not in codes:
        return beat, (), None
    inner = frames[codes.index(forward.__code__) :]
    modules = _modules(inner[0].f_locals.get("model"))
    for frame in reversed(inner):
        running = frame.f_locals.get("self")
        if isinstance(running, nnx.Module) and id(running) in modules:
            return "beat one, the forward pass", *modules[id(running)]
    if LossFunction.__call__.__code__ in codes:
        return "beat two, the loss (or beat one, where the model is no module)", (), None
    return beat, (), None


def _modules(model: Model) -> dict[int, tuple[Path, nnx.Module]]:
    found = {}
    is_module = lambda node: isinstance(node, nnx.Module)
    for outer, node in jax.tree_util.tree_leaves_with_path(model, is_leaf=is_module):
        if isinstance(node, nnx.Module):
            for path, module in nnx.iter_modules(node):
                found[id(module)] = ((*plain_path(outer), *path), module)
    return found


def _parameters(state: TrainState, path: Path) -> str:
    """The parameters below a path, or all where there is none."""
    below: Any = state.params
    for key in path:
        below = below.get(key, {}) if isinstance(below, dict) else {}
    if not jax.tree.leaves(below):
        path, below = (), state.params
    return listed(below, "params" + "".join(f"[{key!r}]" for key in path))


def listed(tree: Tree, root: str) -> str:
    """The first leaves of a tree by path, with dtype and shape, and how many more there are.

    >>> listed({"w": jnp.ones((2, 3))}, "params")
    "params['w'] float32[2,3]"
    """
    described = [f"{name} {_described(leaf)}" for name, leaf in leaves_with_paths(tree, root)]
    more = f" and {len(described) - _MOST_LISTED} more" if len(described) > _MOST_LISTED else ""
    return (", ".join(described[:_MOST_LISTED]) or f"{root} of no array") + more


def _unlike(grads: Params, params: Params) -> str:
    ours, theirs = (dict(leaves_with_paths(tree)) for tree in (params, grads))
    for name, param in ours.items():
        if name not in theirs:
            return f"params{name} is {_described(param)} and grads{name} is not there"
        if _described(theirs[name]) != _described(param):
            return f"params{name} is {_described(param)} and grads{name} {_described(theirs[name])}"
    extra = next((name for name in theirs if name not in ours), None)
    return "" if extra is None else f"grads{extra} is there and params{extra} is not"


def _described(leaf: Object) -> str:
    if isinstance(leaf, str | bytes):
        return repr(leaf)
    return f"{jnp.result_type(leaf)}[{','.join(map(str, jnp.shape(leaf)))}]"
