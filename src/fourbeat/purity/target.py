"""The callable to check, without the transformations around it: its function, object and arguments."""

import dataclasses
import functools
import inspect
import re
import types
from collections.abc import Callable, Mapping
from typing import Any, TypeGuard

from fourbeat.objects.constants import NNX_JITTED, wrapped_function
from fourbeat.objects.ownership import Ownership
from fourbeat.objects.reaching import reach
from fourbeat.objects.snapshot import Snapshot
from fourbeat.trees.arguments import Arguments, positional_names
from fourbeat.trees.articles import a_type
from fourbeat.types import Args, Keywords, Object


@dataclasses.dataclass(frozen=True)
class Target:
    """A callable taken apart.

    `call` is traced; `function` is the Python function in it; `owner` the object it is bound to, or
    None; `name` how a person calls it; `keeps_nnx_writes` says that `nnx.jit` hands writes to NNX
    arguments back; `bound` holds the arguments that a partial fixes, by name.
    """

    call: Callable[..., Any]
    function: Object
    owner: Object
    name: str
    keeps_nnx_writes: bool
    bound: Mapping[str, Any]

    @property
    def modules(self) -> tuple[str | None, ...]:
        """The modules that the function and its object come from."""
        kind = self.owner if isinstance(self.owner, type) else type(self.owner)
        of_owner = None if self.owner is None else kind.__module__
        return (getattr(self.function, "__module__", None), of_owner)

    def roots(self) -> list[tuple[str, Any]]:
        """The values from which the function reaches others, by path, without its arguments."""
        found = [] if self.owner is None else [("self", self.owner)]
        return [*found, *self.bound.items(), (self.name, self.function)]

    def reached(self, arguments: Arguments, own: Ownership) -> Snapshot:
        """Every slot that the function reaches in a call, as it is now."""
        roots = [*self.roots(), *self.arguments(arguments.args, arguments.keywords)]
        return reach(roots, own, owner=self.modules[0] or "", skip=arguments.traced)

    def arguments(self, args: Args, keywords: Keywords) -> list[tuple[str, Any]]:
        """The arguments by the names of their parameters."""
        names = [name for name in self.parameters if name not in self.bound]
        names += [f"args[{i}]" for i in range(len(names), len(args))]
        return [*zip(names, args, strict=False), *keywords.items()]

    @property
    def parameters(self) -> list[str]:
        """The names of the positional parameters, without `self`."""
        names = positional_names(self.function)
        return names[1:] if self.owner is not None else names

    @property
    def variable(self) -> str:
        """A name for the object in example code: `running_mean` for a `RunningMean`."""
        kind = self.owner if isinstance(self.owner, type) else type(self.owner)
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", kind.__name__).lower()


def resolve(fn: Object) -> Target:
    """Takes `jax.jit`, `nnx.jit`, `eqx.filter_jit`, partials and bound methods apart.

    Raises:
      TypeError: `fn` cannot be called.

    >>> import jax
    >>> class Counter:
    ...     def count(self): ...
    >>> target = resolve(jax.jit(Counter().count))
    >>> target.name, target.variable
    ('Counter.count', 'counter')
    """
    if not callable(fn):
        raise TypeError(f"cannot check {fn!r}: it is {a_type(fn)}, which cannot be called. Pass a function.")
    owner, bound, keeps = None, {}, False
    call = fn = _unwrapped(fn)
    if isinstance(fn, NNX_JITTED):
        keeps, call = True, fn.fun
        fn = call
    while not isinstance(fn, types.FunctionType):
        if isinstance(fn, types.MethodType):
            owner, fn = fn.__self__, _unwrapped(fn.__func__)
            call = functools.partial(fn, owner) if callable(fn) else fn
        elif isinstance(fn, functools.partial) or _is_partial_like(fn):
            bound = {**bound, **_bound(fn)}
            fn = _unwrapped(fn.func)
            if isinstance(fn, types.MethodType):
                owner, fn = fn.__self__, _unwrapped(fn.__func__)
        elif isinstance(fn, NNX_JITTED):
            keeps, fn = True, fn.fun
        elif isinstance(inspect.getattr_static(type(fn), "__call__", None), types.FunctionType):
            owner, fn = fn, type(fn).__call__
        else:
            break
    return Target(call, fn, owner, _name(fn, owner), keeps, bound)


def _unwrapped(fn: Object) -> Any:
    """The function inside compiled and cached ones. An `nnx.jit` stays, because its meaning differs."""
    while not isinstance(fn, (NNX_JITTED, functools._lru_cache_wrapper)):
        inner = getattr(fn, "__dict__", {}).get("__unchecked__") or wrapped_function(fn)
        if inner is None:
            return fn
        fn = inner
    return fn


def _is_partial_like(fn: Object) -> TypeGuard[functools.partial]:
    """Equinox binds its jitted methods in a class of its own."""
    return all(hasattr(fn, name) for name in ("func", "args", "keywords"))


def _bound(partial: Object) -> dict[str, Any]:
    names = positional_names(_unwrapped(partial.func))
    names += [f"args[{i}]" for i in range(len(names), len(partial.args))]
    return {**dict(zip(names, partial.args, strict=False)), **partial.keywords}


def _name(fn: Object, owner: Object) -> str:
    name = getattr(fn, "__name__", type(fn).__name__)
    if owner is not None:
        kind = owner if isinstance(owner, type) else type(owner)
        return f"{kind.__name__}.{name}"
    return getattr(fn, "__qualname__", name).rpartition("<locals>.")[2]
