"""Images from files: pictures, idx, or folders of these."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fourbeat.data.idx_format import idx, idx_header
from fourbeat.data.readers.picture_formats import SUFFIXES
from fourbeat.recipes.digits.normalising import to_digit
from fourbeat.recipes.picture_files import check_size, levels_of_16_bits, read_picture
from fourbeat.types import Object

_MAX_BYTES = 2**30  # of one idx file: a small compressed file can hold any number of zeros


class Image(NamedTuple):
    """A digit to predict.

    Attributes:
      name: its file, and its place in it where a file holds several.
      pixels: uint8 of shape (28, 28), bright on dark.
      conversion: what was done to it; empty where nothing was.
    """

    name: str
    pixels: np.ndarray
    conversion: str


def read_images(paths: Sequence[Path]) -> tuple[list[Image], dict[str, str]]:
    """The images of files and folders, in the order given; those of a folder by name.

    Args:
      paths: pictures and idx files, or folders of these.

    Returns:
      `(images, problems)`: what could be read, and by file's name what is wrong with each of the others.
    """
    images, problems = [], {}
    for path in paths:
        try:
            files = _files(path)
        except (OSError, ValueError) as error:
            problems[str(path)] = _in_words(path, error)
            continue
        for file in files:
            try:
                images += _images(file)
            except (OSError, ValueError) as error:
                problems[str(file)] = _in_words(file, error)
    return images, problems


def _in_words(file: Path, error: Exception) -> str:
    return f"cannot read {file}: {error.strerror}." if isinstance(error, OSError) else str(error)


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(file for file in path.iterdir() if _is_image(file))
    if not found:
        raise ValueError(f"the folder {path} holds no image: no {', '.join(SUFFIXES)} or idx3 file.")
    return found


def _is_image(file: Path) -> bool:
    """Whether a name is that of an image; whether it can be read is seen when it is."""
    is_named_so = file.suffix.lower() in SUFFIXES or "idx3" in file.name
    return is_named_so and not file.is_dir() and not file.name.startswith(".")


def _images(file: Path) -> list[Image]:
    if file.exists() and not file.is_file():  # a pipe or a device may wait for ever, or never end
        raise ValueError(f"cannot read {file}: it is no file.")
    with file.open("rb") as opened:
        start = opened.read(8)
    is_idx = start.startswith(b"\0\0") and start[2:3] != b"\0"  # JPEG 2000 and AVIF begin with three zeros
    if is_idx or start.startswith(b"\x1f\x8b"):
        return _of_idx(file)
    pixels, shown_as = _picture(file)
    return [_image(str(file), pixels, shown_as)]


def _of_idx(file: Path) -> list[Image]:
    dtype, shape = idx_header(file)
    if len(shape) != 3 or dtype != np.uint8 or 0 in shape:
        raise ValueError(
            f"{file} holds {dtype} of shape {shape}; images are uint8 of shape (images, height, width)."
        )
    check_size(file, *shape[1:])
    if math.prod(shape) > _MAX_BYTES:
        raise ValueError(
            f"{file} holds {shape[0]:,} images of {shape[2]} x {shape[1]}, {math.prod(shape):,} bytes; at "
            f"most {_MAX_BYTES:,} are read. Cut it into several files."
        )
    side = "" if shape[1:] == (28, 28) else f"{shape[2]} x {shape[1]}"
    return [_image(f"{file}[{place}]", pixels, side) for place, pixels in enumerate(idx(file))]


def _image(name: str, pixels: np.ndarray, shown_as: str) -> Image:
    digit, done = to_digit(pixels)
    if digit is None:
        darkest, brightest = int(pixels.min()), int(pixels.max())
        seen = "every pixel is alike" if darkest == brightest else f"its greys are {darkest} to {brightest}"
        raise ValueError(f"{name} shows nothing: {seen}.")
    words = ", ".join(done)
    return Image(name, digit, f"{shown_as}: {words}" if shown_as and words else words)


def _picture(file: Path) -> tuple[np.ndarray, str]:
    """Grey levels, uint8 of shape (height, width), and what the file holds in words."""
    from PIL import ImageOps

    def read(opened: Object) -> tuple[np.ndarray, str]:
        return _grey(ImageOps.exif_transpose(opened)), f"{opened.width} x {opened.height} {opened.mode}"

    return read_picture(file, read)


def _grey(picture: Object) -> np.ndarray:
    if picture.mode.startswith("I"):
        return levels_of_16_bits(picture)
    if not picture.has_transparency_data:
        return np.asarray(picture.convert("L"))
    with_alpha = np.asarray(picture.convert("LA")).astype(np.float32)
    grey, alpha = with_alpha[..., 0], with_alpha[..., 1] / 255
    ink = np.average(grey, weights=alpha) if alpha.any() else 0.0
    behind = 0.0 if ink > 127 else 255.0  # what is transparent lies on a ground that the ink shows on
    return (grey * alpha + behind * (1 - alpha)).round().astype(np.uint8)
