"""A picture file as the pixels that the network sees, and what a file says of itself before it is decoded."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from fourbeat.recipes.picture_files import levels_of_16_bits, read_picture
from fourbeat.types import Object

_GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "F")
_TURNED = (5, 6, 7, 8)  # the orientations of EXIF that change height and width
_GROUND = 128  # what is transparent becomes grey, on which black ink and white ink show

_Out = TypeVar("_Out")


class Look(NamedTuple):
    """What a file says of its picture.

    Attributes:
      height: pixels, as it is shown.
      width: pixels, as it is shown.
      is_colour: whether it has colours.
    """

    height: int
    width: int
    is_colour: bool


def look_at(file: Path) -> Look:
    """Height, width and colour of a picture, without decoding it.

    Raises:
      ValueError: it is no picture that can be read.
    """

    def read(opened: Object) -> Look:
        height, width = opened.height, opened.width
        if opened.getexif().get(0x0112) in _TURNED:
            height, width = width, height
        return Look(height, width, _has_colours(opened))

    return read_picture(file, read)


def _has_colours(picture: Object) -> bool:
    if picture.mode == "P":  # as every GIF is; its colours may all be greys
        return bool(np.ptp(np.reshape(picture.getpalette(), (-1, 3)), axis=1).any())
    return picture.mode not in _GREY_MODES


def decoded(file: Path, size: Sequence[int]) -> np.ndarray:
    """A picture of any size and kind, turned as its camera says, and stretched to the size.

    Args:
      file: the picture.
      size: height, width, and channels: 1 for grey, 3 for colours.

    Returns:
      uint8 of shape `size`.

    Raises:
      ValueError: it is no picture that can be read.
    """
    from PIL import Image, ImageOps

    height, width, channels = size

    def read(opened: Object) -> np.ndarray:
        if opened.format == "JPEG":  # a large one is decoded at a half, a quarter or an eighth: faster
            opened.draft(None, (2 * max(height, width),) * 2)
        shown = plain(ImageOps.exif_transpose(opened)).convert("L" if channels == 1 else "RGB")
        if shown.size != (width, height):
            shown = shown.resize((width, height), Image.Resampling.BILINEAR)  # takes means of many pixels
        return np.asarray(shown).reshape(height, width, channels)

    return read_picture(file, read)


def plain(picture: Object) -> Any:
    """A picture of Pillow with 8 bits a channel that hides nothing."""
    from PIL import Image

    if picture.mode.startswith("I"):
        return Image.fromarray(levels_of_16_bits(picture))
    if not picture.has_transparency_data:
        return picture
    ground = Image.new("RGBA", picture.size, (_GROUND,) * 3 + (255,))
    return Image.alpha_composite(ground, picture.convert("RGBA"))


def for_each(
    function: Callable[[Path], _Out], files: Sequence[Path], workers: int
) -> list[_Out | ValueError]:
    """What a function makes of each file, or the error that it raises, by several threads."""

    def tried(file: Path) -> _Out | ValueError:
        try:
            return function(file)
        except ValueError as error:
            return error

    threads = ThreadPoolExecutor(workers)
    try:
        return list(threads.map(tried, files))
    finally:  # after Ctrl-C none is begun any more
        threads.shutdown(wait=False, cancel_futures=True)


def default_workers() -> int:
    """Threads to decode with: one for each core, up to eight."""
    return min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, 8)
