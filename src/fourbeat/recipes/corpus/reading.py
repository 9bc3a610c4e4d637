"""Files of token ids and of text, as one array of tokens."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from fourbeat.data.parquet_files import parquet_paths
from fourbeat.recipes.text_files import kept_in, none_left, texts_of

NUM_BYTES = 256
"""Tokens of text; the document token is the next one."""

_LOOKED_AT, _FEWEST_HALVES = 2**16, 16
_HIGHEST_HALF = 16  # of ids below 2 ** 20


class Source(NamedTuple):
    """What a file holds.

    Attributes:
      tokens: of all documents, one after the other: 1-d, a memmap where the file is one of ids.
      sizes: of the documents, where the file parts them: a document that lacks a document token gets one at
        its end. None where the document tokens among the ids alone part them.
      tokenizer: "bytes" for text, "none" for ids.
      left_out: why a file of a folder is left out, by its path.
    """

    tokens: np.ndarray
    sizes: np.ndarray | None
    tokenizer: Literal["bytes", "none"]
    left_out: Mapping[str, str] = {}


def read(
    file: Path,
    *,
    dtype: Literal["uint16", "uint32"] | None = None,
    column: str | None = None,
    pattern: str = "*",
    separator: str | None = None,
) -> Source:
    """Reads a file, or a folder of them. A file of ids is mapped into memory, and not read.

    Args:
      file: ids as `.bin` or `.npy`; `.parquet`, or a folder of it; any other file, or a folder, is text.
        Of a folder what is no text is left out: what is not UTF-8, or has a byte of 0.
      dtype: of the ids of a `.bin` file; by default uint16, unless they look like uint32.
      column: of a Parquet file; None where one alone can be meant.
      pattern: the names of the files of a folder of text.
      separator: what parts the documents of a text; None where each file, or row, is one.

    Raises:
      ValueError: there is no such file, it is empty, it is no such file as its name says, or an argument is
        for files of another kind.
      ImportError: it is Parquet, and pyarrow is not installed.
    """
    if not file.exists():
        raise ValueError(f"there is no file or folder {file}.")
    is_parquet = file.suffix == ".parquet" or (file.is_dir() and any(file.rglob("*.parquet")))
    kind = "parquet" if is_parquet else file.suffix if file.suffix in (".bin", ".npy") else "text"
    for flag, value, kinds, whose in (
        ("dtype", dtype, (".bin",), "the ids of a .bin file"),
        ("column", column, ("parquet",), "Parquet"),
        ("separator", separator, ("parquet", "text"), "text"),
    ):
        if value is not None and kind not in kinds:
            raise ValueError(f"--{flag} is for {whose}, and {file} is none: leave it out.")
    try:
        if is_parquet:
            return _parquet(file, column, separator)
        if kind == ".bin":
            source = _binary(file, np.dtype(dtype or "uint16").newbyteorder("<"))
            if dtype is None:
                _check_width(file, source.tokens)
            return source
        if kind == ".npy":
            return _array(file)
        if file.is_dir():
            texts, left_out = texts_of(_below(file, pattern))
            if_empty = f"{file} has no text in files {pattern}{none_left(left_out)}"
            return _joined(texts.values(), separator, if_empty)._replace(left_out=left_out)
        if other := kept_in(file):
            raise ValueError(f"{file} is {other}.")
        return _joined([file.read_bytes()], separator, f"{file} is empty")
    except OSError as error:
        raise ValueError(f"cannot read {error.filename or file}: {error.strerror or error}.") from None


def bytes_of(text: str) -> np.ndarray:
    """The tokens of a text; text that was read with "surrogateescape" gets its own bytes back."""
    return np.frombuffer(text.encode("utf-8", "surrogateescape"), np.uint8).astype(np.uint16)


def terminated(source: Source, document_token: int, dtype: np.dtype) -> np.ndarray:
    """The tokens, with the document token at the end of every document.

    Args:
      source: what was read. Where its tokens have no sizes they come back as they are, a memmap unread.
      document_token: the token.
      dtype: of the tokens that are made.
    """
    if source.sizes is None:
        return source.tokens
    sizes = source.sizes[source.sizes > 0]
    lacks = source.tokens[np.cumsum(sizes) - 1] != document_token
    whole = np.full(len(source.tokens) + int(lacks.sum()), document_token, dtype)
    is_given = np.ones(len(whole), bool)
    is_given[(np.cumsum(sizes + lacks) - 1)[lacks]] = False
    whole[is_given] = source.tokens
    return whole


def _binary(file: Path, dtype: np.dtype) -> Source:
    size_bytes = file.stat().st_size
    if not size_bytes:
        raise ValueError(f"{file} is empty.")
    if size_bytes % dtype.itemsize:
        raise ValueError(
            f"{file} has {size_bytes:,} bytes, which is no whole number of {dtype.name} ids of "
            f"{dtype.itemsize} bytes each. Say which they are: --dtype uint16 or --dtype uint32. Text "
            "belongs in a file of another name, such as .txt."
        )
    return Source(np.memmap(file, dtype, "r"), None, "none")


def _check_width(file: Path, tokens: np.ndarray) -> None:
    """Raises a ValueError where ids of 2 bytes are the halves of ids of 4, the higher ones nearly 0."""
    low, high = tokens[:_LOOKED_AT:2], tokens[1:_LOOKED_AT:2]
    if len(tokens) % 2 == 0 and len(high) >= _FEWEST_HALVES and high.max() < _HIGHEST_HALF <= low.max():
        raise ValueError(
            f"every second id of {file} is below {_HIGHEST_HALF}: that is how ids of 4 bytes look where they "
            "are read as 2. Say which they are: --dtype uint32 or --dtype uint16."
        )


def _array(file: Path) -> Source:
    try:
        tokens = np.load(file, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError):
        raise ValueError(f"{file} is damaged, or no array of numbers that NumPy saved.") from None
    if not isinstance(tokens, np.ndarray) or tokens.ndim != 1 or tokens.dtype.kind not in "iu":
        what = f"{tokens.dtype} of shape {tokens.shape}" if isinstance(tokens, np.ndarray) else "an archive"
        raise ValueError(f"{file} is {what}; expected the ids as integers of shape (n,).")
    if not len(tokens):
        raise ValueError(f"{file} is empty.")
    return Source(tokens, None, "none")


def _below(folder: Path, pattern: str) -> Iterator[Path]:
    """The files of a folder by name; names that begin with a dot, such as `.git`, are passed over."""
    files = {path.relative_to(folder): path for path in folder.rglob(pattern) if path.is_file()}
    seen = [name for name in files if not any(part.startswith(".") for part in name.parts)]
    return (files[name] for name in sorted(seen, key=Path.as_posix))


def _joined(texts: Iterable[bytes], separator: str | None, if_empty: str) -> Source:
    if separator is not None:
        edge = separator.encode("utf-8", "surrogateescape")
        texts = (document for text in texts for document in text.split(edge))
    documents = list(texts)
    tokens = np.frombuffer(b"".join(documents), np.uint8)
    if not len(tokens):
        raise ValueError(f"{if_empty}.")
    return Source(tokens, np.array([*map(len, documents)], np.int64), "bytes")


def _parquet(file: Path, column: str | None, separator: str | None) -> Source:
    paths, _ = parquet_paths(file)
    import pyarrow.parquet

    try:
        schemas = [pyarrow.parquet.read_schema(path) for path in paths]
    except pyarrow.ArrowInvalid as error:
        raise ValueError(f"cannot read {file} as Parquet: {str(error).rstrip('.')}.") from None
    name, is_text = _column(file, schemas[0], column)
    for path, schema in zip(paths, schemas, strict=True):
        if name not in schema.names or schema.field(name).type != schemas[0].field(name).type:
            raise ValueError(f"{path} has no column {name!r} of the type that {paths[0]} has.")
    rows = (
        batch.column(0)
        for path in paths
        for batch in pyarrow.parquet.ParquetFile(path).iter_batches(columns=[name])
    )
    if_empty = f"the column {name!r} of {file} holds no {'text' if is_text else 'id'}"
    if is_text:
        return _joined(_text_rows(rows), separator, if_empty)
    if separator is not None:
        raise ValueError(f"--separator is for text, and the column {name!r} of {file} has ids: leave it out.")
    return _id_rows(rows, if_empty)


def _column(file: Path, schema: Any, column: str | None) -> tuple[str, bool]:
    """The column that is meant, and whether it is of text."""
    import pyarrow.types as kinds

    lists: tuple[Callable[[Any], bool], ...] = (kinds.is_list, kinds.is_large_list, kinds.is_fixed_size_list)
    texts = (kinds.is_string, kinds.is_large_string, kinds.is_binary, kinds.is_large_binary)
    is_text = {}
    for field in schema:
        if any(is_kind(field.type) for is_kind in texts):
            is_text[field.name] = True
        elif any(is_kind(field.type) for is_kind in lists) and kinds.is_integer(field.type.value_type):
            is_text[field.name] = False
    listed = ", ".join(f"{field.name} ({field.type})" for field in schema)
    if column is not None and column not in is_text:
        raise ValueError(f"{file} has no column {column!r} of lists of ids, or of text; it has {listed}.")
    if not is_text:
        raise ValueError(f"{file} has no column of lists of ids, or of text; it has {listed}.")
    if column is None and len(is_text) > 1:
        raise ValueError(
            f"{file} has several columns of ids or text: name one, --column {' or '.join(is_text)}."
        )
    column = next(iter(is_text)) if column is None else column
    return column, is_text[column]


def _text_rows(rows: Iterable[Any]) -> Iterator[bytes]:
    for texts in rows:
        found = texts.drop_null().to_pylist()
        yield from (text.encode() if isinstance(text, str) else text for text in found)


def _id_rows(rows: Iterable[Any], if_empty: str) -> Source:
    import pyarrow.compute as compute

    pieces, sizes = [], []
    for lists in rows:
        ids = lists.flatten()
        if ids.null_count:
            raise ValueError(f"{if_empty.split(' holds')[0]} has a list with a null in it.")
        pieces.append(ids.to_numpy(zero_copy_only=False))
        lengths = compute.call_function("list_value_length", [lists]).fill_null(0)
        sizes.append(lengths.to_numpy(zero_copy_only=False))
    if not sum(map(len, pieces)):
        raise ValueError(f"{if_empty}.")
    return Source(np.concatenate(pieces), np.concatenate(sizes).astype(np.int64), "none")
