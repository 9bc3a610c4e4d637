"""Finds which numbers are state: it traces the methods, and what they changed is promoted.

This is repeated until nothing new is promoted, over all methods and the structures that they lead to: what
one method changes may decide what another one changes.
"""

import dataclasses
import inspect
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from fourbeat.functional import identities, refusals
from fourbeat.functional.applying import apply
from fourbeat.functional.flattening import Flat, flatten
from fourbeat.functional.in_place import Watch
from fourbeat.functional.outside import Outside
from fourbeat.functional.rebuilding import rebuild_plain
from fourbeat.functional.refusals import UnseenWriteError
from fourbeat.functional.specs import Form, Leaves, Roots, Spec, StatePolicy
from fourbeat.objects.ownership import is_of_a_library
from fourbeat.trees.arguments import Arguments
from fourbeat.types import Args, Keywords, Object

Call = Callable[..., Any]  # takes the roots, then the arguments
_MAX_STRUCTURES = 4


class Candidate:
    """A method with arguments to trace it with, and what its traces have shown."""

    def __init__(
        self,
        name: str,
        call: Call,
        args: Args,
        keywords: Keywords,
        axis_sizes: Mapping[str, int],
    ):
        self.axis_sizes = dict(axis_sizes)
        self.name = name
        self.call = call
        self.args = args
        self.keywords = dict(keywords)
        self.fixed_numbers = False
        self.error: Exception | None = None
        self.has_worked = False
        self.was_watched = False
        self.boxed: dict[Spec, Flat] = {}  # what traces gave in which every NumPy array stood in a box
        self.looked_at: set[Spec] = set()  # structures whose NumPy arrays it was run with

    def arguments(self, fixed_numbers: bool) -> Arguments:
        """What of the arguments is traced: arrays, and numbers unless they are fixed."""
        return Arguments(self.args, self.keywords, fixed_numbers=fixed_numbers)


def discover(roots: Roots, names: tuple[str, ...], policy: StatePolicy, candidates: list[Candidate]) -> Flat:
    """The state of `roots` with every number that a candidate changes promoted.

    Raises:
      Exception: what the first candidate raised, where none of them could be traced.
    """
    start = flatten(roots, names, policy)
    while found := _changes(start.spec, start.leaves, names, candidates):
        policy = policy.with_forms(found)
        start = flatten(roots, names, policy)
    errors = [each.error for each in candidates if each.error is not None]
    if errors and not any(each.has_worked for each in candidates):
        raise errors[0]
    return flatten(roots, names, policy, copy=True)


def _changes(
    spec: Spec, leaves: Leaves, names: tuple[str, ...], candidates: list[Candidate]
) -> dict[str, Form]:
    """What the candidates promote, from the given structure and those they lead to."""
    avals = tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves)
    first, values = spec, leaves
    queue, known, found = [(spec, avals)], {spec}, {}
    for candidate in candidates:
        candidate.has_worked, candidate.error = False, None
    while queue:
        spec, avals = queue.pop(0)
        for candidate in candidates:
            flat = _traced(candidate, spec, avals, names)
            if flat is None:
                continue
            numbers = {path: form for path, form in flat.promoted.items() if path != identities.PATH}
            # A promoted number may no longer be replaced, so the next round decides which objects move.
            found.update(numbers or dict.fromkeys(flat.promoted, identities.SEEN))
            if flat.spec not in known and len(known) < _MAX_STRUCTURES:
                known.add(flat.spec)
                queue.append((flat.spec, flat.leaves))
        if found:
            break
    if found and not any(form.holds in ("numpy", "box") for form in found.values()):
        return found  # arrays are looked at once numbers have settled: each look is a trace
    for candidate in candidates:
        found.update(_written_in_place(candidate, first, values, names))
    return found


def _traced(candidate: Candidate, spec: Spec, avals: Leaves, names: tuple[str, ...]) -> Flat | None:
    """One trace; where it fails, again with NumPy arrays boxed and with numbers as they are."""
    first_error = None
    for fixed_numbers in (False, True) if candidate.arguments(False).has_numbers else (False,):
        for box_all in (False, True):
            try:
                flat = _trace(candidate, spec, avals, names, box_all, fixed_numbers)
            except Exception as error:  # user code may raise anything
                if first_error is None or isinstance(first_error, UnseenWriteError):
                    first_error = error
                if not box_all and not spec.arrays:
                    break
                continue
            candidate.has_worked = candidate.was_watched = True
            candidate.fixed_numbers = fixed_numbers
            if box_all or not spec.arrays:
                candidate.boxed[spec] = flat
            return flat
    candidate.error = candidate.error or first_error
    return None


