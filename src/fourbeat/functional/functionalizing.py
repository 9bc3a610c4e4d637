"""Stateful objects as pure functions of an explicit state."""

import functools
import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp

from fourbeat.functional import refusals
from fourbeat.functional.applying import apply
from fourbeat.functional.committing import commit
from fourbeat.functional.discovery import Candidate, candidates_of, discover
from fourbeat.functional.identities import PATH, Identities
from fourbeat.functional.object_state import ObjectState
from fourbeat.functional.specs import Roots, StatePolicy
from fourbeat.objects.constants import NNX_JITTED
from fourbeat.trees.arguments import positional_names
from fourbeat.types import Args, Keywords, Object


class StatefulUseWarning(UserWarning):
    """A number became state in a method that `init` has not seen; that costs one more compilation."""


class Functionalized:
    """What `functionalize` gives: methods of the objects as `(state, *args) -> (out, state)`."""

    is_opaque = True  # other objects that hold it keep it as it is

    def __init__(
        self,
        target: Object,
        objects: tuple[Any, ...],
        keywords: Keywords,
        policy: StatePolicy,
    ):
        self._target = target
        self._roots = (target, *objects, *keywords.values())
        self._keywords = tuple(keywords)
        self._policy = policy
        self._methods: dict[str, Callable[..., Any]] = {}
        self._seen: set[str] = set()  # labels of the methods that an `init` could trace
        self._identities = Identities()
        self._paths = _root_paths(target, objects, self._keywords)
        self.__name__ = getattr(target, "__name__", type(target).__name__)

    def init(
        self,
        *args: Any,
        methods: Mapping[str, Sequence[Any]] | None = None,
        axis_sizes: Mapping[str, int] | None = None,
        **keywords: Any,
    ) -> ObjectState:
        """The state of the objects as they are now; every leaf is a copy.

        `init` traces the methods that accept `args` to find what is state, so their Python side
        effects (prints, file writes) happen. A method that raises is left out unless it is the
        only one.

        Args:
          *args: example arguments; values do not matter, shapes and dtypes do.
          methods: the arguments of each method instead, for mixed signatures:
            `methods={"push": (x,), "reset": ()}`.
          axis_sizes: sizes of the mesh or `vmap` axes that the methods name, as in `jax.lax.psum`.
          **keywords: example keyword arguments.

        Returns:
          The state, a pytree of arrays named by attribute path.

        Raises:
          FunctionalizeError: no method can be made pure, or none accepts the arguments; the text
            says why.
          AttributeError: `methods` names a method that the object does not have.
        """
        if methods is None:
            found = [(name, args, keywords) for name in self._names_accepting(args, keywords)]
            if not found and (args or keywords):
                raise refusals.accepted_by_none(self.__name__, args, keywords)
        else:
            for name in methods:
                if not hasattr(self._target, name):
                    raise AttributeError(f"{self.__name__} has no method {name!r}")
            found = [(name, tuple(given), {}) for name, given in methods.items()]
        axes = axis_sizes or {}
        candidates = [
            Candidate(self._label(name), functools.partial(self._call, name), given, named, axes)
            for name, given, named in found
        ]
        flat = discover(self._roots, self._paths, self._policy, candidates)
        self._seen |= {candidate.name for candidate in candidates if candidate.has_worked}
        numbers = self._identities.number(flat.objects)
        if flat.spec.identities is not None:
            return ObjectState((*flat.leaves[:-1], jnp.asarray(numbers)), flat.spec)
        return ObjectState(flat.leaves, flat.spec)

    def commit(self, state: ObjectState) -> None:
        """Writes `state` into the live objects: identities, int and float types are kept.

        An object that methods moved is the same live object at its new place, and one that they
        replaced is a new one.

        Raises:
          FunctionalizeError: a leaf is a tracer or has batch axes, or it is not known which live
            objects are meant; nothing is written then.
        """
        self._check_state(state, "commit")
        commit(state.spec, state.leaves, self._roots, self._identities)

    def method(self, name: str) -> Callable[..., tuple[Any, ObjectState]]:
        """The pure form of one method or property, for names that are taken, such as `init`."""
        made = self._methods.get(name)
        if made is None:
            made = self._methods.setdefault(name, self._pure(name))
        return made

    def __getattr__(self, name: str) -> Callable[..., tuple[Any, ObjectState]]:
        if name.startswith("__"):
            raise AttributeError(name)
        member = inspect.getattr_static(type(self._target), name, None)
        if isinstance(member, (property, functools.cached_property)):
            return self.method(name)
        try:
            value = getattr(self._target, name)
        except AttributeError:
            kind = type(self._target).__name__
            raise AttributeError(f"{kind} has no method {name!r}") from None
        if not callable(value):
            raise AttributeError(
                f"{name} is an attribute, not a method; read it from a state: state[{name!r}]"
            )
        return self.method(name)

    def __call__(self, state: ObjectState, *args: Any, **keywords: Any) -> tuple[Any, ObjectState]:
        """Calls the function, or the object's `__call__`, on a state."""
        return self._run("__call__", state, args, keywords)

    def __repr__(self):
        return f"functionalize({self.__name__})"

    def _pure(self, name: str) -> Callable[..., tuple[Any, ObjectState]]:
        def method(state: ObjectState, *args: Any, **keywords: Any) -> tuple[Any, ObjectState]:
            return self._run(name, state, args, keywords)

        method.__name__ = name
        method.__qualname__ = self._label(name)
        return method

    def _run(self, name: str, state: ObjectState, args: Args, keywords: Keywords) -> tuple[Any, ObjectState]:
        self._check_state(state, name)
        label = self._label(name)
        out, flat = apply(
            label,
            lambda roots: self._call(name, roots, *args, **keywords),
            state.spec,
            state.leaves,
            self._paths,
            given=(args, keywords),
            is_new=label not in self._seen,
        )
        if flat.promoted:
            changed = ["the places of objects" if path == PATH else path for path in flat.promoted]
            warnings.warn(
                f"{label} changes {', '.join(changed)}, which F.init did not see; state from "
                f"now on, at the cost of one more compilation. Pass methods= to F.init.",
                StatefulUseWarning,
                stacklevel=4,
            )
        return out, ObjectState(flat.leaves, flat.spec)

    def _call(self, name: str, roots: Roots, *args: Any, **keywords: Any) -> Any:
        target, objects = roots[0], roots[1:]
        split = len(objects) - len(self._keywords)
        if name == "__call__":
            named = dict(zip(self._keywords, objects[split:], strict=True))
            return target(*objects[:split], *args, **named, **keywords)
        member = inspect.getattr_static(type(target), name, None)
        if isinstance(member, (property, functools.cached_property)):
            return getattr(target, name)
        return getattr(target, name)(*args, **keywords)

    def _names_accepting(self, args: Args, keywords: Keywords) -> list[str]:
        if len(self._roots) > 1 or inspect.isroutine(self._target):
            return ["__call__"]
        return list(candidates_of(self._target, args, keywords))

    def _label(self, name: str) -> str:
        if name == "__call__" and inspect.isroutine(self._target):
            return self.__name__
        return f"{type(self._target).__name__}.{name}"

    def _check_state(self, state: Object, name: str) -> None:
        if not isinstance(state, ObjectState):
            raise refusals.not_a_state(f"F.{name}" if name != "__call__" else "F", state)


