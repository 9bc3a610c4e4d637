"""An assertion that `jax.jit` would lose nothing of a function."""

from collections.abc import Sequence
from typing import Any

from fourbeat.purity import check


def assert_pure(fn: Any, *args: Any, allow: Sequence[str] = (), **keywords: Any) -> None:
    """Passes where `jax.jit(fn)` would lose nothing.

    Args:
      fn: as for `fourbeat.purity.check`.
      *args: example arguments.
      allow: paths whose changes are benign.
      **keywords: example keyword arguments.

    Raises:
      ImpureError: the check finds errors; the text names slot, line and repair.

    >>> assert_pure(lambda x: 2 * x, 1.0)
    """
    check(fn, *args, allow=allow, **keywords).raise_if_bad()
