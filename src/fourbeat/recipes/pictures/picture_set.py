"""The pictures of a run: read once, without copies and what cannot be read, divided, and written down."""

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fourbeat as fb
from fourbeat.distributed.first import first_does
from fourbeat.recipes.bad_files import say_left_out
from fourbeat.recipes.pictures.decoding import decoded, for_each, look_at
from fourbeat.recipes.pictures.finding import Found, classes_of, find_pictures
from fourbeat.recipes.pictures.network import middle_of, size_for
from fourbeat.runs.copies import shown

FILE = "pictures.csv"
"""Of the run's directory: a line for each picture, with its class, its part, or why it is left out."""

_HEADER = ("file", "class", "part", "sha256", "left_out_because")
_IN_MEMORY_BYTES = 2**30  # pictures of more bytes than this are decoded again whenever they are seen
_SMALLEST = 8  # pixels of a side
_ANY_NAME = "surrogateescape"  # as Python has the name of a file that is no UTF-8
_MOST_NAMED = 5  # of the classes in one error


class Picture(NamedTuple):
    """A line of the record.

    Attributes:
      name: its file, below the root.
      label: the name of its class; "" where it has none.
      part: "train", "valid" or "test"; "" where it is left out.
      digest: the beginning of the sha256 of its pixels, as the network sees them.
      why: why it is left out; "" where it is not.
    """

    name: str
    label: str
    part: str
    digest: str
    why: str


class PictureSet(NamedTuple):
    """The pictures of a run.

    Attributes:
      path: the folder or the list that names them.
      root: the folder that names are of.
      classes: the names of the classes; a label is a place among them.
      size: height, width and channels, as the network sees them.
      middle: the median height and width of the files.
      pictures: one for each file, those that are left out included.
      data: the pictures that are not left out, in their order: `image`, uint8, and `label`.
    """

    path: Path
    root: Path
    classes: tuple[str, ...]
    size: tuple[int, int, int]
    middle: tuple[int, int]
    pictures: list[Picture]
    data: fb.data.Arrays | fb.data.Examples

    def part(self, name: str) -> fb.data.Arrays | fb.data.Examples:
        """Those of one part; of no picture at all, it has length 0."""
        return self.data[np.flatnonzero([each.part == name for each in self.used])]

    def files(self, part: str) -> list[Path]:
        """The files of a part, in its order."""
        return [self.root / each.name for each in self.used if each.part == part]

    def labels(self, part: str) -> np.ndarray:
        """The label of each picture of a part, int of shape (pictures,)."""
        return _places([each.label for each in self.used if each.part == part], self.classes)

    @property
    def is_in_memory(self) -> bool:
        """Whether the pixels are in memory; else a picture is decoded whenever it is seen."""
        return isinstance(self.data, fb.data.Arrays)

    def counts(self, part: str) -> np.ndarray:
        """How many pictures of each class a part has, int of shape (classes,)."""
        count = Counter(each.label for each in self.used if each.part == part)
        return np.array([count[name] for name in self.classes])

    @property
    def used(self) -> list[Picture]:
        """Those that are not left out."""
        return [each for each in self.pictures if not each.why]

    def record(self, run: Path) -> None:
        """Writes the record into the directory of a new run, and says how many pictures are left out and why.

        Of a run that goes on, the record has to be the same: else it would not be the same run.

        Raises:
          ValueError: the pictures are not those that the run began with.
        """
        first_does(lambda: self._recorded(run))

    def _recorded(self, run: Path) -> None:
        file = run / FILE
        if file.exists():
            self._check_same(read_record(file), run)
            return
        file.write_text(_written(self.pictures), encoding="utf-8", errors=_ANY_NAME)
        say_left_out({each.name: each.why for each in self.pictures if each.why}, listed_in=shown(file))

    def _check_same(self, before: Sequence[Picture], run: Path) -> None:
        was, now = ({each.name: each for each in pictures} for pictures in (before, self.pictures))
        changes = {
            "new": now.keys() - was.keys(),
            "gone": was.keys() - now.keys(),
            "changed": {
                name for name in was.keys() & now.keys() if _content(was[name]) != _content(now[name])
            },
        }
        if not any(changes.values()):  # as another seed does
            changes = {"divided otherwise": {name for name in now if was[name].part != now[name].part}}
        told = [f"{len(names):,} {what}, such as {min(names)}" for what, names in changes.items() if names]
        if told:
            raise ValueError(
                f"the pictures in {self.path} are not those that {shown(run)} began with: {'; '.join(told)}. "
                "Put them back, or begin a new run."
            )


