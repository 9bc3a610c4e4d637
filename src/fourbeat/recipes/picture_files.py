"""A picture in a file, opened with care: large ones are refused, and every failure is said in words."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from fourbeat.data.readers.picture_formats import SUFFIXES_OF
from fourbeat.types import Object

MAX_PIXELS = 40_000_000  # of one picture, which needs some 20 bytes for each while it is converted

_Read = TypeVar("_Read")


class TooLargeError(ValueError):
    """A picture has too many pixels, so it is not decoded."""


def read_picture(file: Path, read: Callable[[Object], _Read]) -> _Read:
    """What `read` makes of the picture in a file.

    Args:
      file: the picture.
      read: takes a picture of Pillow that is opened, and not decoded yet.

    Raises:
      ValueError: it is no such picture, is damaged, or has too many pixels; the text names the file.
    """
    from PIL import Image, UnidentifiedImageError

    if file.exists() and not file.is_file():  # a pipe or a device may wait for ever, or never end
        raise ValueError(f"cannot read {file}: it is no file.")
    known: list[str] = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of large pictures; the limit here is smaller
            Image.init()  # before this Pillow knows some of its formats alone
            known = [each for each in SUFFIXES_OF if each in Image.OPEN]
            with Image.open(file, formats=known) as opened:
                check_size(file, opened.height, opened.width)
                if opened.mode == "F":
                    raise ValueError(
                        "its pixels are floating-point numbers, and how bright 1.0 is cannot be known"
                    )
                return read(opened)
    except TooLargeError:
        raise
    except UnidentifiedImageError:
        raise ValueError(f"{file} is damaged, or no picture of a known format: {', '.join(known)}.") from None
    except Exception as error:  # Pillow's readers raise many kinds
        if isinstance(error, OSError) and error.strerror:
            raise ValueError(f"cannot read {file}: {error.strerror}.") from None
        raise ValueError(f"cannot read {file} as an image: {error}.") from None


def check_size(file: Path, height: int, width: int) -> None:
    """Raises a TooLargeError where a picture has too many pixels."""
    if height * width > MAX_PIXELS:
        raise TooLargeError(
            f"{file} has {width:,} x {height:,} pixels; at most {MAX_PIXELS:,} are read. Make it smaller."
        )


def levels_of_16_bits(picture: Object) -> np.ndarray:
    """Grey levels of 16 bits a pixel, which Pillow would clip to 8, as uint8."""
    levels = np.asarray(picture).astype(np.int64).clip(0, 65_535)
    # some programs write levels of 8 bits into 16
    return (levels if levels.max() <= 255 else levels // 257).astype(np.uint8)
