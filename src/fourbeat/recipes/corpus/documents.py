"""The documents of a corpus: where each ends, which are held out, and how they are written into windows."""

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from fourbeat.recipes.corpus import reading

_CHUNK = 2**24  # tokens that are looked at in one go: 32 MB of uint16


class Corpus(NamedTuple):
    """Tokens, and the documents that they are.

    Attributes:
      name: how errors name it.
      tokens: 1-d; a memmap where the file is one of ids.
      ends: int64, where each document ends: behind its document token.
      vocabulary: ids are below it.
      document_token: ends a document; the vocabulary itself where it is none of the ids.
      tokenizer: "bytes" for text, "none" for ids.
      checksum: of what was read, to know it again.
      left_out: why a file of a folder is left out, by its path.
    """

    name: str
    tokens: np.ndarray
    ends: np.ndarray
    vocabulary: int
    document_token: int
    tokenizer: Literal["bytes", "none"]
    checksum: int
    left_out: Mapping[str, str]

    @property
    def sizes(self) -> np.ndarray:
        """Tokens of each document, its document token counted in."""
        return np.diff(self.ends, prepend=0)


def read_corpus(
    file: Path, *, vocabulary: int | None, document_token: int | None, how: Mapping[str, Any]
) -> Corpus:
    """Reads a corpus, looks at each of its tokens once, and finds its documents.

    Args:
      file: see `reading.read`.
      vocabulary: ids are below it; by default the largest one in the file is the last.
      document_token: ends a document; by default a token of its own, after the vocabulary.
      how: other arguments of `reading.read`.

    Raises:
      ValueError: the file cannot be read, or an id is negative or outside of the vocabulary.
    """
    source = reading.read(file, **how)
    if source.tokenizer == "bytes":
        for flag, value in (("vocabulary", vocabulary), ("document-token", document_token)):
            if value not in (None, reading.NUM_BYTES):
                raise ValueError(f"{file} is text, whose tokens are its bytes: leave --{flag} out.")
        vocabulary = document_token = reading.NUM_BYTES
    largest, checksum = _looked_at(source.tokens, file, vocabulary)
    if source.sizes is not None:
        checksum = zlib.crc32(source.sizes.tobytes(), checksum)
    vocabulary = (
        max(largest, -1 if document_token is None else document_token) + 1
        if vocabulary is None
        else vocabulary
    )
    document_token = vocabulary if document_token is None else document_token
    if document_token > vocabulary:
        raise ValueError(f"--document-token is {document_token}, outside of a --vocabulary of {vocabulary}.")
    tokens = reading.terminated(source, document_token, smallest_dtype(max(vocabulary, document_token + 1)))
    ends = _ends(tokens, document_token)
    return Corpus(
        str(file), tokens, ends, vocabulary, document_token, source.tokenizer, checksum, source.left_out
    )


def parted(corpus: Corpus, share: float) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of the documents to learn, and of those held out: one at least of each.

    Which they are depends on their number and on nothing else, so runs of every seed are scored on the same
    ones, and documents that are added at the end move no other.

    Raises:
      ValueError: there is one document alone.
    """
    num_documents = len(corpus.ends)
    if num_documents < 2:
        how = (
            "part it into documents, --separator TEXT"
            if corpus.tokenizer == "bytes"
            else "say which id ends a document, --document-token ID"
        )
        raise ValueError(
            f"{corpus.name} is one document, so there is none to hold out: {how}, or name a file to hold "
            "out, --valid FILE."
        )
    draws = np.random.default_rng(0).random(num_documents)
    is_held_out = draws < share
    is_held_out[draws.argmin()], is_held_out[draws.argmax()] = True, False
    return np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)


class Documents:
    """Some documents of a corpus, for `fourbeat.data.packed`: they are read where they lie.

    Args:
      corpus: of the documents.
      numbers: which ones, ascending.
    """

    def __init__(self, corpus: Corpus, numbers: np.ndarray):
        sizes = corpus.sizes[numbers]
        self.offsets = np.append(0, np.cumsum(sizes))
        self.dtype = smallest_dtype(max(corpus.vocabulary, corpus.document_token + 1))
        self._tokens, self._begins = corpus.tokens, corpus.ends[numbers] - sizes

    def write(self, start: int, out: np.ndarray) -> None:
        """Fills an array with the tokens from `start` on."""
        end = start + len(out)
        first = np.searchsorted(self.offsets, start, side="right") - 1
        for number in range(first, np.searchsorted(self.offsets, end)):
            begin, stop = np.clip(self.offsets[number : number + 2], start, end)
            place = self._begins[number] + begin - self.offsets[number]
            out[begin - start : stop - start] = self._tokens[place : place + stop - begin]


def smallest_dtype(num_tokens: int) -> np.dtype:
    """The type that holds so many tokens: uint16 or uint32.

    >>> smallest_dtype(65_536), smallest_dtype(65_537)
    (dtype('uint16'), dtype('uint32'))
    """
    return np.dtype(np.uint16 if num_tokens <= 2**16 else np.uint32)


def _looked_at(tokens: np.ndarray, file: Path, vocabulary: int | None) -> tuple[int, int]:
    """The largest id, and a checksum of all.

    Raises:
      ValueError: one is negative, or outside of the vocabulary.
    """
    largest, checksum, limit = 0, 0, 2**31 - 1 if vocabulary is None else vocabulary
    for start in range(0, len(tokens), _CHUNK):
        chunk = tokens[start : start + _CHUNK]
        least, most = int(chunk.min()), int(chunk.max())
        if least < 0 or most >= limit:
            place = int(np.flatnonzero((chunk < 0) | (chunk >= limit))[0])
            where = f"id {start + place} of {file} is {int(chunk[place])}"
            if chunk[place] < 0:
                raise ValueError(f"{where}: ids are at least 0.")
            of = "every vocabulary" if vocabulary is None else f"a --vocabulary of {vocabulary}"
            raise ValueError(f"{where}, outside of {of}. Are they of another --dtype?")
        largest, checksum = max(largest, most), zlib.crc32(chunk.tobytes(), checksum)
    return largest, checksum


def _ends(tokens: np.ndarray, document_token: int) -> np.ndarray:
    found = [
        start + 1 + np.flatnonzero(tokens[start : start + _CHUNK] == document_token)
        for start in range(0, len(tokens), _CHUNK)
    ]
    ends = np.concatenate(found).astype(np.int64)
    return ends if len(ends) and ends[-1] == len(tokens) else np.append(ends, len(tokens))