def functionalize(
    target: Object,
    *objects: Any,
    static_paths: Sequence[str] = (),
    state_paths: Sequence[str] = (),
    **keywords: Any,
) -> Functionalized:
    """Pure functions, `(state, *args) -> (out, state)`, of objects that were not written for JAX.

    Args:
      target: a stateful object; or a function, whose first arguments are `objects`.
      *objects: stateful positional arguments of the function.
      static_paths: paths of attributes that stay Python values although methods change them, with all below
        them, such as `("n", "layers[0].mode")`. Each value costs one compilation.
      state_paths: paths of attributes that are state although no method changes them, with all below them.
      **keywords: stateful keyword arguments of the function.

    Returns:
      An object whose attributes are the pure methods; call it where the target is a function.

    Raises:
      TypeError: objects were given beside something that cannot be called.

    >>> import jax
    >>> class Counter:
    ...     def __init__(self):
    ...         self.n = 0
    ...     def count(self):
    ...         self.n += 1
    ...         return self.n
    >>> counter = Counter()
    >>> F = functionalize(counter)
    >>> state = F.init()
    >>> count = jax.jit(F.count)
    >>> for _ in range(3):
    ...     value, state = count(state)
    >>> int(value), counter.n
    (3, 0)
    >>> F.commit(state)
    >>> counter.n
    3
    """
    if isinstance(target, NNX_JITTED):
        target = target.fun
    if (objects or keywords) and not callable(target):
        raise TypeError(
            f"functionalize takes one object, or a function and its stateful arguments; "
            f"{type(target).__name__} cannot be called"
        )
    return Functionalized(target, objects, keywords, StatePolicy((), tuple(static_paths), tuple(state_paths)))


def _root_paths(target: Object, objects: tuple[Any, ...], keywords: tuple[str, ...]) -> tuple[str, ...]:
    if not objects and not keywords:
        return ("",)
    names = positional_names(target)
    names += [f"argument{i}" for i in range(len(names), len(objects))]
    return (getattr(target, "__name__", "function"), *names[: len(objects)], *keywords)
