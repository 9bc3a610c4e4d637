"""What came of loading weights: which leaves fit, which are missing, what is left."""

import dataclasses
from typing import NamedTuple

from fourbeat.trees.tables import aligned


class PartialWeightsWarning(UserWarning):
    """Weights were loaded in part: leaves of the model kept their values, or arrays of the file were left."""


class Fit(NamedTuple):
    """A leaf of the model and the array of the file for it.

    Attributes:
      place: of the leaf, such as "conv1/kernel".
      name: of the array in the file.
      seen: what the file holds, such as "float32[8,3,3,3]".
      wanted: what the model holds.
      layout: what was done to it, such as "transposed"; empty where nothing was.
    """

    place: str
    name: str
    seen: str
    wanted: str
    layout: str


@dataclasses.dataclass(frozen=True)
class WeightsReport:
    """What came of `fb.models.load_weights`; its text is a table.

    Attributes:
      fits: the leaves that were taken from the file.
      differing: leaves whose array in the file has another shape or kind of number; they keep their values.
      missing: leaves that the file has nothing for, with what the model holds; they keep their values.
      left: arrays of the file that nothing in the model takes, with what they hold.

    >>> print(WeightsReport((Fit("a/kernel", "a.weight", "float32[3,2]", "float32[2,3]", "transposed"),)))
    model     wants         file      holds
    a/kernel  float32[2,3]  a.weight  float32[3,2], transposed
    """

    fits: tuple[Fit, ...] = ()
    differing: tuple[Fit, ...] = ()
    missing: tuple[tuple[str, str], ...] = ()
    left: tuple[tuple[str, str], ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether every leaf was taken from the file, and every array of the file was taken."""
        return not (self.differing or self.missing or self.left)

    def __str__(self) -> str:
        rows = [("model", "wants", "file", "holds")]
        rows += [(fit.place, fit.wanted, fit.name, _told(fit)) for fit in self.fits]
        rows += [(fit.place, fit.wanted, fit.name, f"{fit.seen}, does not fit") for fit in self.differing]
        rows += [(place, wanted, "-", "missing") for place, wanted in self.missing]
        rows += [("-", "", name, f"{seen}, left") for name, seen in self.left]
        return aligned(rows)


def _told(fit: Fit) -> str:
    dtype, wanted = fit.seen.partition("[")[0], fit.wanted.partition("[")[0]
    cast = "" if dtype == wanted else f"cast to {wanted}"
    return ", ".join(each for each in (fit.seen, fit.layout, cast) if each)
