"""The errors for what functionalize refuses, and how to write it instead.

Every text says what failed, where, the values seen, and the repair.
"""

from jax.typing import DTypeLike

from fourbeat.objects.lines import Line
from fourbeat.types import Args, Keywords, Object


class FunctionalizeError(TypeError):
    """A stateful object does something that has no pure form; the text names the path and the repair."""


class UnseenWriteError(FunctionalizeError):
    """A method writes a NumPy array in place, and `init` has not seen that write."""


_BATCHED = "pick one entry first, for example jax.tree.map(lambda leaf: leaf[0], state)"
_OUTSIDE = "which lies outside the objects made explicit"


def unusable(path: str, what: str, repair: str) -> FunctionalizeError:
    """The error for touching an attribute that cannot be part of a state."""
    return _no_state(path, f"it is {what}", repair)


def too_large(path: str, value: Object, dtype: DTypeLike) -> FunctionalizeError:
    """The error for an integer that the state's dtype cannot hold."""
    why = f"{value} does not fit {dtype}"
    return _no_state(path, why, "start from a smaller number, or set jax_enable_x64")


def shares_memory(path: str, other: str) -> FunctionalizeError:
    """The error for a NumPy array written in place whose memory another attribute shows."""
    why = f"it is written in place and shares NumPy memory with {other}"
    return _no_state(path, why, "keep one of the two attributes and take the view where it is used")


def traced_text(path: str, text: str) -> FunctionalizeError:
    """The error for text made from a number that is traced."""
    return _no_state(
        path,
        f"it holds the text {text!r}, which was made from a traced number",
        "key by the number's position in an array, or keep the number out of the state with "
        "functionalize(..., static_paths=...)",
    )


def filled_cache(name: str, cache: str, line: Line | None) -> FunctionalizeError:
    """The error for a method cached by object: it would answer for a state that is gone."""
    return _error(
        f"{name} filled {cache}{_at(line)}, which remembers results by object and not by what the object "
        "holds",
        "keep the result in an attribute, or cache a function of plain arguments",
    )


def left_a_tracer(name: str, place: str) -> FunctionalizeError:
    """The error for a traced value that a later call would find."""
    return _error(
        f"{name} left a traced value in {place}, {_OUTSIDE}; the value is of no use after the trace",
        "cache NumPy arrays in place of JAX arrays, or keep the value in an attribute",
    )


def wrote_outside(name: str, slot: str, before: str, after: str, line: Line | None) -> FunctionalizeError:
    """The error for a write that no state of ours can carry."""
    return _error(
        f"{name} wrote {slot} ({before} -> {after}){_at(line)}, {_OUTSIDE}; a compiled call would run that "
        "line once",
        f"keep it in an attribute, or return it; {slot} was put back",
    )


def wrote_large_array(name: str, slot: str, num_bytes: int, line: Line | None) -> FunctionalizeError:
    """The error for a write to an array outside of the objects that is too large to be kept twice."""
    return _error(
        f"{name} wrote into {slot} ({num_bytes / 1e6:.0f} MB){_at(line)}, {_OUTSIDE}; a compiled call would "
        "run that line once",
        "keep it in an attribute, or return it; arrays above 64 MiB are not put back",
    )


def advanced(name: str, slot: str, line: Line | None) -> FunctionalizeError:
    """The error for taking an item from an iterator outside of the objects."""
    return _error(
        f"{name} advanced the iterator {slot}{_at(line)}, {_OUTSIDE}; every compiled call would use the same "
        "item",
        "pass the next item as an argument, or keep an array and an index into it in attributes; an iterator "
        "cannot be put back",
    )


def drew(name: str, source: str, line: Line | None) -> FunctionalizeError:
    """The error for drawing numbers from a random generator outside of the objects."""
    return _error(
        f"{name} drew from {source}{_at(line)}, {_OUTSIDE}; every compiled call would repeat the same "
        "numbers",
        "keep a key, self.key = jax.random.key(seed), and split it in the method",
    )


def read_outside(name: str, source: str, line: Line | None) -> FunctionalizeError:
    """The error for reading a clock or the environment."""
    return _error(
        f"{name} read {source}{_at(line)}; every compiled call would use what was read then",
        "read it before the call, and pass the value as an argument or keep it in an attribute",
    )


def branches(name: str, paths: list[str], where: Line) -> FunctionalizeError:
    """The error for Python control flow on a number that is traced."""
    return _error(
        f"{name} needs the Python value of {', '.join(paths)} at {where}: `{where.text}`. It is state, so it "
        "is traced and has no Python value",
        "use jnp.where or jax.lax.cond; or keep it out of the state with "
        f"functionalize(..., static_paths=({paths[0]!r},)), which compiles once for each value",
    )


def writes_numpy(name: str, path: str, where: Line) -> UnseenWriteError:
    """The error for an in-place NumPy write that `init` has not seen."""
    what = (
        f"{name} writes the NumPy array {path} in place at {where}: `{where.text}`. F.init did not see that "
        "write, so the array is read-only"
    )
    repair = (
        f"F.init(..., methods={{{_method(name)!r}: (its arguments,)}}), or "
        f"functionalize(..., state_paths=({path!r},))"
    )
    return UnseenWriteError(*_error(what, repair).args)


