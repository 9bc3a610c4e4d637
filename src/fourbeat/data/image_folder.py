"""Images in class folders."""

import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fourbeat.data.examples import Examples
from fourbeat.data.readers.class_folders import ClassFolders


class Folder(Examples):
    """What `folder` gives: `Examples` that know the names of their classes."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes: `classes[label]`."""
        reader = self._decoded.reader
        assert isinstance(reader, ClassFolders)
        return reader.classes


def folder(
    path: str | os.PathLike[str],
    *,
    decode: Callable[[Any], Mapping[str, Any]] | None = None,
    collate: Callable[[Sequence[Mapping[str, Any]]], Mapping[str, Any]] | None = None,
) -> Folder:
    """The images of a folder that holds a folder for each class, as `Examples`.

    The columns are `image`, uint8 of shape (height, width, channels), and `label`, the place of its folder
    among `classes`, the folders' names in sorted order. Channels are those of the file: one for grey images,
    three, or four with transparency; palettes become colours, and 16 bits stay 16. A file is not turned by
    its EXIF tag. Files whose names begin with a dot are passed over, and so are files beside the class
    folders that are no images; in a class folder anything that is no image is refused. An empty
    class folder is a class. Needs Pillow: `pip install pillow`.

    Args:
      path: of the folder of class folders.
      decode: `decode({"image": ..., "label": ...}) -> dict`, run on the host, where images are of unlike size
        or channels.
      collate: as `Examples` takes it.

    Raises:
      ImportError: Pillow is not installed.
      FileNotFoundError, NotADirectoryError: there is no such folder.
      ValueError: it holds images beside class folders, a class folder holds what is no image, or there is
        no image at all.
      ExampleError: when read, where an image is damaged or unlike the others in size or channels.

    >>> import tempfile, numpy as np
    >>> from PIL import Image
    >>> photos = Path(tempfile.mkdtemp())
    >>> for name, brightness in [("cat", 10), ("dog", 20)]:
    ...     (photos / name).mkdir()
    ...     Image.fromarray(np.full((2, 3), brightness, np.uint8)).save(photos / name / "1.png")
    >>> data = folder(photos)
    >>> data.classes, data.batches(2)[0]["image"].shape, data.batches(2)[0]["label"].tolist()
    (('cat', 'dog'), (2, 2, 3, 1), [0, 1])
    """
    if importlib.util.find_spec("PIL") is None:
        raise ImportError("fourbeat.data.folder needs Pillow: pip install pillow")
    return Folder(ClassFolders(Path(path)), decode, collate=collate)
