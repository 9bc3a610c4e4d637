"""What the processes of a training do together: each its part, and where one fails, all of them say so."""

from collections.abc import Callable
from typing import Any, TypeVar

from fourbeat.checkpoints.errors import CheckpointError, NotTogetherError
from fourbeat.checkpoints.messages import in_a_line, is_of_the_system
from fourbeat.distributed import gather, num_processes, process_index
from fourbeat.stores.store import StoreError

_Result = TypeVar("_Result")
_LONGEST_S = 1800.0  # a part of a large checkpoint on a slow disk; a process that died is noticed elsewhere
_ERRORS = {
    each.__name__: each
    for each in (CheckpointError, FileNotFoundError, NotTogetherError, StoreError, TypeError, ValueError)
}


def all_do(
    topic: str, work: Callable[[], _Result], tell: Callable[[_Result], Any] | None = None
) -> tuple[_Result, list[Any]]:
    """Does the work on every process.

    Args:
      topic: what is agreed in one order on all of them; one thread at a time.
      work: the part of this process.
      tell: of its result, what the others hear: anything that JSON can write.

    Returns:
      `(result, told)`: that of this process, and what each process tells, by its number.

    Raises:
      Exception: what `work` raised. Where it raised on another process, an error of the same class that names
        the process; a `CheckpointError` where the class is none of ours.

    >>> print(all_do("an example", lambda: 3, lambda result: result + 1))
    (3, [4])
    """
    if num_processes() == 1:
        result = work()
        return result, [None if tell is None else tell(result)]
    result, failure, said = None, None, {}
    try:
        result = work()
        said = {"told": None if tell is None else tell(result)}
    except Exception as error:
        failure, said = error, {"error": _class_name(error), "text": _text(error)}
    heard = gather(said, topic=topic, timeout_s=_LONGEST_S)
    if failure is not None:
        raise failure
    for number, each in enumerate(heard):
        if "error" in each:
            who = "" if each["error"] == NotTogetherError.__name__ else f"process {number}: "
            raise _ERRORS[each["error"]](f"{who}{each['text']}")
    return result, [each["told"] for each in heard]  # pyright: ignore[reportReturnType]


def first_does(topic: str, work: Callable[[], _Result]) -> _Result:
    """Does the work on process 0. Its result, or its error, comes to every process; JSON can write it."""
    told = all_do(topic, lambda: work() if process_index() == 0 else None, lambda result: result)[1]
    return told[0]


def _class_name(error: Exception) -> str:
    """The nearest class of ours; TensorStore tells an error of the system by a ValueError."""
    if not is_of_the_system(error):
        for kind in type(error).__mro__:
            if _ERRORS.get(kind.__name__) is kind:
                return kind.__name__
    return CheckpointError.__name__


def _text(error: Exception) -> str:
    return str(error) if _class_name(error) == type(error).__name__ else in_a_line(error)
