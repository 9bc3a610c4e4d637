"""compile: a step as one program with its state donated. Given a block, it runs all of the block's steps."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import Tracer
from jax.sharding import Mesh

from fourbeat.beats.inputs import check_names
from fourbeat.beats.state import TrainState, flat_of, state_of
from fourbeat.compiling.block_sizes import fastest_block_size
from fourbeat.compiling.blocks import NO_STEPS, Block
from fourbeat.compiling.compiled_programs import compiled_programs
from fourbeat.compiling.over_mesh import PinnedProgram
from fourbeat.compiling.recompilation import RecompilationWatch, argument_names
from fourbeat.data.host_arrays import fitting_columns
from fourbeat.shard.memory_use import Memory, bytes_of_arguments, memory_of
from fourbeat.shard.meshes import checked_mesh
from fourbeat.shard.rows import trained_in_shares
from fourbeat.trees.arguments import is_traceable
from fourbeat.trees.articles import a_type
from fourbeat.trees.buffers import settled
from fourbeat.trees.donation import GIVEN_TO, TAKEN, raise_if_used_up
from fourbeat.trees.flat import Flat
from fourbeat.trees.keys import as_data, as_keys
from fourbeat.trees.paths import leaves_with_paths
from fourbeat.types import BatchSource, State, StepFunction

_set = object.__setattr__  # a state is frozen


class CompiledStep:
    """A compiled step: call it as the step itself. Made by `compile`."""

    def __init__(
        self,
        step: StepFunction,
        *,
        donate: bool,
        mesh: Mesh | None,
        on_recompile: str,
        compiler_options: dict[str, Any] | None,
    ):
        name = getattr(step, "__name__", type(step).__name__)
        step = step if mesh is None else trained_in_shares(step, mesh)
        watch = RecompilationWatch(name, on_recompile)

        def run(state: State, /, *args: Any, **inputs: Any) -> tuple[Any, Any]:
            if args and isinstance(args[0], Block):
                return _fused(step, state, *args, **inputs)
            return step(state, *args, **inputs)

        def traced(state: State, /, *args: Any, **inputs: Any) -> tuple[Any, Any]:
            state = state.tree() if isinstance(state, Flat) else state
            watch.see((state, *args), inputs)
            after, out = run(state, *args, **inputs)
            return (flat_of(after) if type(after) is TrainState else after), out

        run.__name__ = traced.__name__ = name
        self._name = name
        self._watch = watch
        self._donates = donate
        self._mesh = mesh
        jit = partial(jax.jit, donate_argnums=(0,) if donate else (), compiler_options=compiler_options)
        self._program, self._lowered = (
            jit(function) if mesh is None else PinnedProgram(function, mesh, jit)
            for function in (traced, run)
        )

    def __call__(self, state: State, /, *args: Any, **inputs: Any) -> tuple[Any, Any]:
        if args and args[0] is NO_STEPS:
            return state, {}
        is_ours = type(state) is TrainState
        flat = flat_of(state) if is_ours else state
        num_programs, num_traces = compiled_programs.total, self._watch.num_traces
        try:
            if args and type(args[0]) is dict:
                args = (fitting_columns(args[0]), *args[1:])
            after, out = self._program(flat, *args, **inputs)
        # a `try` costs nothing when nothing is raised; JAX asserts that no input is named as a parameter
        except (AssertionError, RuntimeError, TypeError, ValueError) as error:
            check_names(inputs.keys() & {"state"} if isinstance(error, AssertionError) else ())
            leaves = flat.leaves if is_ours else jax.tree.leaves(state)
            _raise_if_shared(error, leaves if self._donates else [], inputs)
            raise_if_used_up(error, **{**dict(argument_names(args, inputs)), "state": state})
            _raise_if_no_array(error, inputs)
            raise
        if compiled_programs.total != num_programs and compiled_programs.last == self._name:
            self._watch.compiled((flat.tree() if is_ours else state, *args), inputs, num_traces)
        if type(after) is not Flat:
            return after, out
        if is_ours and self._donates:
            taken, given_to = flat.leaves[0], after.leaves[0]  # the numbers of a state come first
            if type(taken) is type(given_to) and not isinstance(taken, Tracer) and taken.is_deleted():
                _set(state, "__dict__", {GIVEN_TO: given_to, TAKEN: state.__dict__})
        return state_of(after), out

    def lower(self, state: State, /, *args: Any, **inputs: Any) -> jax.stages.Lowered:
        """The step lowered for these arguments, as `jax.jit(step).lower` gives it."""
        return self._lowered.lower(state, *args, **inputs)

    def memory(self, state: State, /, *args: Any, **inputs: Any) -> Memory:
        """What the step takes on each device for these arguments: state, batch and temporaries, in bytes.

        The step is compiled for them and nothing runs. Of the arguments only shapes and dtypes matter: on one
        device a state of `jax.eval_shape(lambda: beats.init(model))` will do. `fourbeat.shard.memory` gives
        the table for a mesh that is only planned.

        >>> step = compile(lambda total, batch: (total + batch["x"].sum(), {"total": total}))
        >>> needed = step.memory(jnp.float32(1.0), {"x": jnp.ones(300)})
        >>> needed.state, needed.batch
        (4, 1200)
        """
        compiled = self.lower(state, *args, **inputs).compile()
        over = self._lowered
        pinned = over.shardings(state, args, inputs) if isinstance(over, PinnedProgram) else (None, None)
        num_bytes = [
            bytes_of_arguments(state, pinned[0]),
            bytes_of_arguments((list(args), inputs), pinned[1]),
        ]
        return memory_of(compiled, num_bytes[0], num_bytes[1], self._mesh)

    @property
    def num_compilations(self) -> int:
        """The number of programs: one for single batches and one a block size, times the announced shapes."""
        return self._watch.num_traces + self._watch.num_untraced

    def tune(self, state: State, batches: BatchSource, /, **inputs: Any) -> int:
        """Measures how many steps a call should fuse here, and picks the number.

        Each candidate is compiled and timed on a copy of `state` with the first batches; `state` stays
        as it is. A run should record the number and resume with it: fused programs may round differently.

        Args:
          state: the state that you will train.
          batches: a `fourbeat.data.Batches`, or a sequence of batches of one shape.
          inputs: of the step, by name.

        Returns:
          What to pass to `fourbeat.loop` as `steps_per_call`; 1 where fusing does not help, as with
          convolutions on CPU.
        """
        with self._watch.paused():
            return fastest_block_size(partial(self, **inputs), state, batches)

    def __repr__(self) -> str:
        return f"CompiledStep({self._name}, {self.num_compilations} compiled)"


def compile(
    step: StepFunction,
    *,
    donate: bool = True,
    mesh: Mesh | None = None,
    on_recompile: Literal["warn", "raise", "ignore"] = "warn",
    compiler_options: dict[str, Any] | None = None,
) -> CompiledStep:
    """Compiles `step(state, *args, **inputs) -> (state, out)` with its state donated.

    If you pass a `fourbeat.Block` in place of a batch, one call runs all of the block's steps. `out` is then
    that of the last step, but `out["finite"]` tells about all of them. Every step of the block has the same
    inputs; what changes from step to step is a column of the batch, and one number a batch is enough.

    Args:
      step: a pure function, such as `beats.train_step`.
      donate: whether the state passed in gives up its buffers to the state that comes out. It cannot be
        used afterwards; without donation memory holds both.
      mesh: a `jax.sharding.Mesh`, such as `fourbeat.mesh(data=8)`, that the state lies on. The rows of the
        batch, the first argument after the state, are split over it, and each leaf of the state stays where
        it lay when it first came in.
      on_recompile: what to do when the arguments of a later call have other shapes, dtypes, weak types or
        structure, which costs a second compilation: "warn", "raise" (before anything has run), "ignore".
        A length that the batches announce (see `fourbeat.data.pad_to`) is not a change.
      compiler_options: XLA's options by name, as `jax.jit` takes them; for convolutions on CPU see
        `fourbeat.compiling.eigen_convolutions`.

    Returns:
      The compiled step.

    Raises:
      ValueError: when called, with a mesh, where a leaf of the state lies elsewhere, or where the rows of the
        batch do not divide.
      RecompilationError: when called, with `on_recompile="raise"`; names the leaves that changed.
      fourbeat.beats.UsedUpError: when called with a state that was given to a step before.

    >>> step = compile(lambda total, batch: (total + batch["x"].sum(), {"total": total}))
    >>> total, logs = step(jnp.float32(1.0), {"x": jnp.ones(3)})
    >>> float(total)
    4.0
    """
    mesh = None if mesh is None else checked_mesh(mesh)
    if mesh is not None and mesh.size == 1:
        mesh = None  # nothing is split, and jit keeps arrays on their one device
    return CompiledStep(
        step, donate=donate, mesh=mesh, on_recompile=on_recompile, compiler_options=compiler_options
    )


def _raise_if_shared(error: Exception, donated: Sequence[Any], inputs: Mapping[str, Any]) -> None:
    """Raises a `ValueError` if an input holds an array of the state, which the call takes; else returns."""
    taken = {id(leaf) for leaf in donated if isinstance(leaf, jax.Array)}
    for name, value in inputs.items():
        for place, leaf in leaves_with_paths(value, name):
            if id(leaf) in taken:
                raise ValueError(
                    f"the input {place} is an array of the state itself, whose buffers the step takes. Give "
                    "a copy, such as that of state.replace().params or state.model."
                ) from error


def _raise_if_no_array(error: Exception, inputs: Mapping[str, Any]) -> None:
    """Raises a `TypeError` if a leaf of an input is no array; otherwise returns."""
    for name, value in inputs.items():
        for place, leaf in leaves_with_paths(value, name):
            if not is_traceable(leaf):
                raise TypeError(
                    f"the input {place} is {a_type(leaf)}, and a compiled step takes arrays. Give the arrays "
                    f"of a model, {name}=fb.split(model)[1], and merge them in loss_fn; define in loss_fn, "
                    "or around it, what never changes."
                ) from error


def _fused(step: StepFunction, state: State, block: Block, /, **inputs: Any) -> tuple[Any, Any]:
    """The steps of a block in a rolled loop of traced length: one program for every length."""
    state = settled(state)
    step = partial(step, **inputs)
    out_shapes = jax.eval_shape(lambda batch: as_data(step(state, batch)[1]), block.take(jnp.int32(0)))
    start = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), out_shapes)
    if isinstance(start, dict) and "finite" in start:
        start["finite"] = jnp.ones_like(start["finite"])

    def body(i: jax.Array, carry: tuple[Any, Any]) -> tuple[Any, Any]:
        state, before = carry
        state, out = step(state, block.take(i))
        out = as_data(out)
        if isinstance(out, dict) and "finite" in out:
            out = {**out, "finite": out["finite"] & before["finite"]}
        return settled((state, out))

    state, out = lax.fori_loop(0, block.num_steps, body, (state, start))
    return state, as_keys(out)
