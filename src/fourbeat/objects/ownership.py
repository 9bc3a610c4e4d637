"""Which packages count as a function's own; for a library's function, those of the code that it was given."""

import functools
import importlib.util
import sys
from types import FrameType

# Python itself, and the libraries that arrays, modules and optimizers come from: no user wrote these.
_INSTALLED = ("jax", "jaxlib", "flax", "equinox", "optax", "numpy")
_LIBRARIES = frozenset({*sys.stdlib_module_names, *_INSTALLED} - {"__main__"})
_NEVER_OWN = frozenset({"jax", "jaxlib", "numpy", "builtins"})
_COUNTS_TRACES = "fourbeat.compiling"  # its writes while tracing are their own purpose
_ENGINES = ("fourbeat.purity", "fourbeat.objects", "fourbeat.functional", _COUNTS_TRACES)


class Ownership:
    """The packages whose slots and lines count as the function's own.

    Args:
      modules: the modules of the function and of the object that it is bound to.
    """

    def __init__(self, *modules: str | None):
        self._tops = {_top(module) for module in modules if module} - _NEVER_OWN
        self._is_library = all(top == "fourbeat" or _is_installed(top) for top in self._tops)

    def owns(self, module: str | None) -> bool:
        """Whether `module` lies in one of the packages, or is a plain module: one file, not installed.

        >>> Ownership("app.training").owns("app.models"), Ownership("app").owns("optax")
        (True, False)
        """
        top = _top(module or "")
        if top in self._tops:
            return True
        return _is_plain(top) or _is_of_the_program(top)

    def adopt(self, module: str | None) -> None:
        """Counts the module of a function that was handed in as own.

        That holds for scripts, and where a library's function is checked: `beats.train_step` is
        fourbeat's, the loss in it is not.
        """
        top = _top(module or "")
        if top == "__main__" or (top and self._is_library and not _is_installed(top)):
            self._tops.add(top)

    def owner_of(self, kind: type, encloser: str) -> str:
        """The module that the slots of an instance belong to; containers belong to what holds them."""
        module = kind.__module__ or ""
        is_container = _top(module) in sys.stdlib_module_names and module != "__main__"
        return encloser if is_container or _is_variable(kind) else module

    def is_own_frame(self, frame: FrameType) -> bool:
        """Whether a frame runs the function's own code."""
        module = frame.f_globals.get("__name__")
        return self.owns(module) and not is_of_an_engine(module)


def is_of_a_library(module: str | None) -> bool:
    """Whether a module belongs to Python or to the libraries that arrays, modules and optimizers come from.

    >>> is_of_a_library("optax._src.base"), is_of_a_library("app.models")
    (True, False)
    """
    return _top(module or "") in _LIBRARIES


def is_of_an_engine(module: str | None) -> bool:
    """Whether a module is a part of fourbeat that runs and watches the functions of a user."""
    return (module or "").startswith(_ENGINES)


def is_bookkeeping(module: str) -> bool:
    """Whether what `module` holds is written by every trace on purpose."""
    return module.startswith(_COUNTS_TRACES)


def is_users(module: str | None) -> bool:
    """Whether a module is neither Python's own nor an installed library: where a user writes.

    >>> is_users("optax"), is_users("collections")
    (False, False)
    """
    top = _top(module or "")
    return bool(top) and top != "fourbeat" and not _is_installed(top)


def _top(module: str) -> str:
    return module.partition(".")[0]


def _is_variable(kind: type) -> bool:
    from flax import nnx

    return issubclass(kind, nnx.Variable)  # written through the module that holds it


@functools.cache
def _is_installed(top: str) -> bool:
    if top in _NEVER_OWN or (top in sys.stdlib_module_names and top != "__main__"):
        return True
    place = _place(top)
    return "site-packages" in place or "dist-packages" in place


def _is_plain(top: str) -> bool:
    """Whether a module is no package and no installed library: a script, or one that it imports."""
    module = sys.modules.get(top)
    return getattr(module, "__file__", None) is not None and not hasattr(module, "__path__") and is_users(top)


def _is_of_the_program(top: str) -> bool:
    """Whether a module was made by the program itself, from no file."""
    module = sys.modules.get(top)
    if module is None or top in sys.stdlib_module_names or top in sys.builtin_module_names:
        return False
    return getattr(module, "__spec__", None) is None and not hasattr(module, "__file__")


def _place(top: str) -> str:
    place = getattr(sys.modules.get(top), "__file__", None)
    if place is None and top not in sys.modules:
        try:
            found = importlib.util.find_spec(top)
        except (ImportError, ValueError):
            return ""
        place = found.origin if found else None
    return (place or "").replace("\\", "/")
