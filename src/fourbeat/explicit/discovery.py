"""Which numbers are state: the methods are traced, and what they changed is promoted.

Repeated to a fixed point over all methods and the structures they lead to, because what one method
changes may decide what another one changes.
"""

import inspect
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from fourbeat.explicit import identities
from fourbeat.explicit.applying import apply
from fourbeat.explicit.flattening import Flat, flatten
from fourbeat.explicit.refusals import UnseenWriteError
from fourbeat.explicit.specs import Form, Policy, Spec
from fourbeat.objects.constants import is_number

Call = Callable[..., Any]  # takes the roots, then the arguments
_MAX_STRUCTURES = 4
_LIBRARIES = ("flax", "equinox", "jax", "jaxlib", "optax", "numpy", "builtins", "collections")


class Candidate:
    """A method with arguments to trace it with."""

    def __init__(
        self,
        name: str,
        call: Call,
        args: tuple[Any, ...],
        keywords: Mapping[str, Any],
        axis_sizes: Mapping[str, int],
    ):
        self.axis_sizes = dict(axis_sizes)
        self.name = name
        self.call = call
        self.args = args
        self.keywords = dict(keywords)
        self.error: Exception | None = None
        self.has_worked = False


def discover(
    roots: tuple[Any, ...], names: tuple[str, ...], policy: Policy, candidates: list[Candidate]
) -> Flat:
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
    spec: Spec, leaves: tuple[Any, ...], names: tuple[str, ...], candidates: list[Candidate]
) -> dict[str, Form]:
    """What the candidates promote, from the given structure and those they lead to."""
    avals = tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves)
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
            # What was promoted may be replaced no more: then the next round says what moves.
            found.update(numbers or dict.fromkeys(flat.promoted, identities.SEEN))
            if flat.spec not in known and len(known) < _MAX_STRUCTURES:
                known.add(flat.spec)
                queue.append((flat.spec, flat.leaves))
        if found:
            return found
    return found


def _traced(candidate: Candidate, spec: Spec, avals: tuple[Any, ...], names: tuple[str, ...]) -> Flat | None:
    """One trace; where it fails, again with NumPy arrays boxed and with numbers as they are."""
    first_error = None
    given = jax.tree.leaves((candidate.args, candidate.keywords))
    has_numbers = any(is_number(leaf) for leaf in given)
    for fixed_numbers in (False, True) if has_numbers else (False,):
        for box_all in (False, True):
            try:
                flat = _trace(candidate, spec, avals, names, box_all, fixed_numbers)
            except Exception as error:  # user code may raise anything
                if first_error is None or isinstance(first_error, UnseenWriteError):
                    first_error = error
                if not box_all and not spec.arrays:
                    break
                continue
            candidate.has_worked = True
            return flat
    candidate.error = candidate.error or first_error
    return None


def _trace(
    candidate: Candidate,
    spec: Spec,
    avals: tuple[Any, ...],
    names: tuple[str, ...],
    box_all: bool,
    fixed_numbers: bool,
) -> Flat:
    given, structure = jax.tree.flatten((candidate.args, candidate.keywords))
    traced = [i for i, leaf in enumerate(given) if _is_traceable(leaf, fixed_numbers)]
    seen: list[Flat] = []

    def traced_call(leaves: tuple[Any, ...], arrays: list[Any]) -> None:
        filled = list(given)
        for position, array in zip(traced, arrays, strict=True):
            filled[position] = array
        args, keywords = jax.tree.unflatten(structure, filled)
        _, flat = apply(
            candidate.name,
            lambda roots: candidate.call(roots, *args, **keywords),
            spec,
            leaves,
            names,
            box_all=box_all,
        )
        shapes = (jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in flat.leaves)
        seen.append(Flat(flat.spec, tuple(shapes), flat.promoted))  # no tracer outlives the trace

    for axis, size in candidate.axis_sizes.items():
        traced_call = jax.vmap(traced_call, in_axes=None, axis_name=axis, axis_size=size)
    jax.eval_shape(traced_call, avals, [given[position] for position in traced])
    return seen[-1]


def candidates_of(target: Any, args: tuple[Any, ...], keywords: Mapping[str, Any]) -> Iterator[str]:
    """The names of the methods of `target` that accept these arguments."""
    kind = type(target)
    for name in dir(kind):
        if name.startswith("_") and name != "__call__":
            continue
        definer = next((base for base in kind.__mro__ if name in vars(base)), kind)
        if definer.__module__.partition(".")[0] in _LIBRARIES and name != "__call__":
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


def accepts(function: Any, args: tuple[Any, ...], keywords: Mapping[str, Any]) -> bool:
    """Whether `function` can be called with these arguments."""
    try:
        inspect.signature(function).bind(*args, **keywords)
    except (TypeError, ValueError):
        return False
    return True


def _is_traceable(value: Any, fixed_numbers: bool) -> bool:
    if isinstance(value, (jax.Array, np.ndarray)):
        return True
    return isinstance(value, (int, float, complex, np.generic)) and not fixed_numbers
