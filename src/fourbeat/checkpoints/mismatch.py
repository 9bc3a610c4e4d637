"""What a checkpoint holds beside what it is to be restored into, place by place."""

import dataclasses
from typing import NamedTuple

import jax

from fourbeat.checkpoints.digest import Digest
from fourbeat.checkpoints.leaves import LeafKind, kind_of
from fourbeat.checkpoints.moves import OtherPlace, other_places
from fourbeat.models.splitting import held_in
from fourbeat.trees.tables import aligned
from fourbeat.types import Object, Tree


class Difference(NamedTuple):
    """One place where two trees differ.

    Attributes:
      path: the place, such as "tree['state'].params['head']['bias']".
      saved: what the checkpoint has there, such as "float32[10]"; "-" for nothing.
      wanted: what `like` has there; "None" where it has None at or above this place.
    """

    path: str
    saved: str
    wanted: str


@dataclasses.dataclass(frozen=True)
class Mismatch:
    """Where a checkpoint and `like` differ. False if nowhere; its text is a table.

    Attributes:
      differences: in the order of `like`, then those that only the checkpoint has.
      moved: places of `like` that were taken from another place of the checkpoint, and that place.

    >>> print(Mismatch((Difference("tree['b']", "float32[10]", "float32[5]"),)))
    place      checkpoint   like
    tree['b']  float32[10]  float32[5]
    """

    differences: tuple[Difference, ...]
    moved: tuple[tuple[str, str], ...] = ()

    @property
    def missing(self) -> tuple[str, ...]:
        """Places of `like` that the checkpoint does not have."""
        return tuple(d.path for d in self.differences if d.saved == "-")

    @property
    def extra(self) -> tuple[str, ...]:
        """Places of the checkpoint that `like` does not have, or has None at."""
        return tuple(d.path for d in self.differences if d.wanted in ("-", "None"))

    @property
    def differing(self) -> tuple[str, ...]:
        """Places that both have, with another shape or dtype."""
        return tuple(d.path for d in self.differences if d.saved != "-" and d.wanted not in ("-", "None"))

    def __bool__(self) -> bool:
        return bool(self.differences or self.moved)

    def __str__(self) -> str:
        moved = ((path, f"from {source}", "") for path, source in self.moved)
        return aligned([("place", "checkpoint", "like"), *self.differences, *moved])


def compare(digest: Digest, like: Tree, *, partial: bool) -> tuple[list[int | None], Mismatch]:
    """Which saved leaf fits each leaf of `like`, and where the two trees differ.

    Args:
      digest: what was saved.
      like: a tree of arrays, `jax.ShapeDtypeStruct`s and Python scalars.
      partial: whether a leaf may come from another place that means the same.

    Returns:
      `(sources, mismatch)`: for each leaf of `like` its position in `digest.leaves`, or None where
      none of its path and kind was saved.

    Raises:
      TypeError: a leaf of `like` is of a type that cannot be saved.
    """
    saved = {leaf.path: (i, leaf.kind) for i, leaf in enumerate(digest.leaves)}
    others = other_places(like) if partial else {}
    left, sources, differences, moved = dict(saved), [], [], []
    for key_path, leaf in jax.tree_util.tree_flatten_with_path(like)[0]:
        path = jax.tree_util.keystr(key_path)
        i, kind = saved.get(path, (None, None))
        left.pop(path, None)
        wanted = _wanted_kind(path, leaf)
        if kind != wanted:
            there = (place.path for place in others.get(path, ()) if _takes(place, saved, wanted))
            source = next(there, None)
            i = None if source is None else saved[source][0]
            if source is None:
                differences.append(Difference(f"tree{path}", "-" if kind is None else str(kind), str(wanted)))
            else:
                left.pop(source, None)
                moved.append((f"tree{path}", f"tree{source}"))
        sources.append(i)
    nones = _none_paths(like)
    for path, (_, kind) in left.items():
        wanted = "None" if any(_is_at_or_below(path, none) for none in nones) else "-"
        differences.append(Difference(f"tree{path}", str(kind), wanted))
    return sources, Mismatch((*differences, *_held_otherwise(digest, like)), tuple(moved))


def _takes(place: OtherPlace, saved: dict[str, tuple[int, LeafKind]], wanted: LeafKind) -> bool:
    return place.path in saved and place.takes(saved[place.path][1], wanted)


def _held_otherwise(digest: Digest, like: Tree) -> list[Difference]:
    """Where plain Python objects inside the models hold something else than when it was saved."""
    saved, wanted = digest.held, held_in(like)
    if saved is None:
        return []
    found = [Difference(path, saved.get(path, "-"), wanted.get(path, "-")) for path in {**wanted, **saved}]
    return [difference for difference in found if difference.saved != difference.wanted]


def _wanted_kind(path: str, leaf: Object) -> LeafKind:
    try:
        return kind_of(leaf)
    except TypeError as error:
        raise TypeError(f"cannot restore into tree{path}: {error}, nor restored.") from None


def _none_paths(like: Tree) -> tuple[str, ...]:
    found = jax.tree_util.tree_flatten_with_path(like, is_leaf=lambda node: node is None)[0]
    return tuple(jax.tree_util.keystr(path) for path, leaf in found if leaf is None)


def _is_at_or_below(path: str, place: str) -> bool:
    return path.startswith(place) and path[len(place) :][:1] in ("", "[", ".")
