"""An assertion that a run which was stopped and resumed ends as if it had never been stopped."""

import tempfile
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeAlias

from fourbeat.looping.warnings import StartBeyondEndWarning
from fourbeat.testing.bits import assert_bit_equal
from fourbeat.types import Tree

Train: TypeAlias = Callable[[Path, int | None], Tree]


def assert_resumes_exactly(train: Train, *, stops: Iterable[int] = (1, 2, 5)) -> None:
    """Passes where a run that is stopped and resumed ends with the bits of the run that was not stopped.

    It is stopped once at each of `stops`, and then at all of them in turn. One run more asks for no more than
    is already done, and must do nothing: a run that begins anew would be seen there.

    Args:
      train: `train(directory, stop_at)` trains in `directory`, a `pathlib.Path`. It goes on with what it
        finds there, up to step `stop_at`, or to its end where `stop_at` is None, and returns all that the
        training consists of, such as its state: any pytree. Stop the loop alone at `stop_at`, as a signal
        would: a schedule that is laid out for fewer steps is another run. Where the run is past `stop_at`
        already, it does nothing.
      stops: steps to stop at, each before the end of the run. Take some within an epoch, at its end and
        right after it.

    Raises:
      AssertionError: it ends in another way; the text says which leaves differ.

    >>> import json
    >>> def train(directory, stop_at):
    ...     saved = directory / "state.json"
    ...     step, total = json.loads(saved.read_text()) if saved.exists() else (0, 0.0)
    ...     while step < (10 if stop_at is None else stop_at):
    ...         step, total = step + 1, total + 0.1 * step
    ...     saved.write_text(json.dumps([step, total]))
    ...     return {"step": step, "total": total}
    >>> assert_resumes_exactly(train)
    """
    stops = sorted(set(stops))
    if not stops:
        raise ValueError("stops is empty. Give the steps to stop at.")
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", StartBeyondEndWarning)  # a run that is past `stop_at` does nothing
        root = Path(folder)
        whole = train(_made(root / "whole"), None)
        directory = root
        for places in [*([stop] for stop in stops), *([stops] if len(stops) > 1 else [])]:
            directory = _made(root / "-".join(map(str, places)))
            for stop in places:
                stopped = train(directory, stop)
                if _is_same(stopped, whole):
                    raise AssertionError(
                        f"train(directory, {stop}) did not stop there: it returned what the whole run does. "
                        "Take stops before the end, and stop the loop at stop_at."
                    )
                if not any(directory.iterdir()):
                    raise AssertionError(
                        f"train(directory, {stop}) left nothing in its directory: nothing can be resumed."
                    )
            _check(
                train(directory, None), whole, f"stopped at {_listed(places)} and resumed", "it ended with"
            )
        _check(train(directory, stops[0]), whole, f"asked for step {stops[0]} after its end", _ANEW)


_ANEW = "it began anew, and does not go on with what its directory holds:"


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory


def _listed(places: list[int]) -> str:
    noun = "step" if len(places) == 1 else "steps"
    return f"{noun} {', '.join(map(str, places))}"


def _is_same(tree: Tree, other: Tree) -> bool:
    try:
        assert_bit_equal(tree, other)
    except AssertionError:
        return False
    return True


def _check(tree: Tree, whole: Tree, what: str, how: str) -> None:
    try:
        assert_bit_equal(tree, whole)
    except AssertionError as error:
        raise AssertionError(
            f"{what}, the run is not the one that was never stopped: {how} other values. {error}\n"
            "Save and restore all that training changes: parameters, optimizer, random keys, statistics, the "
            "place in the data."
        ) from None
