"""Text in files, told by what they hold from what is no text."""

from collections.abc import Iterable, Mapping
from pathlib import Path

_NO_TEXT = {
    **dict.fromkeys((".bin", ".npy"), "ids, and no text: name the file itself, and join several into one"),
    **dict.fromkeys((".gz", ".bz2", ".xz", ".zst", ".zip", ".npz"), "compressed: unpack it first"),
}


def texts_of(files: Iterable[Path]) -> tuple[dict[Path, bytes], dict[str, str]]:
    """The bytes of those files that are text, and by its path why each of the others is left out."""
    texts, left_out = {}, {}
    for file in files:
        try:
            text = b"" if kept_in(file) else file.read_bytes()
            other = kept_in(file) or _no_text(text)
        except OSError as error:
            left_out[str(file)] = f"it cannot be read: {error.strerror}"
            continue
        if other:
            left_out[str(file)] = f"it is {other}"
        else:
            texts[file] = text
    return texts, left_out


def kept_in(file: Path) -> str:
    """What else than text a file has by its name; "" where its name says nothing else."""
    return _NO_TEXT.get(file.suffix, "")


def none_left(left_out: Mapping[str, str]) -> str:
    """The end of an error where nothing else is there than what is left out."""
    if not left_out:
        return ""
    name, why = next(iter(left_out.items()))
    return f"; {len(left_out):,} left out, such as {name}: {why}"


def _no_text(text: bytes) -> str:
    """What is no text about bytes; "" where they are UTF-8 without a byte of 0.

    >>> _no_text("é".encode()), _no_text("é".encode("latin-1"))
    ('', 'no UTF-8 text: its byte 0 is 0xe9')
    """
    if (place := text.find(0)) >= 0:
        return f"no text: its byte {place} is 0x00"
    try:
        text.decode()
    except UnicodeDecodeError as error:
        return f"no UTF-8 text: its byte {error.start} is {text[error.start]:#04x}"
    return ""
