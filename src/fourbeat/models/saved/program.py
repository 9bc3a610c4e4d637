"""A prediction as a program: traced for any number of examples, over named weights and columns."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from fourbeat.models.names import names_of
from fourbeat.models.saved.signature import Array
from fourbeat.models.splitting import Static
from fourbeat.trees.articles import a_type
from fourbeat.trees.example_counts import num_examples
from fourbeat.trees.keys import impl_of
from fourbeat.trees.paths import Path, nest, plain_path
from fourbeat.types import Batch, Object, Tree

BATCH = "batch"  # the name of the number of examples
_PLATFORMS = {"cpu", "cuda", "rocm", "tpu"}
# of a training state: what no prediction reads
_UNUSED: dict[str, Any] = dict.fromkeys(("opt_state", "metrics", "ema", "loss_scale", "guard"))


class Columns(NamedTuple):
    """What a program takes of a batch.

    Attributes:
      arrays: the stored columns by name, before any mapped function.
      mapped: what the mapped functions make of such columns.
      transforms: the names of the mapped functions.
    """

    arrays: dict[str, Any]
    mapped: Callable[[dict[str, Any]], dict[str, Any]]
    transforms: tuple[str, ...]


class Program(NamedTuple):
    """A prediction that was traced.

    Attributes:
      serialized: by `jax.export`, of `(weights, columns) -> outputs`; what goes in are plain dicts by name.
      inputs: the columns that it reads.
      outputs: what it gives.
    """

    serialized: bytes
    inputs: dict[str, Array]
    outputs: dict[str, Array]


def columns_in(batch: Batch) -> Columns:
    """The stored columns of a batch, and what maps them.

    Raises:
      TypeError: the batch is no mapping of columns.
      ValueError: a mapped function draws random numbers, or a column holds PRNG keys.
    """
    if hasattr(batch, "unmapped"):
        arrays, transforms, mapped = batch.unmapped()
        drawing = [name_of_function(each.function) for each in transforms if each.key_argument is not None]
        if drawing:
            raise ValueError(
                f"the example is of batches with the mapped function {drawing[0]}, which draws random "
                "numbers from a key: a saved prediction draws none. Give a batch of data without it, as for "
                "evaluation."
            )
        names = tuple(name_of_function(each.function) for each in transforms)
    elif isinstance(batch, Mapping):
        arrays, mapped, names = batch, lambda columns: columns, ()
    else:
        raise TypeError(
            f"example is {a_type(batch)}, not a batch. Give a dict of columns, or one of data.batches(...)."
        )
    by_path = leaves_of(arrays)
    paths = list(by_path)
    by_name = dict(zip(names_of(paths, "example"), by_path.values(), strict=True))
    for name, leaf in by_name.items():
        if impl_of(leaf) is not None:
            raise ValueError(
                f"the column {name!r} of the example holds PRNG keys: a saved prediction draws nothing. Let "
                "predict leave out what is random."
            )
    nested = lambda columns: mapped(nest(zip(paths, columns.values(), strict=True)))
    return Columns({name: jnp.asarray(leaf) for name, leaf in by_name.items()}, nested, names)


def leaves_of(columns: Mapping[str, Any]) -> dict[Path, Any]:
    """The columns by path; a list is one column, and columns of text are left out: no program reads them."""
    found, _ = jax.tree_util.tree_flatten_with_path(
        dict(columns), is_leaf=lambda node: isinstance(node, list)
    )
    return {plain_path(path): leaf for path, leaf in found if not _is_text(leaf)}


def _is_text(leaf: Object) -> bool:
    return not isinstance(leaf, jax.Array) and np.asarray(leaf).dtype.kind in "OSU"


def name_of_function(function: Object) -> str:
    """How the signature names a mapped function."""
    return getattr(function, "__qualname__", type(function).__name__)


def prediction(
    source: Object, static: Static, predict: Object
) -> Callable[[dict[str, Any], dict[str, Any], Mapping[str, Any]], Tree]:
    """`(params, rest, columns) -> outputs`, in evaluation mode.

    Args:
      source: the training state, or the model.
      static: of its model.
      predict: `predict(model, batch)`, or the beats, whose `predict_step` computes in their precision.

    Raises:
      TypeError: `predict` is neither, or the beats come without a state.
    """
    step = getattr(predict, "predict_step", None)
    if step is not None:
        if not hasattr(source, "opt_state"):
            raise TypeError(
                "predict is the beats, and they predict from a state: give the state in place of the model, "
                "or predict=a function (model, batch)."
            )
        bare = dataclasses.replace(source, **_UNUSED)
        return lambda params, rest, columns: step(
            dataclasses.replace(bare, params=params, rest=rest), columns
        )
    if not callable(predict):
        raise TypeError(
            f"predict is {a_type(predict)}. Give a function (model, batch) -> outputs, or the beats, which "
            "were made with one."
        )

    def run(params: dict[str, Any], rest: dict[str, Any], columns: Mapping[str, Any]) -> Tree:
        made = lambda: static.merge(params, rest)
        model = made()
        again = lambda: predict(made(), columns)
        return static.holding.undisturbed(lambda: predict(model, columns), again, predict, model)

    return run


def traced(
    predict: Callable[[Mapping[str, Any], Mapping[str, Any]], Tree],
    weights: Mapping[str, Any],
    columns: Columns,
    platforms: Sequence[str],
) -> Program:
    """The program of a prediction for any number of examples.

    Args:
      predict: `(weights, mapped columns) -> outputs`.
      weights: arrays, or what has their shapes and dtypes, by name.
      columns: of the example. Those that the prediction does not read are left out of the program.
      platforms: such as ("cpu", "cuda").

    Raises:
      ValueError: the number of examples cannot be left open, or a platform lacks an operation.
      TypeError: the outputs are in a container of the user's own.
    """
    if isinstance(platforms, str) or not platforms or set(platforms) - _PLATFORMS:
        raise ValueError(f"platforms is {platforms!r}. Give some of {', '.join(sorted(_PLATFORMS))}.")
    own = {name: _shape_of(array) for name, array in weights.items()}
    count = num_examples(columns.arrays)
    read = columns_read(predict, own, columns)
    (batch,) = export.symbolic_shape(BATCH)
    kinds = {
        name: jax.ShapeDtypeStruct(tuple(_open(array.shape, count, batch)), array.dtype)
        for name, array in columns.arrays.items()
    }
    given = {name: kind for name, kind in kinds.items() if name in read}

    def run(weights: dict[str, Any], inputs: dict[str, Any]) -> Tree:
        # zeros for what is not read: only its shape may be asked for, and they leave no trace
        every = {
            name: inputs[name] if name in inputs else jnp.zeros(kind.shape, kind.dtype)
            for name, kind in kinds.items()
        }
        return predict(weights, columns.mapped(every))

    exported, serialized = _exported(run, own, given, tuple(platforms))
    outputs = _described(exported.out_tree.unflatten(exported.out_avals))
    for name, each in outputs.items():
        if each.shape[:1] != (BATCH,):
            raise ValueError(
                f"predict returned {name} {each} for a batch of any number of examples, {BATCH}. Return "
                f"arrays "
                f"of one entry an example, whose first axis is {BATCH}."
            )
    inputs = {name: Array(tuple(map(_length, each.shape)), each.dtype.name) for name, each in given.items()}
    return Program(serialized, inputs, outputs)


def columns_read(
    predict: Callable[..., Tree], weights: dict[str, jax.ShapeDtypeStruct], columns: Columns
) -> set[str]:
    """The names of the columns that the outputs depend on, for the example as it is."""
    given = {name: _shape_of(array) for name, array in columns.arrays.items()}
    run = lambda weights, given: predict(weights, columns.mapped(given))
    with _explaining((jax.default_backend(),)):
        kept = set(export.export(jax.jit(run))(weights, given).module_kept_var_idx)
    read = {name for place, name in enumerate(sorted(given), len(weights)) if place in kept}
    if not read:
        raise ValueError(
            f"predict reads no column of the example, which has {', '.join(given)}: its outputs are the same "
            "for every batch. Give a predict that computes them from the batch."
        )
    return read


def _exported(
    run: Callable[..., Tree], weights: dict[str, Any], columns: dict[str, Any], platforms: tuple[str, ...]
) -> tuple[export.Exported, bytes]:
    with _explaining(platforms):
        exported = export.export(jax.jit(run), platforms=platforms)(weights, columns)
    if not _is_plain(exported.out_tree):
        raise TypeError(
            f"predict returned {exported.out_tree}, and a program without your code knows dicts, lists and "
            "tuples alone. Return one of these, such as outputs._asdict()."
        )
    with _explaining(platforms):
        return exported, bytes(exported.serialize())


def _is_plain(structure: Object) -> bool:
    """Whether the containers are those of Python."""
    node = structure.node_data()
    of_python = node is None or node[0] in (dict, list, tuple, type(None))
    return of_python and all(map(_is_plain, structure.children()))


@contextlib.contextmanager
def _explaining(platforms: tuple[str, ...]) -> Iterator[None]:
    """Says of an error of the export what to do about it."""
    try:
        yield
    except (jax.errors.InconclusiveDimensionOperation, TypeError) as error:
        if isinstance(error, TypeError) and "_DimExpr" not in str(error):
            raise
        raise ValueError(
            f"predict cannot be traced for any number of examples: {_first_line(error)} Where the number of "
            "examples is needed, write x.shape[0] and no number (x.reshape(x.shape[0], -1)), and use it in "
            "shapes alone; or write the prediction of one example, and map it: "
            "jax.vmap(lambda one: ...)(batch['x'])."
        ) from error
    except (NotImplementedError, ValueError) as error:
        if not any(word in str(error) for word in ("platform", "custom call", "lowering", "callback")):
            raise
        raise ValueError(
            f"predict cannot be lowered for {', '.join(platforms)}: {_first_line(error)} Leave a platform "
            'out, platforms=("cpu",), or write the operation otherwise.'
        ) from error


def _first_line(error: Exception) -> str:
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return line if line.endswith(".") else f"{line}."


def _described(outputs: Tree) -> dict[str, Array]:
    found = jax.tree_util.tree_flatten_with_path(outputs)[0]
    return {
        f"outputs{jax.tree_util.keystr(path)}": Array(tuple(map(_length, each.shape)), each.dtype.name)
        for path, each in found
    }


def _length(length: Object) -> int | str:
    return length if isinstance(length, int) else str(length)


def _open(shape: tuple[int, ...], count: int, batch: Object) -> tuple[Any, ...]:
    """A shape whose first axis is that of the examples, with any number of them."""
    return (batch, *shape[1:]) if shape[:1] == (count,) else shape


def _shape_of(array: Object) -> jax.ShapeDtypeStruct:
    weak = bool(getattr(array, "weak_type", False))
    return jax.ShapeDtypeStruct(array.shape, array.dtype, weak_type=weak)
