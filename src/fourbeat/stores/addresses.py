"""What is the address of an object store, and what a path; which paths are copies of what lies at one."""

import os
import re
from pathlib import Path

_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+):(?:/(/?)(.*))?", re.DOTALL)
_copied: dict[Path, str] = {}  # the addresses of folders of this machine that are copies
_WITHOUT_A_HOST = {"file", "local"}  # a third slash begins the path


def address_of(place: object) -> str | None:
    """The address of an object store, without a slash at its end; None of a path.

    A `Path` that an address was made into has lost slashes. It is found all the same.

    >>> from pathlib import Path
    >>> address_of("s3://bucket/run/"), address_of(Path("s3://bucket/run")), address_of("runs/a")
    ('s3://bucket/run', 's3://bucket/run', None)
    >>> address_of(Path("s3://"))
    's3://'
    """
    found = _ADDRESS.fullmatch(os.fspath(place)) if isinstance(place, str | os.PathLike) else None
    if found is None:
        return None
    scheme, slash, rest = found.groups()
    lost = "" if slash or scheme not in _WITHOUT_A_HOST else "/"
    return f"{scheme}://{lost}{(rest or '').rstrip('/')}"


def note_copy(folder: Path, address: str) -> None:
    """From now on, a folder of this machine is known to be a copy of what lies at an address."""
    _copied[folder] = address


def address_copied_at(path: str | os.PathLike[str]) -> str | None:
    """The address of what a path is a copy of, or lies in a copy of; None of any other path.

    >>> note_copy(Path("/tmp/copy"), "s3://bucket/run")
    >>> address_copied_at("/tmp/copy/checkpoints"), address_copied_at("/tmp/copy"), address_copied_at("/tmp")
    ('s3://bucket/run/checkpoints', 's3://bucket/run', None)
    """
    path = Path(path)
    for folder in (path, *path.parents) if _copied else ():
        if folder in _copied:
            return f"{_copied[folder]}/{path.relative_to(folder)}".removesuffix("/.")
    return None
