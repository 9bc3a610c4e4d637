"""Any picture of a digit as MNIST has it: 28 x 28, bright on dark, fitted and centred."""

import numpy as np

SIDE, INK_SIDE = 28, 20  # the digits of MNIST lie in a box of 20 x 20
CENTRE = 14.5  # the centre of mass: the middle of pixel 14, as measured on MNIST's first 200 test images
DIM = 128  # the brightest level of each of MNIST's digits is 254 or 255
NOISE = 16  # levels; a blank sheet of paper has smaller differences


def to_digit(pixels: np.ndarray) -> tuple[np.ndarray | None, list[str]]:
    """The digit in a picture, as MNIST would show it.

    The ground is what the picture's edge shows. One of 28 x 28 that is bright on black stays as it is. A
    picture of zeros and ones alone has no greys: its ones are white.

    Args:
      pixels: grey levels, uint8 of shape (height, width).

    Returns:
      `(digit, done)`: uint8 of shape (28, 28), or None where the picture shows nothing; and what was done,
      in words, none where the picture stayed as it is.

    >>> page = np.full((60, 40), 255, np.uint8)
    >>> page[10:50, 18:22] = 0
    >>> digit, done = to_digit(page)
    >>> digit.shape, done
    ((28, 28), ['dark on light inverted', 'fitted into 28 x 28'])
    """
    done = []
    levels = pixels.astype(np.float32)
    if levels.max() == 1:
        levels *= 255
        done.append("ones made white")
    if levels.max() - levels.min() < NOISE:
        return None, done
    edge = np.concatenate([levels[0], levels[-1], levels[:, 0], levels[:, -1]])
    ground = float(np.median(edge))
    is_dark_on_light = ground - levels.min() > levels.max() - ground
    if is_dark_on_light:
        levels, ground = 255 - levels, 255 - ground
        done.append("dark on light inverted")
    levels = (levels - ground).clip(0)
    is_dim = levels.max() < DIM
    is_as_mnist_has_it = ground == 0 and pixels.shape == (SIDE, SIDE)
    if is_dim or not is_as_mnist_has_it:
        levels = levels * (255 / levels.max())
    if is_dim and is_as_mnist_has_it:
        done.append("brightened")
    if ground > 0:
        done.append("ground made black")
    if pixels.shape != (SIDE, SIDE):
        levels = _fitted(levels)
        done.append(f"fitted into {SIDE} x {SIDE}")
    return levels.round().astype(np.uint8), done


def _fitted(levels: np.ndarray) -> np.ndarray:
    """The ink of a picture, scaled into 20 x 20 and put so that its centre of mass is where MNIST has it."""
    from PIL import Image

    ink = levels > 64  # a quarter of the brightest: below it lie paper and the noise of JPEG
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    box = levels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = INK_SIDE / max(box.shape)
    height, width = (max(round(side * scale), 1) for side in box.shape)
    small = Image.fromarray(box).resize((width, height), Image.Resampling.LANCZOS)
    scaled = np.asarray(small).clip(0, 255)
    digit = np.zeros((SIDE, SIDE), np.float32)
    top, left = _place(scaled.sum(axis=1)), _place(scaled.sum(axis=0))
    digit[top : top + height, left : left + width] = scaled
    return digit


def _place(mass: np.ndarray) -> int:
    """Where the first of these rows (or columns) goes, so that their centre of mass is in its place."""
    centre = (np.arange(len(mass)) + 0.5) @ mass / mass.sum()
    return int(np.clip(round(CENTRE - centre), 0, SIDE - len(mass)))
