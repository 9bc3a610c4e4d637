"""Images in folders, one a class."""

from pathlib import Path
from typing import Any

import numpy as np

from fourbeat.data.order import Order, Permutation
from fourbeat.data.readers.picture_formats import SUFFIXES
from fourbeat.data.readers.reader import ReadExamples
from fourbeat.types import Object

# Pillow's modes whose values are those of the pixels; other images are converted
_KEPT_MODES = frozenset(("L", "LA", "RGB", "RGBA", "I", "I;16", "F"))


class ClassFolders:
    """Each image of each class, in the order of classes and then of paths.

    Args:
      folder: of the class folders.

    Attributes:
      classes: their names, sorted; a label is a place among them.
    """

    def __init__(self, folder: Path):
        self.name = f"the folder {folder.name}"
        self._folder = folder
        self.classes, loose = _classes(folder)
        if loose or not self.classes:
            what = f"the image {loose[0]} beside class folders" if loose else "no folder"
            raise ValueError(
                f"{folder} holds {what}; expected a folder for each class, and the images in these: "
                f"{folder.name}/cat/1.png, {folder.name}/dog/2.png."
            )
        images = [_images(folder / name) for name in self.classes]
        self._paths = [path for paths in images for path in paths]
        self._labels = [label for label, paths in enumerate(images) for _ in paths]
        if not self._paths:
            raise ValueError(f"{folder} holds class folders without an image: {', '.join(self.classes)}.")

    def __len__(self) -> int:
        return len(self._paths)

    def read(self, numbers: np.ndarray) -> ReadExamples:
        """See `Reader.read`."""
        return [
            {"image": _pixels(self._paths[number]), "label": self._labels[number]}
            for number in numbers.tolist()
        ]

    def place(self, number: int) -> str:
        """See `Reader.place`."""
        return f"example {number} ({self._paths[number].relative_to(self._folder)}) of {self.name}"

    def order_of(self, numbers: np.ndarray | None) -> Order:
        """See `Reader.order_of`."""
        return Permutation()


def _pixels(path: Path) -> np.ndarray:
    """Shape (height, width, channels)."""
    from PIL import Image

    with Image.open(path) as image:
        kept: Any = image if image.mode in _KEPT_MODES else image.convert(_nearest_mode(image))
        pixels = np.asarray(kept)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _nearest_mode(image: Object) -> str:
    if image.mode == "1":
        return "L"
    return "RGBA" if "transparency" in image.info else "RGB"


def _classes(folder: Path) -> tuple[tuple[str, ...], list[str]]:
    """Names of class folders, and of images beside them."""
    entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    loose = [path.name for path in entries if path.suffix.lower() in SUFFIXES and not path.is_dir()]
    return tuple(path.name for path in entries if path.is_dir()), loose


def _images(folder: Path) -> list[Path]:
    paths = []
    for path in sorted(folder.rglob("*")):
        if path.is_dir() or any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue
        if path.suffix.lower() not in SUFFIXES:
            raise ValueError(
                f"{path} is no image that can be read: its name ends in none of {', '.join(SUFFIXES)}. "
                f"Move it "
                "out of the class folders, or hide it: a name that begins with a dot is passed over."
            )
        paths.append(path)
    return paths
