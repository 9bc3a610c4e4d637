"""The names of a file as paths, some of them renamed."""

import re
from collections.abc import Iterable, Mapping

Parts = tuple[str, ...]


def paths_of(names: Iterable[str], rename: Mapping[str, str | None]) -> dict[str, Parts | None]:
    """For each name of a file the path that it stands for; None where it is to be left out.

    Args:
      names: with dots between their parts, as PyTorch has them, or with slashes.
      rename: the beginnings of names, in whole parts, to what takes their place; the longest that fits
        counts. `*` is any one part, and goes to the next `*` on the other side. None leaves a name out.

    Raises:
      ValueError: a key of `rename` fits no name, or two names become one.

    >>> paths_of(["0.weight", "10.weight"], {"0": "first"})
    {'0.weight': ('first', 'weight'), '10.weight': ('10', 'weight')}
    >>> paths_of(["h.3.attn.bias"], {"h.*.attn": "blocks.*.attention"})
    {'h.3.attn.bias': ('blocks', '3', 'attention', 'bias')}
    """
    names = list(names)
    slashed = any("/" in name for name in names)
    split = _at_slashes if slashed else _at_dots
    rules = sorted(
        ((key, _at_any(key), value) for key, value in rename.items()),
        key=lambda rule: (-len(rule[1]), rule[1].count("*")),
    )
    unused, found = set(rename), {}
    for name in names:
        parts = split(name)
        for key, begins, value in rules:
            stars = _stars(begins, parts)
            if stars is not None:
                unused.discard(key)
                parts = None if value is None else (*_filled(key, value, stars), *parts[len(begins) :])
                break
        found[name] = parts
    if unused:
        raise ValueError(
            f"rename has {sorted(unused)[0]!r}, and no name of the file begins with it, in whole parts. The "
            f"names are {_some(names)}."
        )
    _check_distinct(found)
    return found


def _check_distinct(found: Mapping[str, Parts | None]) -> None:
    seen: dict[Parts, str] = {}
    for name, parts in found.items():
        if parts is not None and (other := seen.setdefault(parts, name)) != name:
            raise ValueError(
                f"{other!r} and {name!r} of the file would both be {'/'.join(parts)}. Rename one of them "
                "otherwise, or to None."
            )


def _stars(begins: Parts, parts: Parts) -> list[str] | None:
    """What the stars stand for, where `parts` begin so; None where they do not."""
    if len(begins) > len(parts):
        return None
    pairs = list(zip(begins, parts, strict=False))
    if any(pattern not in ("*", part) for pattern, part in pairs):
        return None
    return [part for pattern, part in pairs if pattern == "*"]


def _filled(key: str, value: str, stars: list[str]) -> Parts:
    to = _at_any(value)
    if to.count("*") > len(stars):
        raise ValueError(
            f"rename has {key!r}: {value!r}, with more stars in the new name than in the old one."
        )
    given = iter(stars)
    return tuple(next(given) if part == "*" else part for part in to)


def _at_dots(name: str) -> Parts:
    return tuple(name.split("."))


def _at_slashes(name: str) -> Parts:
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in name.split("/"))


def _at_any(text: str) -> Parts:
    return tuple(re.split(r"[./]", text)) if text else ()


def _some(names: list[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
