"""One call of a method on a clone: state in, result and state out."""

import contextlib
import dataclasses
import re
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax

from fourbeat.functional import refusals
from fourbeat.functional.flattening import Flat, flatten
from fourbeat.functional.numpy_boxes import NumpyBox, unboxed
from fourbeat.functional.outside import Outside
from fourbeat.functional.rebuilding import Clone, rebuild
from fourbeat.functional.specs import (
    Constant,
    Leaves,
    Node,
    Roots,
    Spec,
    differ_in_weakness_only,
    differences,
    walk,
)
from fourbeat.objects.lines import Line
from fourbeat.objects.ownership import is_of_a_library, is_of_an_engine
from fourbeat.trees.jaxprs import traced_for
from fourbeat.types import Object

_LOOPS = ("scan", "while_body", "while_loop", "fori_loop")
_WRITES = re.compile(r"[^=!<>]=(?!=)|\.(fill|sort|put|partition)\(|np\.(copyto|put)\(")
# What JAX says about a traced shape, slice or key in errors that are not of its own classes.
_NEEDS_VALUE = re.compile(r"concrete values|must be static|must have static|unhashable type: '\w*Tracer'")
# What JAX says about an object that is no pytree and was passed to a compiled function.
_NO_PYTREE = re.compile(r"problematic value is of type <class '([^']+)'>.*? at path ([\w.\[\]']+)", re.DOTALL)


def apply(
    name: str,
    call: Callable[[Roots], Any],
    spec: Spec,
    leaves: Leaves,
    names: tuple[str, ...],
    *,
    given: Object = (),
    box_all: bool = False,
    watched: bool = True,
    is_new: bool = False,
) -> tuple[Any, Flat]:
    """Runs `call` on clones of the objects and flattens them again.

    Args:
      name: the method's name, for errors.
      call: takes the cloned roots.
      spec: the fixed part of the state.
      leaves: its arrays; tracers inside a transformation.
      names: the paths of the roots.
      given: the arguments of the call; they show whether a loop is traced when the state has no leaves.
      box_all: box every NumPy array, to see which are written.
      is_new: `init` has not seen the method, so its in-place NumPy writes are not known.
      watched: look for calls of clocks and the environment. For a small method this doubles the cost.

    Returns:
      What the method returned, and the objects as the method left them.

    Raises:
      FunctionalizeError: the method did something that no pure function can do.
    """
    clone = rebuild(spec, leaves, box_all=box_all)
    outside = Outside(spec, (*leaves, *jax.tree.leaves(given)))
    with _explained(name, spec), outside.watching(calls=watched):
        out = unboxed(call(clone.roots))

    def again() -> None:
        call(rebuild(spec, leaves, box_all=box_all).roots)

    outside.check(name, again)
    _check_out(name, out, clone)
    boxes = [each.store for each in clone.origins.objects if isinstance(each, NumpyBox)]
    flat = flatten(clone.roots, names, spec.policy, clone.incoming, clone.origins)
    copied = tuple(store.path for store in boxes if store.was_copied)
    unsure = frozenset(line for store in boxes for line in store.unsure)
    flat = dataclasses.replace(flat, copied=copied, unsure=unsure)
    if is_new and spec.arrays:
        _check_arrays(name, call, rebuild(spec, leaves, box_all=True), flat)
    if flat.spec is spec or not _is_loop_body(leaves or jax.tree.leaves(given)):
        return out, flat
    if not differ_in_weakness_only(spec, flat.spec):
        raise refusals.grows(name, differences(spec, flat.spec))
    # The carry keeps one type: the body is traced as every pass after the first sees it, and keeps its spec.
    out, flat = apply(name, call, flat.spec, leaves, names, given=given, box_all=box_all)
    return out, Flat(spec, flat.leaves, {})


def _check_arrays(name: str, call: Callable[[Roots], Any], clone: Clone, flat: Flat) -> None:
    """Raises where a method that `init` has not seen may write to an array: `row = self.a[1]; row += x`."""
    with contextlib.suppress(Exception):  # the method worked with plain arrays; boxes take less
        jax.eval_shape(lambda: [call(clone.roots), None][1])
    for store in (each.store for each in clone.origins.objects if isinstance(each, NumpyBox)):
        if isinstance(store.node, Constant) and store.path not in flat.promoted:
            for line in sorted(store.unsure):
                raise refusals.writes_numpy(name, store.path, line)


def _check_out(name: str, out: Object, clone: Clone) -> None:
    own = {id(each): type(each).__name__ for each in clone.origins.objects}
    for leaf in jax.tree.leaves(out):
        if id(leaf) in own:
            raise refusals.returned_object(name, own[id(leaf)])


def _is_loop_body(leaves: Sequence[Any]) -> bool:
    """Whether the body of a loop is being traced with these leaves, where JAX says so."""
    return any(traced_for(leaf) in _LOOPS for leaf in leaves)


@contextlib.contextmanager
def _explained(name: str, spec: Spec) -> Iterator[None]:
    """Says which attribute a tracing error is about, where the failing line names one."""
    try:
        yield
    except (TypeError, ValueError, IndexError) as error:  # what JAX raises for a traced value
        refusal = _refusal_for(error, name, spec)
        if refusal is None:
            raise
        raise refusal from error


def _refusal_for(error: Exception, name: str, spec: Spec) -> Exception | None:
    if isinstance(error, TypeError) and (found := _NO_PYTREE.search(str(error))):
        kind, path = found[1].rpartition(".")[2], found[2].rstrip(".")
        nodes = [node for root in spec.roots for node in walk(root)]
        if any(isinstance(node, Node) and node.kind.__name__ == kind for node in nodes):
            return refusals.compiled_inside(name, kind, path)
    where = _last_line_of_a_user(error)
    if where is None:
        return None
    line = where.text
    read_only = isinstance(error, ValueError) and "read-only" in str(error)
    converted = isinstance(error, jax.errors.TracerArrayConversionError)
    if read_only or (converted and _WRITES.search(line)):
        named = [path for path in spec.arrays if _names(line, path)]
        if named or (read_only and len(spec.arrays) == 1):
            return refusals.writes_numpy(name, (named or spec.arrays)[0], where)
    if converted and (called := re.search(r"\b(?:np|numpy)\.([\w.]+)\(", line)):
        return refusals.calls_numpy(name, called[1], where)
    if not isinstance(error, jax.errors.JAXTypeError) and not _NEEDS_VALUE.search(str(error)):
        return None
    traced = [path for path in (*(leaf.path for leaf in spec.leaves), *spec.arrays) if _names(line, path)]
    return refusals.branches(name, traced, where) if traced else None


def _last_line_of_a_user(error: Exception) -> Line | None:
    lines = [
        Line(frame.f_code.co_filename, number)
        for frame, number in traceback.walk_tb(error.__traceback__)
        if not is_of_a_library(module := frame.f_globals.get("__name__")) and not is_of_an_engine(module)
    ]
    return lines[-1] if lines else None


def _names(line: str, path: str) -> bool:
    last = re.findall(r"[A-Za-z_]\w*", re.sub(r"\[[^\]]*\]", "", path))
    return bool(last) and re.search(rf"\b{last[-1]}\b", line) is not None
