"""Prompts and what is drawn, as text: bytes of UTF-8, or ids between spaces."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from fourbeat.recipes.corpus import reading

NOT_DRAWN = -1
"""Comes after the end of what is drawn."""


def encode(text: str, *, tokenizer: str, num_tokens: int) -> np.ndarray:
    """The tokens of a text.

    Args:
      text: any text, or ids between spaces or commas.
      tokenizer: "bytes", or "none" for ids.
      num_tokens: ids are below it.

    Raises:
      ValueError: it is to be ids, and is not, or has others.

    >>> encode("hi", tokenizer="bytes", num_tokens=257).tolist()
    [104, 105]
    >>> encode("7 12, 3", tokenizer="none", num_tokens=13).tolist()
    [7, 12, 3]
    """
    if tokenizer == "bytes":
        return reading.bytes_of(text)
    ids = text.replace(",", " ").split()
    for each in ids:
        if not (each.isascii() and each.isdigit() and int(each) < num_tokens):
            raise ValueError(
                f"{each!r:.40} is no id: the model reads ids below {num_tokens}, with spaces between them, "
                "as in '5 0 12'."
            )
    return np.array([*map(int, ids)], np.uint32)


def decode(tokens: Sequence[int] | np.ndarray, *, tokenizer: str) -> str:
    """The text of tokens: ids with a space before each, or bytes; those that are no UTF-8 are replaced.

    >>> decode([104, 105], tokenizer="bytes"), decode([7, 12], tokenizer="none")
    ('hi', ' 7 12')
    """
    if tokenizer == "bytes":
        return bytes(map(int, tokens)).decode("utf-8", "replace")
    return "".join(f" {token}" for token in tokens)


def before_end(tokens: np.ndarray, *, stop: np.ndarray, end: int) -> np.ndarray:
    """What was drawn before the tokens that stop it, and before the token that ends a document.

    >>> before_end(np.array([5, 6, 7, 8, -1]), stop=np.array([7, 8]), end=9).tolist()
    [5, 6]
    """
    ends = np.flatnonzero((tokens == end) | (tokens == NOT_DRAWN))
    tokens = tokens[: ends[0]] if len(ends) else tokens
    if not 0 < len(stop) <= len(tokens):
        return tokens
    places = np.lib.stride_tricks.sliding_window_view(tokens, len(stop))
    stops = np.flatnonzero((places == stop).all(axis=1))
    return tokens[: stops[0]] if len(stops) else tokens


def text_of_file(
    file: Path, *, tokenizer: str, num_tokens: int, last: int, dtype: Literal["uint16", "uint32"] | None
) -> str:
    """A file that is to be continued, as text: bytes, which stay what they are, or its last ids.

    Args:
      file: text, or ids as the recipe reads them.
      tokenizer: "bytes", or "none" for ids.
      num_tokens: of the model.
      last: ids at the end of the file that the model reads.
      dtype: of the ids of a `.bin` file.

    Raises:
      ValueError: it cannot be read, or holds what are no ids of the model.
    """
    try:
        if tokenizer == "bytes":
            return file.read_bytes().decode("utf-8", "surrogateescape")
        if file.suffix not in (".bin", ".npy"):
            text = file.read_text(encoding="utf-8", errors="replace")
        else:
            dtype = dtype if file.suffix == ".bin" else None
            text = decode(reading.read(file, dtype=dtype).tokens[-last:], tokenizer="none")
    except OSError as error:
        raise ValueError(f"cannot read {file}: {error.strerror}.") from None
    encode(text, tokenizer="none", num_tokens=num_tokens)  # raises
    return text
