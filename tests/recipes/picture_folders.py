"""Folders of pictures for tests: digits of the MNIST that the package holds, in files of many kinds."""

import numpy as np
from PIL import Image

import fourbeat as fb

NO_PICTURE = (
    "is damaged, or no picture of a known format: PNG, JPEG, GIF, BMP, WEBP, TIFF, PPM, JPEG2000, AVIF."
)
IMAGES, LABELS = (fb.data.mnist()[1].columns[name] for name in ("image", "label"))


def digit(label, number):
    """The number-th test digit of a label, uint8 of shape (28, 28)."""
    return IMAGES[np.flatnonzero(np.equal(LABELS, label))[number], :, :, 0]


def write_digits(folder, counts, *, first=0):
    """A folder for each digit, named "digit 3", with so many pictures: 28 x 28 PNG."""
    for label, count in counts.items():
        inside = folder / f"digit {label}"
        inside.mkdir(parents=True, exist_ok=True)
        for number in range(first, first + count):
            Image.fromarray(digit(label, number)).save(inside / f"{number:03d}.png")
    return folder
