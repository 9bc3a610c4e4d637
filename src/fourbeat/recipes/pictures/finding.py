"""Which pictures a folder or a list names, of which class each is, and for what it is kept."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from fourbeat.data.readers.picture_formats import SUFFIXES

EXPECTED = "a folder with a folder of pictures for each class, or a CSV file of names and classes"
_PARTS = {
    "train": "train", "training": "train", "valid": "valid", "val": "valid", "validation": "valid",
    "dev": "valid", "test": "test", "testing": "test",
}  # fmt: skip
_COLUMNS = {
    "file": ("file", "file_name", "filename", "path", "image", "picture", "name"),
    "class": ("class", "label", "category", "class_name", "target"),
    "part": ("part", "split", "set", "subset"),
}
_MOST_NAMED = 3  # of several files in one error


class Found(NamedTuple):
    """The pictures that were found; none has been opened.

    Attributes:
      root: the folder that the names are of.
      names: of the files, below `root`.
      classes: the class of each.
      parts: "train", "valid" or "test" of each, where the data is divided already; else "".
      left_out: why a file is left out, by its name.
    """

    root: Path
    names: list[str]
    classes: list[str]
    parts: list[str]
    left_out: dict[str, str]


def find_pictures(path: Path) -> Found:
    """The pictures of a folder, or of a list of them.

    A folder holds a folder for each class; or folders `train`, and `valid` or `test`, that do. A CSV file has
    a header with a column `file` and a column `class` (or `label`), and a column `split` where the data is
    divided already. Names are looked up beside it. Names that begin with a dot are passed over.

    Raises:
      ValueError: there is no such folder or file, or it holds something else.
    """
    if not path.exists():
        raise ValueError(f"there is no folder {path}. Give {EXPECTED}.")
    if path.is_dir():
        found = _in_folder(path)
    elif path.suffix.lower() in (".csv", ".tsv"):
        found = _in_list(path)
    else:
        raise ValueError(f"{path} is a file, and no CSV. Give {EXPECTED}.")
    _check_classes(path, found)
    return found


def pictures_in(folder: Path) -> list[Path]:
    """The pictures of a folder and of those within it, by name. Names that begin with a dot are passed over.

    Raises:
      ValueError: a folder cannot be read.
    """
    return [file for file in _files(folder) if _is_picture(file)]


def classes_of(found: Found) -> tuple[str, ...]:
    """The names of the classes: numbers by their value, others by the alphabet.

    >>> classes_of(Found(Path("."), ["a", "b", "c"], ["10", "9", "10"], [""] * 3, {}))
    ('9', '10')
    """
    names = set(found.classes)
    are_numbers = all(name.isascii() and name.isdigit() for name in names)
    return tuple(sorted(names, key=lambda name: (int(name), name) if are_numbers else (0, name)))


def _in_folder(path: Path) -> Found:
    folders, left_out = _folders(path), {}
    if folders and "train" in {_PARTS.get(each.name.lower()) for each in folders}:
        divided = {each: _PARTS.get(each.name.lower()) for each in folders}
        if all(divided.values()):
            return _divided(path, {each: part for each, part in divided.items() if part})
    found = Found(path, [], [], [], left_out)
    if not folders:
        loose = next((each.name for each in _entries(path) if _is_picture(each)), None)
        seen = "no folder" if loose is None else f"pictures, such as {loose}, and no folder"
        raise ValueError(
            f"{path} holds {seen}. Give {EXPECTED}: {path.name}/cat/1.png, {path.name}/dog/2.png."
        )
    _add(found, folders, "")
    return found


def _divided(path: Path, folders: Mapping[Path, str]) -> Found:
    found = Found(path, [], [], [], {})
    for folder, part in folders.items():
        _add(found, _folders(folder), part)
        if part not in found.parts:
            raise ValueError(f"{folder} holds no picture. Give {EXPECTED}; {folder.name} may be left out.")
    return found


def _add(found: Found, folders: Sequence[Path], part: str) -> None:
    """Adds the pictures of class folders. Files beside these are left out."""
    name_of = lambda file: file.relative_to(found.root).as_posix()
    for folder in {each.parent: None for each in folders}:
        for each in _entries(folder):
            if not each.is_dir():
                found.left_out[name_of(each)] = "it lies beside the class folders"
    for folder in folders:
        files = list(_files(folder))
        pictures = [file for file in files if _is_picture(file)]
        if not pictures:
            holds = f"{len(files)} files, and no picture" if files else "no picture"
            raise ValueError(
                f"the class folder {folder} holds {holds}: no {', '.join(SUFFIXES)}. Put pictures in, or "
                "take the folder away."
            )
        for file in files:
            if not _is_picture(file):
                found.left_out[name_of(file)] = f"its name ends in none of {', '.join(SUFFIXES)}"
        found.names.extend(map(name_of, pictures))
        found.classes.extend(folder.name for _ in pictures)
        found.parts.extend(part for _ in pictures)


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(each for each in folder.iterdir() if not each.name.startswith((".", "__MACOSX")))
    except OSError as error:
        raise ValueError(f"cannot read {folder}: {error.strerror}.") from None


def _folders(folder: Path) -> list[Path]:
    return [each for each in _entries(folder) if each.is_dir()]


def _files(folder: Path) -> Iterator[Path]:
    for each in _entries(folder):
        if each.is_dir():
            yield from () if each.is_symlink() else _files(each)  # a link may lead round in a circle
        else:
            yield each


def _is_picture(file: Path) -> bool:
    return not file.is_dir() and file.suffix.lower() in SUFFIXES


def _in_list(file: Path) -> Found:
    found = Found(file.parent, [], [], [], {})
    for line, (name, label, part) in _rows(file):
        for value, what in ((name, "file"), (label, "class")):
            if not value:
                raise ValueError(
                    f"{file}, line {line}: its {what} is missing. Give each picture a file and a class."
                )
        if part is not None and part.lower() not in _PARTS:
            raise ValueError(f"{file}, line {line}: its part is {part!r}; expected train, valid or test.")
        found.names.append(name)
        found.classes.append(label)
        found.parts.append("" if part is None else _PARTS[part.lower()])
    if not found.names:
        raise ValueError(f"{file} names no picture. Below its header each line has a file and a class.")
    return found


def _rows(file: Path) -> Iterator[tuple[int, tuple[str, str, str | None]]]:
    """The number of each line, and the file, the class and the part that it names."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ValueError(f"cannot read {file}: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise ValueError(f"{file} is no UTF-8 text.") from None
    header = text.partition("\n")[0]
    reader = csv.reader(text.splitlines(keepends=True), delimiter=max(",;\t", key=header.count))
    names = [name.strip() for name in next(reader, [])]
    places = {role: _place(names, known) for role, known in _COLUMNS.items()}
    name, label, part = places["file"], places["class"], places["part"]
    if name is None or label is None:
        raise ValueError(
            f"{file} has the columns {', '.join(names) or 'none'}; expected a header with file and class, "
            "and split where the data is divided already."
        )
    for row in reader:
        cells = [cell.strip() for cell in row] + [""] * (len(names) - len(row))
        if any(cells):
            yield reader.line_num, (cells[name], cells[label], None if part is None else cells[part])


def _place(names: Sequence[str], known: Sequence[str]) -> int | None:
    lower = [name.lower() for name in names]
    return next((lower.index(name) for name in known if name in lower), None)


def _check_classes(path: Path, found: Found) -> None:
    """Whether there are two classes, and none in one part alone that is not trained on."""
    classes = classes_of(found)
    if len(classes) < 2:
        raise ValueError(
            f"{path} holds one class alone, {' '.join(classes)}. A classifier needs two or more. "
            f"Give {EXPECTED}."
        )
    trained = {label for label, part in zip(found.classes, found.parts, strict=True) if part in ("", "train")}
    if unseen := [label for label in classes if label not in trained]:
        raise ValueError(
            f"{path} has no picture to train on of {', '.join(unseen[:_MOST_NAMED])}, which valid or test "
            "has. Put some into train."
        )
