"""A trace that no cache of JAX has seen: a warm inner jit would hide what its function does."""

import contextlib
from collections.abc import Iterator

import jax

_context = jax.make_user_context(None)  # a part of every key of JAX's trace caches


@contextlib.contextmanager
def retracing() -> Iterator[None]:
    """A context in which no inner jit has been traced yet; what is traced inside stays in its caches."""
    with _context(object()):
        yield
