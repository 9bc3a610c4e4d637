"""The operation that made the first bad number of a step, with its file and line."""

import dataclasses
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fourbeat.data.batch import columns_of
from fourbeat.guard.origins import Origin, first_origin
from fourbeat.trees.donation import explaining_used_up
from fourbeat.trees.paths import leaves_with_paths
from fourbeat.types import Batch, Object, State, Tree

_LIBRARIES = tuple(sysconfig.get_paths()[name] for name in ("purelib", "platlib", "stdlib"))
_OURS = str(Path(__file__).parents[1])
_RECIPES = str(Path(_OURS, "recipes"))  # a recipe is a user's own loop


@dataclasses.dataclass(frozen=True)
class Location:
    """Where the first bad number of a step comes from. Printed, it is a sentence.

    Attributes:
      what: the operation's name in JAX, such as "log"; or the input that held a NaN or Inf already, such
        as "batch['image']".
      file: of the line of yours that ran the operation; None for an input.
      line: number of that line; None for an input.
      function: name of its function; None for an input.
      examples: for a batch column, the first bad examples.
      made: "NaN" or "Inf", what the operation made; "NaN or Inf" for an input.
    """

    what: str
    file: str | None = None
    line: int | None = None
    function: str | None = None
    examples: tuple[int, ...] = ()
    made: str = "NaN or Inf"

    def __str__(self) -> str:
        if self.file is None:
            examples = f", in examples {', '.join(map(str, self.examples))}" if self.examples else ""
            return f"{self.what} holds {self.made} before the step{examples}"
        return f"the first {self.made} was made by {self.what} in {self.function}, {self.file}:{self.line}"


@explaining_used_up
def locate(beats: Object, state: State, batch: Batch) -> Location | None:
    """Runs one step again and finds the first operation that made a NaN or Inf of finite numbers.

    The beat that gives a bad number is run one operation at a time, each looked at, so it is slow and meant
    for one batch; the state stays as it is. It passes over a bad number that reaches no result, such as
    log(0) on the side of a `where` that is not taken. A state whose guard has just skipped a step
    repeats that one, with its key. An operation of the backward pass is named by the line whose derivative it
    is.

    Args:
      beats: from `four_beats`.
      state: before the step, or after it where a guard skipped it.
      batch: the bad batch, such as `batches[int(state.guard.step) - 1]`.

    Returns:
      The location; None where the results of the step are finite, or only as bad as its inputs.

    >>> import jax.numpy as jnp, optax, fourbeat as fb
    >>> beats = fb.four_beats(lambda model, batch: jnp.log(model["w"] * batch["x"]), optax.sgd(0.1))
    >>> found = locate(beats, beats.init({"w": jnp.ones(())}), {"x": jnp.array([1.0, -1.0])})
    >>> found.made, found.what, found.function
    ('NaN', 'log', '<lambda>')
    >>> locate(beats, beats.init({"w": jnp.ones(())}), {"x": jnp.array([1.0, jnp.nan])}).examples
    (1,)
    """
    columns = columns_of(batch)
    bad_input = _bad_input(state, columns)
    if bad_input is not None:
        return bad_input
    guard = state.guard
    if guard is not None and int(guard.step) == int(state.step) > 0:
        state = state.replace(step=state.step - 1)

    def gradient(state: State, columns: Batch) -> tuple[Any, Any]:
        grads, out = beats.gradient(state, columns)
        return grads, out._replace(aux=None)  # the update reads none of it

    seen = jax.jit(gradient)(state, columns)
    origin = _origin(gradient, (state, columns), seen)
    if origin is None:
        origin = _origin(beats.update, (state, *seen), jax.jit(beats.update)(state, *seen))
    if origin is None:
        return None
    traceback: Any = origin.equation.source_info.traceback
    frame = _users_frame(traceback.frames)
    name = origin.equation.primitive.name
    return Location(name, frame.file_name, frame.line_num, frame.function_name, made=origin.made)


def _origin(beat: Callable, args: tuple, outputs: Tree) -> Origin | None:
    """Where the bad numbers of a beat's outputs come from; it is run by operations only if there are some."""
    if all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(outputs) if _is_float(leaf)):
        return None
    return first_origin(jax.make_jaxpr(beat)(*args), *map(jnp.asarray, jax.tree.leaves(args)))


def _bad_input(state: State, columns: Batch) -> Location | None:
    for root, tree in (("params", state.params), ("rest", state.rest), ("batch", columns)):
        for name, leaf in leaves_with_paths(tree, root):
            if not _is_float(leaf):
                continue
            bad = ~np.isfinite(np.asarray(leaf, np.float32))
            if bad.any():
                in_examples = root == "batch" and bad.ndim > 0
                examples = np.flatnonzero(bad.reshape(len(bad), -1).any(1)) if in_examples else ()
                return Location(name, examples=tuple(int(place) for place in examples[:8]))
    return None


def _is_float(leaf: Object) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.floating)


def _users_frame(frames: list[Any]) -> Any:
    """The innermost frame of the user's own code; else the innermost of all."""
    for frame in frames:
        ours = frame.file_name.startswith(_OURS) and not frame.file_name.startswith(_RECIPES)
        if not ours and not frame.file_name.startswith(_LIBRARIES):
            return frame
    return frames[0]
