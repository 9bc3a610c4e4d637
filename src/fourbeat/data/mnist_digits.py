"""The MNIST handwritten digits, which come with the package."""

import functools
import hashlib
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from fourbeat.data.arrays import Arrays
from fourbeat.data.idx_format import parse_idx, read_idx

# sha256 of each file once decompressed; see mnist_files/LICENCE.md.
_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
_PACKAGED = Path(__file__).parent / "mnist_files"

_ONE_256TH = np.float32(1 / 256)
_REST_OF_ONE_255TH = np.float32(1 / 255 - 1 / 256)


def mnist(directory: str | os.PathLike[str] | None = None) -> tuple[Arrays, Arrays]:
    """The MNIST digits as `(train, test)`: 60,000 and 10,000 examples.

    Columns: `image` is stored as uint8 of shape (n, 28, 28, 1) and becomes float32 in [0, 1] in
    each batch, inside the compiled step; `label` is int32 of shape (n,), from 0 to 9. A second
    call gives the same two objects.

    Args:
      directory: of the four files under their original names, with or without `.gz`. Default:
        those that come with fourbeat.

    Raises:
      FileNotFoundError: a file is missing.
      ValueError: a file's bytes are not the original ones.

    >>> train, test = mnist()
    >>> train
    Arrays(60000 examples: image uint8 (28, 28, 1), label int32 ())
    >>> train.batches(32)[0]["image"].dtype
    dtype('float32')

    Reference: Y. LeCun, C. Cortes, C. J. C. Burges, The MNIST database of handwritten digits.
    """
    return _read(_PACKAGED if directory is None else Path(directory).absolute())


def image_to_float(batch: dict[str, Any]) -> dict[str, Any]:
    """The batch with `image` mapped from uint8 in [0, 255] to float32 in [0, 1].

    Every value has the bits of NumPy's `image.astype(np.float32) / 255`, compiled or not.
    """
    return {**batch, "image": divide_by_255(batch["image"])}


def divide_by_255(image: ArrayLike) -> jax.Array:
    """`image / 255` in float32, correctly rounded for all 256 values of uint8.

    Args:
      image: uint8 of any shape.

    >>> float(divide_by_255(np.uint8(255)))
    1.0
    """
    # XLA turns a division by a constant into a product with its rounded reciprocal, which is one
    # ulp off for 126 of the 256 values. 1/255 is 1/256 and a small rest; the first product is
    # exact, so only the sum rounds, fused multiply-add or not.
    image = jnp.asarray(image).astype(jnp.float32)
    return image * _ONE_256TH + image * _REST_OF_ONE_255TH


@functools.cache
def _read(directory: Path) -> tuple[Arrays, Arrays]:
    train, test = (
        Arrays(
            image=_verified(directory, f"{part}-images-idx3-ubyte")[..., None],
            label=_verified(directory, f"{part}-labels-idx1-ubyte").astype(np.int32),
        ).map(image_to_float)
        for part in ("train", "t10k")
    )
    return train, test


def _verified(directory: Path, name: str) -> np.ndarray:
    repair = (
        "Reinstall fourbeat (pip install --force-reinstall fourbeat)."
        if directory == _PACKAGED
        else "Get the file anew, or call mnist() for the files that come with fourbeat."
    )
    paths = (directory / f"{name}.gz", directory / name)
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise FileNotFoundError(f"the MNIST file {paths[0]} is missing. {repair}")
    try:
        data = read_idx(path)
    except ValueError as error:
        raise ValueError(f"the MNIST file {path} is damaged: {error.__cause__ or error}. {repair}") from error
    digest = hashlib.sha256(data).hexdigest()
    if digest != _SHA256[name]:
        raise ValueError(
            f"the MNIST file {path} is damaged: the sha256 of its decompressed bytes is {digest}, "
            f"expected {_SHA256[name]}. {repair}"
        )
    return parse_idx(data, path)
