"""What is the address of an object store, and what a path."""

import os
import re

_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+):(?:/(/?)(.*))?", re.DOTALL)
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
