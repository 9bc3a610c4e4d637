"""A run by its name: its directory, or `latest` and `best` of those below a folder. No JAX is needed."""

import os
from collections.abc import Collection, Iterator
from pathlib import Path

from fourbeat.runs.copies import copies_below, on_this_machine, shown
from fourbeat.runs.records import begun_s, read_history, read_record
from fourbeat.runs.scores import best_of
from fourbeat.stores.addresses import address_of

RUNS = Path("runs")  # where runs lie by default
_WORDS = ("latest", "best")


def named(name: str | os.PathLike[str], recipes: Collection[str] | None = None) -> Path:
    """The directory of a run.

    Args:
      name: the directory itself, or its address, of which a copy is made; `latest`, the run below `runs`
        that was begun last; `best`, the one below `runs` with the best score; or the same of another folder
        or address, as in `runs/mnist-cnn/best`.
      recipes: only runs of these are `latest` or `best`; None for runs of any recipe.

    Raises:
      ValueError: there is no such run, the newest one is damaged, or the scores are of several kinds.
    """
    path, address = Path(name), address_of(name)
    is_word = path.name in _WORDS and (address is not None or len(path.parts) == 1 or not path.exists())
    if not is_word:
        return on_this_machine(name)
    root = RUNS if len(path.parts) == 1 else path.parent
    found = newest(recipes, root) if path.name == "latest" else _best(recipes, root)
    if found is None:
        kind = "no run" if recipes is None else f"no run of {', '.join(recipes)}"
        has = "" if path.name == "latest" else " with a score"
        raise ValueError(f"there is {kind}{has} below {shown(root)}. Name the run's directory.")
    return found if address is None else on_this_machine(shown(found))  # with all of its files


def newest(recipes: Collection[str] | None = None, root: Path = RUNS) -> Path | None:
    """The run of one of these recipes that was begun last, or None where there is none.

    Args:
      recipes: the names of the recipes; None for any.
      root: the directory below which runs lie. A damaged run counts as of the recipe that its folder is
        named for.

    Raises:
      ValueError: the record of that run is damaged, so its recipe is not known.
    """
    begun: list[tuple[float, str]] = []
    for path in runs_below(root):
        try:
            record = read_record(path)
        except ValueError:
            if recipes is None or path.parent.name in recipes:
                begun.append((begun_s(path, {}), str(path)))
            continue
        if record is not None and (recipes is None or record.recipe in recipes):
            begun.append((record.begun_s, str(path)))
    if not begun:
        return None
    path = Path(max(begun)[1])
    try:
        read_record(path)
    except ValueError as error:
        raise ValueError(f"the newest run is damaged: {error} Name the run that you want.") from None
    return path


def runs_below(root: Path) -> Iterator[Path]:
    """The directories that hold a `config.json`, links to directories included, each once.

    Below the address of an object store, a copy of each.
    """
    if (address := address_of(root)) is not None:
        yield from copies_below(address)
        return
    seen = set()
    for folder, inner, files in os.walk(root, followlinks=True):
        try:
            status = os.stat(folder)
        except OSError:
            inner.clear()
            continue
        if (status.st_dev, status.st_ino) in seen:  # a link to what lies around it
            inner.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        inner.sort()
        if "config.json" in files or "config.json" in inner:
            inner[:] = [name for name in inner if name != "checkpoints"]
            yield Path(folder)


def _best(recipes: Collection[str] | None, root: Path) -> Path | None:
    """The run with the best score. Damaged runs have none."""
    scored: dict[tuple[str, str], list[tuple[float, Path]]] = {}
    for path in runs_below(root):
        try:
            record = read_record(path)
            history, _ = read_history(path)
        except (OSError, ValueError):
            continue
        if record is None or record.score is None or (recipes is not None and record.recipe not in recipes):
            continue
        best = best_of(history, record).get(record.score)
        if best is not None:
            scored.setdefault((record.score, best["mode"]), []).append((best["score"], path))
    if len(scored) > 1:
        kinds = ", ".join(sorted(name for name, _ in scored))
        folder = os.path.dirname(shown(next(iter(scored.values()))[0][1]))
        alike = "" if folder == shown(root) else f" as in {folder}/best,"
        raise ValueError(
            f"the runs below {shown(root)} have several scores, {kinds}: none of them is the best of all. "
            f"Name a folder of runs that are alike,{alike} or the run's directory."
        )
    for (_, mode), found in scored.items():
        return (min if mode == "min" else max)(found, key=lambda each: each[0])[1]
    return None
