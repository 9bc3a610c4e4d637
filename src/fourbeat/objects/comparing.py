"""Whether two values are the same to a compiled program, and how a person reads one."""

import itertools
import re
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from fourbeat.objects.families import family_of
from fourbeat.types import Object

ABSENT: Any = type("Absent", (), {"__repr__": lambda self: "absent"})()
_PLAIN = (bool, int, float, complex, str, bytes, type(None))
_MAX_SHOWN = 40  # characters
_MAX_ARRAY_SHOWN = 6  # elements
_MAX_SEARCHED = 2_000  # objects


def same(before: Object, after: Object) -> bool:
    """Whether two values are equal in type and structure, down to the contents of arrays.

    A tracer is the same as itself alone; NaN equals itself.

    >>> same([1, {"a": np.ones(2)}], [1, {"a": np.ones(2)}]), same(1, True)
    (True, False)
    """
    return _same(before, after, set())


def _same(before: Object, after: Object, open_pairs: set[tuple[int, int]]) -> bool:
    if before is after:
        return True
    if isinstance(before, jax.Array) and isinstance(after, jax.Array):
        return _same_arrays(before, after)
    if type(before) is not type(after):
        return False
    if isinstance(before, _PLAIN):
        return before == after if not isinstance(before, (float, complex)) else repr(before) == repr(after)
    if isinstance(before, (np.ndarray, np.generic)):
        return before.dtype == after.dtype and _same_contents(before, after)
    family = family_of(before)
    if family is None:
        return _equal(before, after)
    pair = (id(before), id(after))
    if pair in open_pairs:
        return True
    open_pairs.add(pair)
    old, new = family.parts(before), family.parts(after)
    if not _equal((old.fixed, old.labels), (new.fixed, new.labels)):
        return False
    return all(_same(one, other, open_pairs) for one, other in zip(old.values, new.values, strict=True))


def _same_arrays(before: jax.Array, after: jax.Array) -> bool:
    if isinstance(before, Tracer) or isinstance(after, Tracer):
        return False
    if before.is_deleted() or after.is_deleted() or before.dtype != after.dtype:
        return False
    if jax.numpy.issubdtype(before.dtype, jax.dtypes.prng_key):
        before, after = jax.random.key_data(before), jax.random.key_data(after)
    return _same_contents(np.asarray(before), np.asarray(after))


def _same_contents(before: Object, after: Object) -> bool:
    equal_nan = before.dtype.kind in "fc"
    return bool(np.array_equal(before, after, equal_nan=equal_nan))


def _equal(before: Object, after: Object) -> bool:
    try:
        return bool(before == after)
    except Exception:  # an `==` of the user's may raise anything
        return False


def holds_tracer(value: Object) -> bool:
    """Whether a tracer can be reached from `value`.

    >>> holds_tracer({"a": [1, 2]})
    False
    """
    queue, seen = [value], set()
    for each in queue:  # the queue grows while it is read
        if isinstance(each, Tracer):
            return True
        family = family_of(each)
        if family is None or id(each) in seen or len(seen) > _MAX_SEARCHED:
            continue
        seen.add(id(each))
        queue += family.parts(each).values
    return False


def plain(value: Object) -> Object:
    """The value itself where it is a plain Python value, else how a person reads it.

    >>> plain(3), plain(np.float32(2.5)), plain([1, 2])
    (3, 2.5, '[1, 2]')
    """
    value = value.item() if isinstance(value, np.generic) else value
    return value if isinstance(value, _PLAIN) else show(value)


def show(value: Object) -> str:
    """A value in at most 40 characters.

    >>> show(None), show(np.ones((2, 3, 4), np.float32)), show({"a": 1})
    ('None', 'float32[2,3,4]', "{'a': 1}")
    """
    if isinstance(value, Tracer):
        return f"a traced {value.aval.str_short()}"
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, (jax.Array, np.ndarray)):
        text = _show_array(value)
    elif isinstance(value, list):
        text = "[" + ", ".join(show(each) for each in itertools.islice(value, 5)) + "]"
        text = text[:-1] + ", ...]" if len(value) > 5 else text
    elif isinstance(value, dict) and len(value) <= 4:
        text = "{" + ", ".join(f"{key!r}: {show(each)}" for key, each in value.items()) + "}"
    elif isinstance(value, _PLAIN) or value is ABSENT:
        text = repr(value)
    else:
        text = _represented(value)
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 3] + "..."


def described(array: Object) -> str:
    """The dtype and shape of an array.

    >>> described(np.ones((2, 3)))
    'float64[2,3]'
    """
    return f"{array.dtype}[{','.join(map(str, array.shape))}]"


def without_addresses(text: str) -> str:
    """A text with its memory addresses cut off, so that it is the same in every process.

    >>> without_addresses("<object at 0x7f01>")
    '<object at 0x>'
    """
    return re.sub(r"0x[0-9a-f]+", "0x", text)


def _show_array(value: Object) -> str:
    is_key = jax.numpy.issubdtype(value.dtype, jax.dtypes.extended)
    is_gone = isinstance(value, jax.Array) and value.is_deleted()
    if (
        is_key
        or is_gone
        or value.size > _MAX_ARRAY_SHOWN
        or value.ndim > 1
        or value.dtype.kind not in "biufc"
    ):
        return described(value)
    return str(np.asarray(value))


def _represented(value: Object) -> str:
    name = type(value).__name__
    if type(value).__repr__ is object.__repr__ or callable(value):
        return f"a {name}"
    try:
        text = " ".join(repr(value).split())
    except Exception:  # a `__repr__` of the user's may raise anything
        return f"a {name}"
    return f"a {name}" if " at 0x" in text or len(text) > _MAX_SHOWN else text