def read_pictures(
    path: Path,
    *,
    held_out: float,
    seed: int,
    workers: int,
    size: Sequence[int] | None = None,
    classes: Sequence[str] = (),
) -> PictureSet:
    """Reads pictures, leaves out what cannot be read and copies, and holds some out.

    Each file is decoded once here. Of pictures that are alike to the network one is kept: so none that is
    scored is also trained on. Where the data is divided already it is the one that is scored, so that the
    scores stay those of the same pictures. Alike pictures of different classes are all left out.

    Args:
      path: the folder or the list, as `find_pictures` takes it.
      held_out: the share of each class that is held out, at least one; where the data is divided already and
        has neither valid nor test, or test alone, of its train.
      seed: of which are held out.
      workers: threads that decode.
      size: height, width and channels; by default chosen for the pictures.
      classes: the classes that there have to be; by default those that there are.

    Raises:
      ValueError: there are no pictures of two classes at least, each with two to divide.
    """
    if size is not None and (len(size) != 3 or min(size[:2]) < _SMALLEST or size[2] not in (1, 3)):
        raise ValueError(
            f"--size is {' '.join(map(str, size))}; give height, width and channels: sides of at least "
            f"{_SMALLEST}, and 1 channel for grey or 3 for colours."
        )
    found = find_pictures(path)
    names = classes_of(found)
    if classes and (
        differing := [name for name in (*names, *classes) if (name in names) != (name in classes)]
    ):
        more = f" and {len(differing) - _MOST_NAMED:,} more" if len(differing) > _MOST_NAMED else ""
        raise ValueError(
            f"{path} and the run differ in the classes {', '.join(differing[:_MOST_NAMED])}{more}. Give the "
            "pictures that it was trained on, or begin a new run."
        )
    names = tuple(classes) or names
    files = [found.root / name for name in found.names]
    looks = for_each(look_at, files, workers)
    seen = [look for look in looks if not isinstance(look, ValueError)]
    if not seen:
        raise ValueError(f"none of the {len(files):,} pictures in {path} can be read: {looks[0]}")
    chosen = size_for(seen) if size is None else (size[0], size[1], size[2])
    digests, why, kept = _decoded(found, files, chosen, workers)
    why = _without_copies(found, digests, why)
    parts = _divided(path, found, names, why, held_out, seed)
    pictures = [
        Picture(*each) for each in zip(found.names, found.classes, parts, digests, why, strict=True)
    ] + [Picture(name, "", "", "", reason) for name, reason in found.left_out.items()]
    labels = _places(found.classes, names)
    is_used = np.array([not each for each in why])
    data = _data(files, labels, is_used, kept, chosen)
    return PictureSet(path, found.root, names, chosen, middle_of(seen), pictures, data)


def held_out_pictures(
    run: Path, path: Path, size: Sequence[int], classes: Sequence[str], workers: int
) -> tuple[fb.data.Arrays, str]:
    """The pictures that a run is scored on, of its record, and their part: "test", or else "valid".

    Raises:
      ValueError: one of them is not there any more, or has changed.
    """
    used = [each for each in read_record(run / FILE) if not each.why]
    part = "test" if any(each.part == "test" for each in used) else "valid"
    scored = [each for each in used if each.part == part]
    root = path if path.is_dir() else path.parent
    files = [root / each.name for each in scored]
    pixels = for_each(partial(decoded, size=size), files, workers)
    for each, file, picture in zip(scored, files, pixels, strict=True):
        if isinstance(picture, ValueError):
            raise ValueError(f"{run} was scored on a picture that is not there any more: {picture}")
        if _digest(picture) != each.digest:
            raise ValueError(f"{file} has changed since {run} began, and it is scored on it. Put it back.")
    labels = _places([each.label for each in scored], classes)
    return fb.data.Arrays(image=np.stack([np.asarray(picture) for picture in pixels]), label=labels), part


def read_record(file: Path) -> list[Picture]:
    """The lines of a record.

    Raises:
      ValueError: it is not there, or is damaged.
    """
    try:
        with file.open(newline="", encoding="utf-8", errors=_ANY_NAME) as opened:
            header, *lines = csv.reader(opened)
        if tuple(header) != _HEADER or any(len(line) != len(_HEADER) for line in lines):
            raise ValueError
    except OSError as error:
        raise ValueError(f"cannot read {file}: {error.strerror}.") from None
    except ValueError:
        raise ValueError(f"{file} is damaged: it is no list of pictures with {', '.join(_HEADER)}.") from None
    return [Picture(*line) for line in lines]