def writes_through_a_copy(name: str, path: str) -> FunctionalizeError:
    """The error for an in-place NumPy write to what `np.asarray` gave, which is a copy while tracing."""
    return _error(
        f"{name} writes into the NumPy array {path} through np.asarray, or a NumPy function that takes it "
        "as it is; while the method is traced that is a copy, and the write is lost",
        f"write into the attribute itself, {path}[...] = ..., or a slice of it",
    )


def replaces_an_array(name: str, line: Line) -> FunctionalizeError:
    """The error for `+=` of a JAX value to an array that NumPy writes elsewhere."""
    return _error(
        f"{name} has an operator such as += between a NumPy array and a JAX value{_at(line)}. In an ordinary "
        "call that makes a new array and leaves NumPy's as it is; in a compiled one it cannot be told from "
        "a write",
        "row = row + x for a new array, row[...] += x for a write",
    )


def calls_numpy(name: str, function: str, where: Line) -> FunctionalizeError:
    """The error for a NumPy function of a traced value."""
    return _error(
        f"{name} gives a traced value to NumPy at {where}: `{where.text}`",
        f"jnp.{function} in place of np.{function}",
    )


def compiled_inside(name: str, kind: str, path: str) -> FunctionalizeError:
    """The error for a method under `jax.jit` or `nnx.jit` that takes a plain object."""
    return _error(
        f"{name} passes a {kind} as {path} to a function under jax.jit or nnx.jit, which take arrays, "
        f"pytrees and NNX modules; a {kind} is none of these",
        f"take the jit off that function, and compile outside: jax.jit(F.{_method(name)})",
    )


def grows(name: str, changes: list[str]) -> FunctionalizeError:
    """The error for a loop body that changes the structure it carries."""
    listed = "\n".join(f"  {change}" for change in changes)
    return FunctionalizeError(
        f"{name} changes the structure of its state inside a loop, whose carry must keep its "
        f"structure:\n{listed}\n"
        f"Repair: allocate it before the loop (an array to write into, a number instead of None), "
        f"or return the value and let scan stack it."
    )


def returned_object(name: str, kind: str) -> FunctionalizeError:
    """The error for a method that returns an object of the graph instead of values."""
    return _error(
        f"{name} returned a {kind}, which is not an array or a pytree of arrays",
        "return the values you need; the object itself travels as the state",
    )


def not_a_state(name: str, given: Object) -> FunctionalizeError:
    """The error for a first argument that is no state."""
    return _error(
        f"{name} takes the state first and got {type(given).__name__}",
        f"state = F.init(...); out, state = {name}(state, ...)",
    )


def accepted_by_none(name: str, args: Args, keywords: Keywords) -> FunctionalizeError:
    """The error for example arguments that fit no method."""
    given = [type(each).__name__ for each in args]
    given += [f"{key}={type(each).__name__}" for key, each in keywords.items()]
    return _error(
        f"no method of {name} accepts ({', '.join(given)})", 'F.init(methods={"name": (its arguments,)})'
    )


def uncommittable(path: str, what: str) -> FunctionalizeError:
    """The error for a state that cannot be written back to one live object."""
    repair = "commit outside jit" if what == "a tracer" else _BATCHED
    return _error(f"cannot commit {path}: it is {what}", repair)


def unknown_objects(why: str, repair: str) -> FunctionalizeError:
    """The error for a state whose objects have moved, if their live objects cannot be found."""
    return _error(f"cannot commit this state: its objects changed places, and {why}", repair)


def _no_state(path: str, why: str, repair: str) -> FunctionalizeError:
    return _error(f"cannot make {path} explicit state: {why}", repair)


def _error(what: str, repair: str) -> FunctionalizeError:
    return FunctionalizeError(f"{what}.\nRepair: {repair}.")


def _at(line: Line | None) -> str:
    return f" at {line}" if line else ""


def _method(name: str) -> str:
    return name.rpartition(".")[2]


class Forbidden:
    """Stands in a clone for what cannot be state; raises as soon as it is used."""

    __slots__ = ("_fourbeat_error", "_fourbeat_node")

    def __init__(self, error: FunctionalizeError, node):
        object.__setattr__(self, "_fourbeat_error", error)
        object.__setattr__(self, "_fourbeat_node", node)

    def __getattr__(self, name):
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        raise FunctionalizeError(*object.__getattribute__(self, "_fourbeat_error").args)


def _refuse(self, *args, **keywords):
    raise FunctionalizeError(*object.__getattribute__(self, "_fourbeat_error").args)


for _name in (
    *["__call__", "__iter__", "__next__", "__enter__", "__exit__", "__len__", "__getitem__", "__setitem__"],
    *["__contains__", "__bool__", "__setattr__", "__delattr__", "__add__", "__await__"],
):
    setattr(Forbidden, _name, _refuse)
