"""What four_beats was asked for beside the loss and the optimizer."""

from typing import NamedTuple


class Options(NamedTuple):
    """The options of `four_beats`, checked.

    Attributes:
      accumulate: microbatches that a batch is cut into.
      rolled: whether they run in a rolled loop; None to choose.
    """

    accumulate: int = 1
    rolled: bool | None = None


def checked(options: Options) -> Options:
    """The options, or an error that says which one is wrong.

    Raises:
      TypeError, ValueError: an option is of another type or out of range.
    """
    accumulate = options.accumulate
    if isinstance(accumulate, bool) or not isinstance(accumulate, int) or accumulate < 1:
        raise ValueError(
            f"accumulate is {accumulate!r}. It counts the microbatches that a batch is cut into: an int "
            "of at least 1."
        )
    return options
