"""Constructors: functions that make a model, in place of the model itself."""

import inspect
from collections.abc import Callable
from functools import partial
from types import FunctionType, MethodType
from typing import TypeGuard

from fourbeat.types import Model, Object


def is_constructor(given: Object) -> TypeGuard[Callable[[], Model]]:
    """Whether a function that makes a model is given, and no model.

    Raises:
      TypeError: it is a class, a compiled function, or a function that needs arguments. The text says what to
        pass.

    >>> is_constructor(lambda: {"w": 1.0}), is_constructor({"w": 1.0})
    (True, False)
    """
    if isinstance(given, type):
        raise TypeError(
            f"model is the class {given.__name__}. Pass a model that is made of it, {_call(given)}; or a "
            f"function without arguments that makes one, lambda: {_call(given)}."
        )
    is_function = isinstance(given, FunctionType | MethodType | partial)
    if callable(given) and not is_function and isinstance(getattr(given, "__wrapped__", None), FunctionType):
        raise TypeError(
            f"model is {type(given).__name__}, a compiled or wrapped function. Pass the function that it was "
            "made of: init itself compiles what makes a model over a mesh."
        )
    if not is_function:
        return False
    check_needs_nothing(given)
    return True


def check_needs_nothing(make: Callable) -> None:
    """Raises if a function that makes a model cannot be called without arguments; the text names them.

    Raises:
      TypeError: it needs an argument.
    """
    try:
        called = make.__init__ if isinstance(make, type) else make
        parameters = list(inspect.signature(called).parameters.values())
    except (TypeError, ValueError):  # a function of another language
        return
    parameters = parameters[isinstance(make, type) :]  # without self
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [each.name for each in parameters if each.default is each.empty and each.kind not in variadic]
    if needed:
        raise TypeError(
            f"{_name(make)}, which is to make the model, is called without arguments and needs "
            f"{', '.join(map(repr, needed))}. Write lambda: {_call(make)}."
        )


def _call(make: Object) -> str:
    """The call as a person would write it: `MLP(...)`."""
    return "make(...)" if _name(make) == "the lambda" else f"{_name(make)}(...)"


def _name(make: Object) -> str:
    name = getattr(make, "__name__", None) or getattr(getattr(make, "func", None), "__name__", repr(make))
    return "the lambda" if name == "<lambda>" else name
