"""Assertions for tests of code that uses fourbeat: the laws of a training loop, for a loop of your own."""

from typing import TYPE_CHECKING

from fourbeat._lazy_names import lazy_names

if TYPE_CHECKING:
    from fourbeat.testing.bits import assert_bit_equal
    from fourbeat.testing.compilations import expect_compilations
    from fourbeat.testing.host_reads import HostRead, no_host_reads
    from fourbeat.testing.live_arrays import constant_memory
    from fourbeat.testing.pure import assert_pure
    from fourbeat.testing.resuming import assert_resumes_exactly

_NAMES = {
    "bits": ("assert_bit_equal",),
    "compilations": ("expect_compilations",),
    "host_reads": ("HostRead", "no_host_reads"),
    "live_arrays": ("constant_memory",),
    "pure": ("assert_pure",),
    "resuming": ("assert_resumes_exactly",),
}

__all__ = [  # pyright: ignore[reportUnsupportedDunderAll]
    "HostRead",
    "assert_bit_equal",
    "assert_pure",
    "assert_resumes_exactly",
    "constant_memory",
    "expect_compilations",
    "no_host_reads",
]

__getattr__, __dir__ = lazy_names(__name__, _NAMES)
