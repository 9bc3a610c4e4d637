"""What four_beats was asked for beside the loss and the optimizer."""

from collections.abc import Callable
from typing import Any, NamedTuple

from fourbeat.beats.ema import check_decay
from fourbeat.guard.skipping import Skip
from fourbeat.precision.policy import Policy, as_policy
from fourbeat.types import Object


class Options(NamedTuple):
    """The options of `four_beats`, checked.

    Attributes:
      accumulate: microbatches that a batch is cut into.
      rolled: whether they run in a rolled loop; None to choose.
      precision: the dtypes, or None for the model as it is written.
      guard: what skips bad steps, or None.
      ema: decay of the averaged parameters, or None.
      schedule: learning rate by count of updates, for the logs, or None.
    """

    accumulate: int = 1
    rolled: bool | None = None
    precision: Policy | None = None
    guard: Skip | None = None
    ema: float | None = None
    schedule: Callable | None = None


def checked(
    *, accumulate: Object, rolled: Object, precision: Object, guard: Any, ema: Object, schedule: Object
) -> Options:
    """The options, or an error that says which one is wrong.

    Raises:
      TypeError, ValueError: an option is of another type or out of range.
    """
    if isinstance(accumulate, bool) or not isinstance(accumulate, int) or accumulate < 1:
        raise ValueError(
            f"accumulate is {accumulate!r}. It counts the microbatches that a batch is cut into: an int "
            "of at least 1."
        )
    if guard is not None and not isinstance(guard, Skip):
        raise TypeError(f"guard is {guard!r}. Pass fb.guard.skip(), or None.")
    if ema is not None:
        check_decay(ema)
    if schedule is not None and not callable(schedule):
        raise TypeError(
            f"schedule is {schedule!r}. Pass the function of the count of updates that the optimizer was "
            "given, such as optax.warmup_cosine_decay_schedule(...), or None."
        )
    return Options(accumulate, rolled, as_policy(precision), guard, ema, schedule)
