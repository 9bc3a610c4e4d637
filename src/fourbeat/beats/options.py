"""What four_beats was asked for beside the loss and the optimizer."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

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
      logs: the names that the logs of a step hold; None for all that there are.
    """

    accumulate: int = 1
    rolled: bool | None = None
    precision: Policy | None = None
    guard: Skip | None = None
    ema: float | None = None
    schedule: Callable | None = None
    logs: tuple[str, ...] | None = None

    @property
    def scales_loss(self) -> bool:
        """Whether the loss is scaled before it is differentiated."""
        return self.precision is not None and self.precision.scales_loss

    @property
    def own_names(self) -> tuple[str, ...]:
        """The names of the numbers that the step itself can log."""
        is_guarded = self.guard is not None
        names = ["loss", "grad_norm", "weight", "learning_rate"]
        names += ["finite"] * (is_guarded or self.scales_loss) + ["update_norm"] * is_guarded
        return (*names, *["loss_scale"] * self.scales_loss)

    @property
    def names_in_aux(self) -> tuple[str, ...]:
        """The names to log that are not the step's own: what the loss function returns has to have them."""
        return tuple(name for name in self.logs or () if name not in self.own_names)

    def reads(self, name: str) -> bool:
        """Whether the logs hold a number of that name, where there is one."""
        return self.logs is None or name in self.logs


def checked(
    *,
    accumulate: Object,
    rolled: Object,
    precision: Object,
    guard: Object,
    ema: Object,
    schedule: Object,
    logs: Object,
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
    options = Options(accumulate, rolled, as_policy(precision), guard, ema, schedule)
    return options if logs is None else options._replace(logs=_checked_logs(logs))


def _checked_logs(logs: Object) -> tuple[str, ...]:
    names = () if isinstance(logs, str) or not isinstance(logs, Iterable) else tuple(logs)
    if (not names and logs not in ((), [])) or not all(isinstance(name, str) for name in names):
        raise TypeError(
            f"logs is {logs!r}. Pass the names that a step is to log, such as ('loss',), or None."
        )
    return names
