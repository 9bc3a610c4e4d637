"""Places that hold a value outside of any object graph: read, put back, and compared."""

import zlib
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

ABSENT: Any = object()


def read_slot(holder: Any, slot: str) -> Any:
    """What a name in a namespace, a class or a cell holds now."""
    if isinstance(holder, dict):
        return holder.get(slot, ABSENT)
    if isinstance(holder, type):
        return vars(holder).get(slot, ABSENT)
    return holder.cell_contents


def write_slot(holder: Any, slot: str, value: Any) -> None:
    """Puts a value back where it was."""
    if isinstance(holder, dict):
        if value is ABSENT:
            holder.pop(slot, None)
        else:
            holder[slot] = value
    else:
        setattr(holder, slot, value)


def contents_changed(before: Any, after: Any) -> bool:
    """Whether an object holds other things than before; keys that were added do not count."""
    new = dict(zip(after.labels, after.values, strict=True))
    for label, part in zip(before.labels, before.values, strict=True):
        if label not in new or not same_value(part, new.pop(label)):
            return True
    return any(label[0] != "key" for label in new)


def added_keys(before: Any, after: Any) -> dict[Any, Any]:
    """The items that a dict gained."""
    new = dict(zip(after.labels, after.values, strict=True))
    known = set(before.labels)
    return {label[1]: part for label, part in new.items() if label not in known}


def same_value(before: Any, after: Any) -> bool:
    """Whether a slot still holds the same thing."""
    if before is after:
        return True
    plain = (bool, int, float, complex, str, bytes, type(None))
    return type(before) is type(after) and isinstance(before, plain) and before == after


def holds_tracer(value: Any) -> bool:
    """Whether a pytree holds a tracer."""
    return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(value))


def digest(array: np.ndarray) -> int:
    """A checksum of the contents of an array that is too large to be copied."""
    return zlib.crc32(np.ascontiguousarray(array).data)


def short(value: Any) -> str:
    """A value in at most 40 characters, for an error."""
    if value is ABSENT:
        return "absent"
    if isinstance(value, Tracer):
        return f"a traced {value.aval}"
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def listed(parts: Any) -> str:
    """The first parts of an object, for an error."""
    pairs = zip(parts.labels, parts.values, strict=True)
    shown = ", ".join(f"{name}: {short(part)}" for (_, name), part in list(pairs)[:4])
    return f"{{{shown}}}" + (" and more" if len(parts.labels) > 4 else "")