def _written_in_place(
    candidate: Candidate, spec: Spec, leaves: Leaves, names: tuple[str, ...]
) -> dict[str, Form]:
    """The NumPy arrays that NumPy writes where a traced value makes a new array: `row = self.a[1]; row += x`.

    Boxes write in both cases. Where they wrote with a traced value, the method runs once on ordinary objects
    with the values that `init` was given, and shows which arrays NumPy writes.

    Raises:
      FunctionalizeError: an ordinary run writes where no box does, or does not where a box does.
    """
    has_arrays = spec.arrays or any(leaf.form.holds == "box" for leaf in spec.leaves)
    if not candidate.has_worked or not has_arrays or spec in candidate.looked_at:
        return {}
    candidate.looked_at.add(spec)
    try:
        flat = candidate.boxed.get(spec) or _trace(
            candidate, spec, leaves, names, box_all=True, fixed_numbers=candidate.fixed_numbers
        )
    except Exception:  # a method that cannot be traced with boxes was traced without them
        return {}
    if flat.unsure:
        return _unsure(candidate, spec, leaves, flat)
    for path in set(flat.copied) - flat.promoted.keys():
        if _writes_through(candidate, spec, leaves, path):
            raise refusals.writes_through_a_copy(candidate.name, path)
    return {}


def _unsure(candidate: Candidate, spec: Spec, leaves: Leaves, flat: Flat) -> dict[str, Form]:
    """The arrays that an ordinary run writes, among those that an operator wrote in boxes."""
    boxed = {path: form for path, form in flat.promoted.items() if form.holds == "box"}
    watch = Watch()
    error = _run_ordinarily(candidate, spec, leaves, watch.array)
    if error is not None:  # the method works in a trace alone, so the kind of its arguments decides
        has_jax = any(isinstance(leaf, jax.Array) for leaf in candidate.arguments(False).leaves)
        return {} if has_jax else boxed
    written = {path: form for path, form in boxed.items() if path in watch.written}
    is_box = any(leaf.form.holds == "box" for leaf in spec.leaves)
    for line in sorted(watch.replaced & flat.unsure) if written or is_box else ():
        raise refusals.replaces_an_array(candidate.name, line)
    return written


def _writes_through(candidate: Candidate, spec: Spec, leaves: Leaves, path: str) -> bool:
    """Whether an ordinary run fails because the array at `path` is read-only."""

    def array(at: str, value: Object) -> np.ndarray:
        made = np.array(value)
        made.flags.writeable = at != path
        return made

    error = _run_ordinarily(candidate, spec, leaves, array)
    return isinstance(error, ValueError) and "read-only" in str(error)


def _run_ordinarily(
    candidate: Candidate, spec: Spec, leaves: Leaves, array: Callable[[str, Any], np.ndarray]
) -> Exception | None:
    """Runs the method as Python runs it, on a copy of the objects; gives what it raised."""
    args, keywords = jax.tree.map(
        lambda leaf: leaf.copy() if isinstance(leaf, np.ndarray) else leaf,
        (candidate.args, candidate.keywords),
    )
    outside = Outside(spec, ())
    try:
        candidate.call(rebuild_plain(spec, leaves, array), *args, **keywords)
    except Exception as error:  # user code may raise anything
        return error
    finally:
        outside.put_back()
    return None


def _trace(
    candidate: Candidate,
    spec: Spec,
    avals: Leaves,
    names: tuple[str, ...],
    box_all: bool,
    fixed_numbers: bool,
) -> Flat:
    arguments = candidate.arguments(fixed_numbers)
    seen: list[Flat] = []

    def traced_call(leaves: Leaves, arrays: list[Any]) -> None:
        args, keywords = arguments.rebuilt(arrays)
        _, flat = apply(
            candidate.name,
            lambda roots: candidate.call(roots, *args, **keywords),
            spec,
            leaves,
            names,
            given=(args, keywords),
            box_all=box_all,
            watched=not candidate.was_watched,
        )
        shapes = tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in flat.leaves)
        seen.append(dataclasses.replace(flat, leaves=shapes, objects=()))  # no tracer outlives the trace

    for axis, size in candidate.axis_sizes.items():
        traced_call = jax.vmap(traced_call, in_axes=None, axis_name=axis, axis_size=size)
    jax.eval_shape(traced_call, avals, arguments.traced)
    return seen[-1]


def candidates_of(target: Object, args: Args, keywords: Keywords) -> Iterator[str]:
    """The names of the methods of `target` that accept these arguments."""
    kind = type(target)
    for name in dir(kind):
        if name.startswith("_") and name != "__call__":
            continue
        definer = next((base for base in kind.__mro__ if name in vars(base)), kind)
        if is_of_a_library(definer.__module__) and name != "__call__":
            continue
        member = vars(definer).get(name)
        if isinstance(member, (staticmethod, classmethod, type)) or not callable(member):
            continue
        if inspect.isgeneratorfunction(member) or inspect.iscoroutinefunction(member):
            continue
        if accepts(getattr(target, name), args, keywords):
            yield name
    held = getattr(target, "__dict__", {})
    for name, value in held.items():
        is_function = isinstance(value, (types.FunctionType, types.MethodType))
        if is_function and not name.startswith("_") and accepts(value, args, keywords):
            yield name


def accepts(function: Object, args: Args, keywords: Keywords) -> bool:
    """Whether `function` can be called with these arguments."""
    try:
        inspect.signature(function).bind(*args, **keywords)
    except (TypeError, ValueError):
        return False
    return True
