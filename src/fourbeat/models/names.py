"""The names of a model's arrays in a file: their paths, with a slash between two keys."""

from collections.abc import Iterable

from fourbeat.trees.paths import Path, render_attribute


def name_of(path: Path) -> str:
    """The name of the array at a path. In a key, `~` is written as `~0` and `/` as `~1`.

    >>> name_of(("blocks", 0, "kernel")), name_of(("a/b",))
    ('blocks/0/kernel', 'a~1b')
    """
    return "/".join(str(key).replace("~", "~0").replace("/", "~1") for key in path)


def names_of(paths: Iterable[Path], root: str) -> list[str]:
    """The name of each path.

    Raises:
      ValueError: two paths have one name, such as those of the keys 0 and "0"; the text names both.
    """
    seen: dict[str, Path] = {}
    for path in paths:
        name = name_of(path)
        if name in seen:
            raise ValueError(
                f"{render_attribute(root, seen[name])} and {render_attribute(root, path)} would both have "
                f"the name {name!r}. Give one of the keys another text."
            )
        seen[name] = path
    return list(seen)
