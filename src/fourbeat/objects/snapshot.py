"""A record of what a function can reach at one moment: it tells what has changed since, and undoes it."""

import dataclasses
import random
from collections.abc import Container, Iterator, Sequence
from typing import Any

import numpy as np

from fourbeat.objects.comparing import ABSENT, same
from fourbeat.objects.families import Label, suffix
from fourbeat.objects.ownership import is_bookkeeping
from fourbeat.objects.slots import EnvironmentSlots, RandomSlots, Reader, Slots, is_whole
from fourbeat.types import Object

HIDDEN = ("_pytree__nodes", "_pytree__state", "_trace_state")  # Flax's own records beside the values
Key = tuple[Any, ...]


@dataclasses.dataclass(frozen=True)
class Holder:
    """A thing with slots, under the first path that led to it.

    `owner` is the module it belongs to. `role` is the word for its path ("global", "nonlocal", "").
    """

    key: Key
    path: str
    value: Object
    reader: Reader
    slots: Slots
    owner: str
    role: str = ""

    def slot_path(self, label: Label | None) -> str:
        """The path of one slot, or of the whole."""
        if label is None:
            return self.path
        return (self.path + suffix(label)).lstrip(".")

    def now(self) -> "Holder":
        """The same holder with its slots as they are now."""
        return dataclasses.replace(self, slots=self.reader.read(self.value))


@dataclasses.dataclass(frozen=True)
class Change:
    """A slot that holds another value than before. `label` is None for a whole container."""

    holder: Holder
    label: Label | None
    before: Object
    after: Object

    @property
    def path(self) -> str:
        """Where the slot is, as a person writes it."""
        return self.holder.slot_path(self.label)

    @property
    def place(self) -> Key:
        """The key that identifies this slot."""
        return (*self.holder.key, self.label)

    def now(self) -> Object:
        """The value in the slot now: ABSENT if the slot is gone, a list for a whole container."""
        slots = self.holder.now().slots
        return list(slots.values()) if self.label is None else slots.get(self.label, ABSENT)

    def write(self, value: Object) -> None:
        """Gives the slot another value; ABSENT takes it away. A container as a whole must be a list."""
        holder = self.holder
        if self.label is None:
            list.__setitem__(holder.value, slice(None), value)
            return
        slots = {**holder.now().slots, self.label: value}
        holder.reader.write(holder.value, {k: v for k, v in slots.items() if v is not ABSENT})


class Snapshot:
    """The slots of holders at one moment.

    Args:
      holders: the holders to record; each was just read.
    """

    def __init__(self, holders: Sequence[Holder]):
        self.holders = tuple(holders)

    def changes(self) -> list[Change]:
        """The slots that hold an unequal value now. Counts of traces are left out."""
        looked_at = (holder for holder in self.holders if not is_bookkeeping(holder.owner))
        return [change for holder in looked_at for change in _changes(holder)]

    def restore(self) -> None:
        """Restores every slot. It cannot restore iterators and things outside the process."""
        for holder in self.holders:
            now = holder.reader.read(holder.value)
            if list(now) != list(holder.slots) or any(now[k] is not v for k, v in holder.slots.items()):
                holder.reader.write(holder.value, holder.slots)

    def among(self, keys: Container[Key]) -> list[Holder]:
        """The holders with these keys."""
        return [holder for holder in self.holders if holder.key in keys]


def process_holders() -> list[Holder]:
    """What every function can reach: the global random generators and the environment variables."""
    generators = {
        "np.random": np.random.mtrand._rand,
        "random": random.getstate.__self__,  # pyright: ignore[reportFunctionMemberAccess]
    }
    found: list[Holder] = []
    for name, generator in generators.items():
        reader = RandomSlots()
        found.append(Holder((id(generator),), name, generator, reader, reader.read(generator), ""))
    reader = EnvironmentSlots()
    return [*found, Holder(("os.environ",), "os.environ", None, reader, reader.read(None), "")]


def _changes(holder: Holder) -> Iterator[Change]:
    before, after = holder.slots, holder.reader.read(holder.value)
    if is_whole(holder.value) and before.keys() != after.keys():
        yield Change(holder, None, list(before.values()), list(after.values()))
        return
    for label in {**before, **after}:
        old, new = before.get(label, ABSENT), after.get(label, ABSENT)
        if label[1] not in HIDDEN and old is not new and not same(old, new):
            yield Change(holder, label, old, new)
