"""Documents packed into windows of tokens, with their boundaries."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from fourbeat.data.examples import Examples
from fourbeat.data.order import Order, Permutation
from fourbeat.data.whole_numbers import whole_number
from fourbeat.types import Object


def packed(
    documents: Object,
    length: int,
    *,
    offsets: Object = None,
    cut: bool = False,
    before: int | None = None,
    decode: Callable[[Any], Mapping[str, Any]] | None = None,
) -> Examples:
    """Documents packed into windows of `length` tokens, as `Examples` of one shape.

    A window holds documents one after the other, in their order. It has three columns of shape (length,):
    `tokens` in the documents' own type; `segment_ids` int32, which count the documents of the window from 1;
    and `positions` int32, which count the tokens of each from 0. The rest of a window is padding: 0 in all
    three. Tokens attend to those of their own document alone under the mask
    `segment_ids[:, :, None] == segment_ids[:, None, :]`.

    A window is read when it is wanted; a memmap reads that part of its file alone.

    With `before`, a window has two more columns of shape (length,), so that a language model predicts
    `tokens` from `inputs`: the token before each of `tokens` in its document, and `before` in front of the
    first one. `weight` is 1 for tokens and 0 for padding. Every token of every document is predicted once
    then, where a document is cut too.

    Args:
      documents: a sequence of 1-d integer arrays, one a document; or one such array, or memmap, of all
        tokens; or an object that has `offsets` and `dtype` and writes tokens into an array: `Tokens`.
      length: tokens a window.
      offsets: of one array of tokens, where documents begin and the last one ends: integers, from 0 to the
        number of tokens.
      cut: whether a document goes on in the next window where this one is full; what goes on is a segment of
        its own there, with positions from 0. By default a document is never cut: one that does not fit in
        what is left begins the next window.
      before: the token that stands before every document, such as the one that ends it.
      decode: function of one window, a dict of its columns, that returns the columns of an example.

    Raises:
      TypeError: the documents are not of integers, or one array comes without offsets.
      ValueError: a document does not fit in a window and is not to be cut, the offsets are not ascending from
        0 to the number of tokens, there is no token, or `length` is below 1.

    >>> import numpy as np
    >>> windows = packed([np.array([5, 6, 7]), np.array([8, 9]), np.array([3])], length=4)
    >>> batch = windows.batches(2)[0]
    >>> batch["tokens"].tolist(), batch["segment_ids"].tolist(), batch["positions"].tolist()
    ([[5, 6, 7, 0], [8, 9, 3, 0]], [[1, 1, 1, 0], [1, 1, 2, 0]], [[0, 1, 2, 0], [0, 1, 0, 0]])

    >>> windows = packed(np.array([5, 6, 7, 8, 9, 1]), 4, offsets=[0, 5, 6], cut=True, before=1)
    >>> batch = windows.batches(2)[0]
    >>> batch["inputs"].tolist(), batch["tokens"].tolist(), batch["weight"].tolist()
    ([[1, 5, 6, 7], [8, 1, 0, 0]], [[5, 6, 7, 8], [9, 1, 0, 0]], [[1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 0.0, 0.0]])
    """
    length = whole_number("length", length)
    before = None if before is None else whole_number("before", before)
    if length < 1:
        raise ValueError(f"length is {length}; a window needs at least 1 token.")
    tokens = _tokens_of(documents, offsets)
    if not tokens.offsets[-1]:
        raise ValueError("cannot pack documents that hold no token.")
    edges = _cut_edges(tokens.offsets, length) if cut else _whole_edges(tokens.offsets, length)
    return Examples(Windows(tokens, edges, length, before), decode)


class Tokens(Protocol):
    """The tokens of all documents, one after the other.

    Attributes:
      offsets: int64, where each document begins, and the number of all tokens.
      dtype: of the tokens.
    """

    offsets: np.ndarray
    dtype: np.dtype

    def write(self, start: int, out: np.ndarray, /) -> None:
        """Fill an array with the tokens from `start` on."""
        ...


class Windows:
    """A `Reader` of windows.

    Args:
      tokens: what is packed.
      edges: int64, the token at which each window begins, and the number of all tokens.
      length: of a window.
      before: the token before every document; None where nothing is to be predicted.
    """

    name = "the packed documents"

    def __init__(self, tokens: Tokens, edges: np.ndarray, length: int, before: int | None = None):
        self._tokens, self._edges, self._length, self._before = tokens, edges, length, before

    def __len__(self) -> int:
        return len(self._edges) - 1

    def read(self, numbers: np.ndarray) -> dict[str, np.ndarray]:
        """See `Reader.read`."""
        shape = len(numbers), self._length
        tokens = np.zeros(shape, self._tokens.dtype)
        segment_ids, positions = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
        for place, number in enumerate(numbers):
            start, end = self._edges[number : number + 2]
            self._tokens.write(start, tokens[place, : end - start])
            lengths = np.diff(_documents_within(self._tokens.offsets, start, end))
            lengths = lengths[lengths > 0]
            begins = np.cumsum(lengths) - lengths
            segment_ids[place, : end - start] = np.repeat(np.arange(1, len(lengths) + 1), lengths)
            positions[place, : end - start] = np.arange(end - start) - np.repeat(begins, lengths)
        columns = {"tokens": tokens, "segment_ids": segment_ids, "positions": positions}
        if self._before is None:
            return columns
        inputs = self._inputs(tokens, segment_ids, positions, self._edges[numbers])
        return {"inputs": inputs, **columns, "weight": (segment_ids > 0).astype(np.float32)}

    def _inputs(
        self, tokens: np.ndarray, segment_ids: np.ndarray, positions: np.ndarray, starts: np.ndarray
    ) -> np.ndarray:
        """The token before each one: `before` where a document begins, 0 in the padding."""
        assert self._before is not None
        offsets = self._tokens.offsets
        inputs = np.zeros(tokens.shape, np.result_type(tokens.dtype, np.min_scalar_type(self._before)))
        inputs[:, 1:] = tokens[:, :-1]
        inputs[positions == 0] = self._before
        inputs[segment_ids == 0] = 0
        one = np.zeros(1, tokens.dtype)
        goes_on = offsets[np.searchsorted(offsets, starts)] != starts  # a document from the window before
        for place in np.flatnonzero(goes_on):
            self._tokens.write(starts[place] - 1, one)
            inputs[place, 0] = one[0]
        return inputs

    def place(self, number: int) -> str:
        """See `Reader.place`."""
        return f"window {number} of {self.name}"

    def order_of(self, numbers: np.ndarray | None) -> Order:
        """See `Reader.order_of`."""
        return Permutation()


class _OneArray:
    def __init__(self, tokens: Object, offsets: Object):
        _check_integers("documents", tokens)
        if offsets is None:
            raise TypeError(
                "documents is one array of tokens, which does not say where a document ends: pass offsets=, "
                "as np.append(0, np.flatnonzero(documents == end_of_document) + 1), or a list of documents."
            )
        given = np.asarray(offsets)
        is_whole = given.ndim == 1 and given.dtype.kind in "iu" and len(given) > 1
        if (
            not is_whole
            or given[0] != 0
            or given[-1] != len(tokens)
            or (np.diff(given.astype(int)) < 0).any()
        ):
            shown = f"{given[0]}, ..., {given[-1]}" if given.ndim == 1 and len(given) else given
            raise ValueError(
                f"offsets is [{shown}]; expected ascending whole numbers from 0 to {len(tokens)}, the number "
                "of tokens: where each document begins, and where the last one ends."
            )
        self.offsets = given.astype(np.int64)
        self.dtype = tokens.dtype
        self._tokens = tokens

    def write(self, start: int, out: np.ndarray) -> None:
        out[:] = self._tokens[start : start + len(out)]


class _Listed:
    def __init__(self, documents: Object, offsets: Object):
        if offsets is not None:
            raise TypeError("offsets= is for one array of all tokens; these documents are apart already.")
        self._documents: Sequence[np.ndarray] = [np.asarray(document) for document in documents]
        for number, document in enumerate(self._documents):
            _check_integers(f"document {number}", document)
        lengths = [len(document) for document in self._documents]
        self.offsets = np.append(0, np.cumsum(lengths, dtype=np.int64))
        dtypes = {document.dtype for document in self._documents if len(document)}
        self.dtype = np.result_type(*dtypes, np.bool_)

    def write(self, start: int, out: np.ndarray) -> None:
        end = start + len(out)
        first = np.searchsorted(self.offsets, start, side="right") - 1
        for number in range(first, np.searchsorted(self.offsets, end)):
            begin = self.offsets[number]
            piece = self._documents[number][max(start - begin, 0) : end - begin]
            place = max(begin - start, 0)
            out[place : place + len(piece)] = piece


def _tokens_of(documents: Object, offsets: Object) -> Tokens:
    if _is_one(documents):
        return _OneArray(documents, offsets)
    if callable(getattr(documents, "write", None)) and hasattr(documents, "offsets"):
        return documents
    return _Listed(documents, offsets)


def _is_one(documents: Object) -> bool:
    return isinstance(documents, np.ndarray) and documents.ndim == 1 and documents.dtype != object


def _check_integers(place: str, tokens: np.ndarray) -> None:
    if tokens.ndim != 1 or (tokens.dtype.kind not in "iu" and len(tokens)):
        raise TypeError(
            f"{place} is {tokens.dtype} of shape {tokens.shape}; expected a 1-d array of integers, its "
            "tokens."
        )


def _documents_within(offsets: np.ndarray, start: int, end: int) -> np.ndarray:
    """Where the documents within a range of tokens begin, and where the last one ends, cut to that range."""
    first = np.searchsorted(offsets, start, side="right") - 1
    return np.clip(offsets[first : np.searchsorted(offsets, end) + 1], start, end)


def _cut_edges(offsets: np.ndarray, length: int) -> np.ndarray:
    return np.append(np.arange(0, offsets[-1], length), offsets[-1])


def _whole_edges(offsets: np.ndarray, length: int) -> np.ndarray:
    lengths = np.diff(offsets)
    too_long = np.flatnonzero(lengths > length)
    if len(too_long):
        raise ValueError(
            f"document {too_long[0]} has {lengths[too_long[0]]} tokens, one of {len(too_long)} that do not "
            f"fit in a window of {length}. Pass cut=True, so that documents go on in the next window; or cut "
            f"them, or use length={lengths.max()}."
        )
    # the document with which the window goes on that begins with each one
    following = (np.searchsorted(offsets, offsets[:-1] + length, side="right") - 1).tolist()
    begins, document = [], 0
    while document < len(following):
        begins.append(document)
        document = following[document]
    return np.append(offsets[begins], offsets[-1])
