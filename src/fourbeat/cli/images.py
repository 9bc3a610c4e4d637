"""Images from files: PNG, JPEG, idx, or folders of these."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fourbeat.cli.digits import to_digit
from fourbeat.data import idx

_PICTURES = (".png", ".jpg", ".jpeg")


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


def read_images(paths: Sequence[Path]) -> list[Image]:
    """The images of files and folders, in the order given; those of a folder by name.

    Args:
      paths: PNG, JPEG and idx files, or folders of these.

    Raises:
      ValueError: a path is not there, or holds no image; the text names it.
    """
    return [image for path in paths for file in _files(path) for image in _images(file)]


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(file for file in path.iterdir() if _is_image(file))
    if not found:
        raise ValueError(f"the folder {path} holds no image: no .png, .jpg, .jpeg or idx3 file.")
    return found


def _is_image(file: Path) -> bool:
    return file.is_file() and (file.suffix.lower() in _PICTURES or "idx3" in file.name)


def _images(file: Path) -> Iterator[Image]:
    try:
        with file.open("rb") as opened:
            start = opened.read(8)
    except OSError as error:
        raise ValueError(f"cannot read {file}: {error.strerror}.") from None
    if start.startswith((b"\x89PNG", b"\xff\xd8")):
        pixels, shown_as = _picture(file)
        yield _image(str(file), pixels, shown_as)
    elif start.startswith((b"\0\0", b"\x1f\x8b")):
        yield from _of_idx(file)
    else:
        seen = f"it begins with bytes {start[:4].hex(' ')}" if start else "it is empty"
        raise ValueError(f"{file} is no PNG, JPEG or idx file: {seen}.")


def _of_idx(file: Path) -> Iterator[Image]:
    array = idx(file)
    if array.ndim != 3 or array.dtype != np.uint8 or 0 in array.shape:
        raise ValueError(
            f"{file} holds {array.dtype} of shape {array.shape}; images are uint8 of shape "
            "(images, height, width)."
        )
    for place, pixels in enumerate(array):
        if pixels.shape == (28, 28):
            yield Image(f"{file}[{place}]", pixels, "")
        else:
            yield _image(f"{file}[{place}]", pixels, f"{pixels.shape[1]} x {pixels.shape[0]}")


def _image(name: str, pixels: np.ndarray, shown_as: str) -> Image:
    digit, done = to_digit(pixels)
    if digit is None:
        raise ValueError(f"{name} shows nothing: every pixel is alike.")
    return Image(name, digit, f"{shown_as}: {', '.join(done)}" if done else "")


def _picture(file: Path) -> tuple[np.ndarray, str]:
    """Grey levels, uint8 of shape (height, width), and what the file holds in words."""
    from PIL import Image as pillow
    from PIL import ImageOps

    try:
        with pillow.open(file, formats=("PNG", "JPEG")) as opened:
            shown_as = f"{opened.width} x {opened.height} {opened.mode}"
            return _grey(ImageOps.exif_transpose(opened)), shown_as
    except Exception as error:  # Pillow's readers raise many kinds
        raise ValueError(f"cannot read {file} as an image: {error}.") from None


def _grey(picture: Any) -> np.ndarray:
    if picture.mode.startswith("I"):  # 16 bits a pixel, which Pillow would clip to 8
        return (np.asarray(picture).astype(np.int64).clip(0, 65_535) // 257).astype(np.uint8)
    if not picture.has_transparency_data:
        return np.asarray(picture.convert("L"))
    with_alpha = np.asarray(picture.convert("LA")).astype(np.float32)
    grey, alpha = with_alpha[..., 0], with_alpha[..., 1] / 255
    ink = np.average(grey, weights=alpha) if alpha.any() else 0.0
    behind = 0.0 if ink > 127 else 255.0  # what is transparent lies on a ground that the ink shows on
    return (grey * alpha + behind * (1 - alpha)).round().astype(np.uint8)
