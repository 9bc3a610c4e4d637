"""A folder that goes when its owner goes."""

import shutil
import tempfile
import weakref
from pathlib import Path


def scratch_folder(owner: object) -> Path:
    """A new folder that is removed with `owner`, or at the end of the process."""
    folder = tempfile.mkdtemp()
    weakref.finalize(owner, shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
