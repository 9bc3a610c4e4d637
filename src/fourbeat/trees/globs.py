"""Patterns over the paths of a tree's leaves, as files have them: `blocks/*/kernel`."""

import difflib
import fnmatch
from collections.abc import Iterable, Sequence

from fourbeat.trees.paths import Path


def joined(path: Path) -> str:
    """A path as patterns see it.

    >>> joined(("blocks", 0, "kernel"))
    'blocks/0/kernel'
    """
    return "/".join(map(str, path))


def matches(pattern: str, path: str) -> bool:
    """Whether a pattern matches the whole of a joined path; `*` stands for any part of it, slashes too.

    >>> matches("blocks/*", "blocks/0/up/kernel"), matches("blocks", "blocks/0/up/kernel")
    (True, False)
    """
    return fnmatch.fnmatchcase(path, pattern)


def unmatched(patterns: Iterable[str], paths: Sequence[str], *, of: str, what: str) -> str | None:
    """What is said of the first pattern that matches none of the paths; None where each matches one.

    Args:
      patterns: to be tried.
      paths: joined.
      of: whose patterns they are, for the text.
      what: the paths lead to.

    >>> unmatched(["haed/*"], ["head/kernel"], of="paths", what="parameter")
    "the pattern 'haed/*' of paths matches no parameter. Near it are 'head/kernel'. A '*' stands for any part
    of a path, slashes too."
    """
    for pattern in patterns:
        if not any(matches(pattern, path) for path in paths):
            near = difflib.get_close_matches(pattern, paths, n=3, cutoff=0.3) or list(paths[:3])
            return (
                f"the pattern {pattern!r} of {of} matches no {what}. Near it are "
                f"{', '.join(map(repr, near))}. A '*' stands for any part of a path, slashes too."
            )
    return None
