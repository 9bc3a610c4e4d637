"""An assertion that the host reads no array while training runs: the law of no hidden transfer."""

import contextlib
import ctypes
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fourbeat.looping.iteration import Loop
from fourbeat.looping.tick import Tick
from fourbeat.testing.callers import line_of_the_user

_BUFFER_OFFSET = 160  # of tp_as_buffer in the struct of a type: CPython 3.11 to 3.13 on 64 bits
_SHOWN = 5


class HostRead(NamedTuple):
    """One read of an array's values by the host.

    Attributes:
      shape: of the array.
      where: the line of your code that asked for it, as file:line; empty if there is none.
      is_at_a_mark: whether it happened in a tick at which a mark fell.
    """

    shape: tuple[int, ...]
    where: str
    is_at_a_mark: bool


@contextlib.contextmanager
def no_host_reads() -> Iterator[list[HostRead]]:
    """Passes where the host reads no `jax.Array` between the marks of the loops that run in the block.

    A read makes the host wait for the device: `float(loss)`, `np.asarray(x)`, `if loss > 3`, `print(loss)`,
    `.item()`, `jax.device_get`. A loop of `fourbeat.loop` may read in a tick at which a mark falls, and in
    its last; before the first tick and after the last one you may read too. Where no such loop runs in the
    block, no read is allowed. Only this thread is watched: a checkpoint is read by another one.

    It sees reads on a CPU as well, where they are no copies and JAX's own transfer guard says nothing. While
    the block runs, arrays have no buffer protocol, so that NumPy asks them for their values in sight:
    `memoryview(array)` fails.

    Yields:
      All reads so far, those at marks too.

    Raises:
      AssertionError: there were reads between marks; the text has their lines.

    >>> x = jnp.ones(3)
    >>> with no_host_reads():
    ...     y = 2 * x
    >>> with no_host_reads():
    ...     y = float(x[0])
    Traceback (most recent call last):
    AssertionError: the host read arrays 1 time between marks, and waited for the device each time:
      () at ...
    Keep the values on the device, and read them at a mark: if log in tick: print(float(logs["loss"])).
    """
    reads: list[HostRead] = []
    ticks: list[Tick] = []  # those whose bodies run, innermost last
    has_loop = False
    thread = threading.get_ident()
    outside: list[HostRead] = []

    def see(shape: tuple[int, ...]) -> None:
        if threading.get_ident() != thread:
            return
        read = HostRead(shape, line_of_the_user(sys._getframe(2)), any(tick.is_marked for tick in ticks))
        reads.append(read)
        if not ticks:
            outside.append(read)

    def watched(loop: Loop) -> Iterator[Tick]:
        nonlocal has_loop
        has_loop = True
        inner = iterate(loop)
        try:
            for tick in inner:
                ticks.append(tick)
                try:
                    yield tick
                finally:
                    ticks.pop()
        finally:
            inner.close()  # pyright: ignore[reportAttributeAccessIssue]  a generator

    iterate, Loop.__iter__ = Loop.__iter__, watched  # pyright: ignore[reportAttributeAccessIssue]
    try:
        with _seen_values(see):
            yield reads
    finally:
        Loop.__iter__ = iterate
    beyond = {id(read) for read in outside} if has_loop else set()
    bad = [read for read in reads if not read.is_at_a_mark and id(read) not in beyond]
    if bad:
        lines = "".join(f"\n  {read.shape} at {read.where or 'a line of a library'}" for read in bad[:_SHOWN])
        more = f"\n  and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
        raise AssertionError(
            f"the host read arrays {len(bad)} time{'s' * (len(bad) > 1)} between marks, and waited for the "
            f"device each time:{lines}{more}\nKeep the values on the device, and read them at a mark: "
            'if log in tick: print(float(logs["loss"])).'
        )


@contextlib.contextmanager
def _seen_values(see: Callable[[tuple[int, ...]], None]) -> Iterator[None]:
    """Calls `see` for each array whose values the host takes."""
    array_type: Any = type(jnp.zeros(()))
    real = array_type._value

    def value(array: jax.Array) -> Any:
        see(array.shape)
        return real.fget(array)

    buffer = ctypes.c_void_p.from_address(id(array_type) + _BUFFER_OFFSET)
    protocol, buffer.value = buffer.value, None
    array_type._value = property(value)
    try:
        yield
    finally:
        array_type._value = real
        buffer.value = protocol
