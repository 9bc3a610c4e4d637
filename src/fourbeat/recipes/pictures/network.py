"""How large the network is, and how large it sees the pictures: chosen for the pictures, and said."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from fourbeat.recipes.pictures.decoding import Look

_SMALLEST, _LARGEST = 16, 128  # pixels of the longer side
_STEP = 8  # sides are multiples of it, so that three halvings come out even
_SMALL_DATA = 20_000  # pictures to train on, below which a stage is one block deep


class Network(NamedTuple):
    """The shape of a residual network.

    Attributes:
      stages: each has half the side of the one before and twice its channels; the last sees 4 x 4 or so.
      blocks: residual blocks in a stage.
      width: channels of the first stage.
    """

    stages: int
    blocks: int
    width: int


def size_for(looks: Sequence[Look]) -> tuple[int, int, int]:
    """Height, width and channels for pictures: about those of the middle one, the longer side at most 128.

    >>> size_for([Look(28, 28, False), Look(30, 26, False), Look(31, 29, False)])
    (32, 32, 1)
    >>> size_for([Look(1200, 1600, True)])
    (96, 128, 3)
    """
    height, width = middle_of(looks)
    scale = min(1.0, _LARGEST / max(height, width))
    sides = [max(_STEP * round(side * scale / _STEP), _STEP) for side in (height, width)]
    height, width = (max(side, _SMALLEST) for side in sides)
    return height, width, 3 if any(look.is_colour for look in looks) else 1


def middle_of(looks: Sequence[Look]) -> tuple[int, int]:
    """The median height and the median width."""
    heights, widths = (
        sorted(sides) for sides in ([look.height for look in looks], [look.width for look in looks])
    )
    return heights[len(heights) // 2], widths[len(widths) // 2]


def network_for(size: Sequence[int], num_examples: int) -> Network:
    """The network for pictures of a size, (height, width, channels), and so many of them to train on.

    >>> network_for((32, 32, 1), 1_000), network_for((96, 128, 3), 50_000)
    (Network(stages=3, blocks=1, width=16), Network(stages=5, blocks=2, width=32))
    """
    shorter = min(size[:2])
    stages = max(round(math.log2(shorter / 2 / 4)) + 1, 1)  # the first convolution halves the sides too
    return Network(stages, 1 if num_examples < _SMALL_DATA else 2, 16 if size[2] == 1 else 32)