def _content(picture: Picture) -> Picture:
    return picture._replace(part="")


def _written(pictures: Sequence[Picture]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([_HEADER, *pictures])
    return text.getvalue()


def _decoded(
    found: Found, files: Sequence[Path], size: tuple[int, int, int], workers: int
) -> tuple[list[str], list[str], np.ndarray | None]:
    """The digest of each picture, why it is left out, and all pixels where memory holds them."""
    fits = len(files) * int(np.prod(size)) <= _IN_MEMORY_BYTES
    kept = np.zeros((len(files), *size), np.uint8) if fits else None
    place_of = {file: place for place, file in enumerate(files)}

    def digest(file: Path) -> str:
        pixels = decoded(file, size)
        if kept is not None:
            kept[place_of[file]] = pixels
        return _digest(pixels)

    results = for_each(digest, list(place_of), workers)
    of = dict(zip(place_of, results, strict=True))
    digests = ["" if isinstance(of[file], ValueError) else str(of[file]) for file in files]
    why = [str(of[file]) if isinstance(of[file], ValueError) else "" for file in files]
    if kept is not None and len(place_of) < len(files):  # a list names a file twice
        kept = kept[[place_of[file] for file in files]]
    return digests, why, kept


def _places(labels: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """The place of each label among the classes, int32."""
    place_of = {name: place for place, name in enumerate(classes)}
    return np.array([place_of[label] for label in labels], np.int32)


def _digest(pixels: Any) -> str:
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()[:16]


def _without_copies(found: Found, digests: Sequence[str], why: Sequence[str]) -> list[str]:
    """Why each picture is left out, copies included."""
    alike: dict[str, list[int]] = {}
    for place, digest in enumerate(digests):
        if not why[place]:
            alike.setdefault(digest, []).append(place)
    reasons = list(why)
    for places in alike.values():
        if len(places) == 1:
            continue
        if len({found.classes[place] for place in places}) > 1:
            for place in places:
                other = next(each for each in places if found.classes[each] != found.classes[place])
                reasons[place] = f"it is the same picture as {found.names[other]}, of another class"
            continue
        first = next(
            (each for part in ("test", "valid") for each in places if found.parts[each] == part), places[0]
        )
        for place in places:
            if place != first:
                is_named_twice = found.names[place] == found.names[first]
                copy = f"it is a copy of {found.names[first]}"
                reasons[place] = "the list names it twice" if is_named_twice else copy
    return reasons


def _divided(
    path: Path, found: Found, names: Sequence[str], why: Sequence[str], held_out: float, seed: int
) -> list[str]:
    """The part of each picture; "" where it is left out."""
    parts = ["" if reason else part or "train" for part, reason in zip(found.parts, why, strict=True)]
    needs_division = "valid" not in found.parts
    trained: dict[str, list[int]] = {name: [] for name in names}
    for i, label in enumerate(found.classes):
        if parts[i] == "train":
            trained[label].append(i)
    for place, (name, mine) in enumerate(trained.items()):
        if len(mine) < (2 if needs_division else 1):
            raise ValueError(_too_few(path, found, why, name, len(mine), needs_division))
        if needs_division:
            order = np.random.RandomState([seed, place]).permutation(len(mine))
            for chosen in order[: min(max(round(held_out * len(mine)), 1), len(mine) - 1)]:
                parts[mine[chosen]] = "valid"
    return parts


def _too_few(
    path: Path, found: Found, why: Sequence[str], name: str, number: int, needs_division: bool
) -> str:
    reasons = [reason for label, reason in zip(found.classes, why, strict=True) if label == name and reason]
    left_out = f"; {len(reasons):,} left out: {reasons[0].rstrip('.')}" if reasons else ""
    has = "a single picture" if number else "no picture"
    needs = (
        "at least two, one to train on and one to hold out" if needs_division else "one at least to train on"
    )
    return f"the class {name} in {path} has {has}{left_out}. It needs {needs}."


def _data(
    files: Sequence[Path],
    labels: np.ndarray,
    is_used: np.ndarray,
    kept: np.ndarray | None,
    size: Sequence[int],
) -> fb.data.Arrays | fb.data.Examples:
    if kept is not None:
        return fb.data.Arrays(image=kept[is_used], label=labels[is_used])
    source = [
        {"file": str(file), "label": label}
        for file, label, used in zip(files, labels, is_used, strict=True)
        if used
    ]
    return fb.data.Examples(source, partial(_example, tuple(size)))


def _example(size: Sequence[int], example: dict) -> dict:
    return {"image": decoded(Path(example["file"]), size), "label": example["label"]}
