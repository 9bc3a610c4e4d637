"""Whole arrays: what is large and lies whole on every device of a mesh, without having been asked to."""

import warnings

LARGE_BYTES = 2**20


class WholeArrayWarning(UserWarning):
    """A large array lies whole on every device, where the rules would have it split."""


def warn_of_whole(text: str, *, stacklevel: int = 2) -> None:
    """Warns with a `WholeArrayWarning`."""
    warnings.warn(text, WholeArrayWarning, stacklevel=stacklevel + 1)
