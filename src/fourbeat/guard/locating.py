"""The operation that made the first NaN of a step, with its file and line."""

import dataclasses
import sysconfig
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import checkify

from fourbeat.data.batch import Batch
from fourbeat.explicit.paths import leaves_with_paths

_LIBRARIES = tuple(sysconfig.get_paths()[name] for name in ("purelib", "platlib", "stdlib"))
_OURS = str(Path(__file__).parents[1])
_RECIPES = str(Path(_OURS, "recipes"))  # a recipe is a user's own loop


@dataclasses.dataclass(frozen=True)
class Location:
    """Where the first NaN of a step comes from. Printed, it is a sentence.

    Attributes:
      what: the operation's name in JAX, such as "log"; or the input that held a NaN or Inf already, such
        as "batch['image']".
      file: of the line of yours that ran the operation; None for an input.
      line: number of that line; None for an input.
      function: name of its function; None for an input.
      rows: for a batch column, the first bad rows.
    """

    what: str
    file: str | None = None
    line: int | None = None
    function: str | None = None
    rows: tuple[int, ...] = ()

    def __str__(self) -> str:
        if self.file is None:
            rows = f", in rows {', '.join(map(str, self.rows))}" if self.rows else ""
            return f"{self.what} holds NaN or Inf before the step{rows}"
        return f"the first NaN was made by {self.what} in {self.function}, {self.file}:{self.line}"


def locate(beats: Any, state: Any, batch: Any) -> Location | None:
    """Runs one step again and finds the first operation that made a NaN.

    The step is compiled anew with a check after every operation, so it is slow and meant for one batch; the
    state stays as it is. A state whose guard has just skipped a step repeats that one, with its key. An
    operation of the backward pass is named by the line whose derivative it is.

    Args:
      beats: from `four_beats`.
      state: before the step, or after it where a guard skipped it.
      batch: the bad batch, such as `batches[int(state.guard.step) - 1]`.

    Returns:
      The location; None where no NaN is made.

    >>> import jax.numpy as jnp, optax, fourbeat as fb
    >>> beats = fb.four_beats(lambda model, batch: jnp.log(model["w"] * batch["x"]), optax.sgd(0.1))
    >>> found = locate(beats, beats.init({"w": jnp.ones(())}), {"x": jnp.array([1.0, -1.0])})
    >>> found.what, found.function
    ('log', '<lambda>')
    >>> locate(beats, beats.init({"w": jnp.ones(())}), {"x": jnp.array([1.0, jnp.nan])}).rows
    (1,)
    """
    columns = batch.materialise() if isinstance(batch, Batch) else batch
    bad_input = _bad_input(state, columns)
    if bad_input is not None:
        return bad_input
    guard = state.guard
    if guard is not None and int(guard.step) == int(state.step) > 0:
        state = state.replace(step=state.step - 1)
    checked = checkify.checkify(beats.train_step, errors=checkify.nan_checks)
    error, _ = jax.jit(checked)(state, columns)
    raised: Any = error.get_exception()
    if raised is None:
        return None
    frame = _users_frame(raised.traceback_info.frames)
    return Location(str(raised.prim), frame.file_name, frame.line_num, frame.function_name)


def _bad_input(state: Any, columns: Any) -> Location | None:
    for root, tree in (("params", state.params), ("rest", state.rest), ("batch", columns)):
        for name, leaf in leaves_with_paths(tree, root):
            if not jax.numpy.issubdtype(leaf.dtype, jax.numpy.floating):
                continue
            bad = ~np.isfinite(np.asarray(leaf, np.float32))
            if bad.any():
                in_rows = root == "batch" and bad.ndim > 0
                rows = np.flatnonzero(bad.reshape(len(bad), -1).any(1)) if in_rows else ()
                return Location(name, rows=tuple(int(row) for row in rows[:8]))
    return None


def _users_frame(frames: list[Any]) -> Any:
    """The innermost frame of the user's own code; else the innermost of all."""
    for frame in frames:
        ours = frame.file_name.startswith(_OURS) and not frame.file_name.startswith(_RECIPES)
        if not ours and not frame.file_name.startswith(_LIBRARIES):
            return frame
    return frames[0]
