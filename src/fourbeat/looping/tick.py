"""Ticks: what a loop gives for each call of the step."""

from __future__ import annotations

from collections.abc import Callable, Set

from fourbeat.looping.durations import Joinable
from fourbeat.looping.marks import UNTIL
from fourbeat.looping.pass_end import PassEnd
from fourbeat.types import Batch


class Tick:
    """One turn of the loop: a batch, and where training stands after that batch.

    `mark in tick` tells whether a mark falls here; a mark that was not passed to `loop` in `marks`
    raises `ValueError`, so a misspelt one is not silent.

    With a plain iterable only the next batch tells whether a pass ends here: `epoch`, `is_last` and a mark
    in epochs read that batch, unless it was read before. Ask after the step where batches depend on the
    state. After the loop, the last tick reads nothing: it tells what was known when the loop ended.

    Attributes:
      batch: the batch; with `steps_per_call` above 1 it is always a `Block`, even for one valid step. It is
        an empty `Block` if `num_steps` is 0.
      step: steps done since step 0 once this tick is applied; equals `state.step` then.
      num_steps: the number of steps of this tick. It is 0 in the first tick of a loop that finishes
        `unfinished` marks: a step of `fourbeat.compile` then returns the state unchanged; call any other step
        under `if tick.num_steps:`.
    """

    __slots__ = (
        "_answered",
        "_epoch",
        "_examples",
        "_fallen",
        "_marks",
        "_pass_end",
        "batch",
        "num_steps",
        "step",
    )

    def __init__(
        self,
        batch: Batch,
        step: int,
        num_steps: int,
        epoch: int,
        examples: int | Callable[[int], int],
        fallen: Set[object],
        marks: Set[Joinable],
        pass_end: PassEnd | None,
    ):
        self.batch = batch
        self.step = step
        self.num_steps = num_steps
        self._epoch = epoch
        self._examples = examples
        self._fallen = fallen
        self._marks = marks
        self._pass_end = pass_end
        self._answered: list[Joinable] = []  # marks that fall here, in the order of asking

    @property
    def epoch(self) -> int:
        """Completed epochs once this tick is applied."""
        return self._epoch if self._pass_end is None else self._epoch + self._pass_end.look().is_here

    @property
    def is_last(self) -> bool:
        """Whether the loop ends with this tick, as far as that can be known: by a limit or an iterator's end.

        A stop signal is not known in advance, nor is a time limit before the clock reaches it. The last tick
        of a loop may therefore have `is_last` False.
        """
        return UNTIL in self._fallen or (self._pass_end is not None and self._pass_end.falls(UNTIL))

    @property
    def is_marked(self) -> bool:
        """Whether it is known by now that a mark falls here, or the end of the loop. Reads nothing ahead."""
        return bool(self._fallen or self._answered)

    @property
    def examples(self) -> int:
        """Examples seen since step 0 once this tick is applied.

        Raises:
          ValueError: a plain batch does not tell how many it has: its columns have no common leading axis.
        """
        # A function if counting costs something: data that can be indexed counts only when asked.
        return self._examples if isinstance(self._examples, int) else self._examples(self.step)

    def __contains__(self, mark: Joinable) -> bool:
        """Whether `mark` falls at this tick."""
        is_here = self._falls(mark)
        if is_here:
            self._answered.append(mark)
        return is_here

    def _falls(self, mark: Joinable) -> bool:
        if mark in self._fallen:
            return True
        if mark not in self._marks:
            known = ", ".join(sorted(map(repr, self._marks))) or "none"
            raise ValueError(
                f"cannot tell whether {mark!r} falls at step {self.step}: the loop was not told "
                f"of it (its marks: {known}). Pass it: loop(..., marks=[{mark!r}])."
            )
        return self._pass_end is not None and self._pass_end.falls(mark)

    def unfinished(self) -> frozenset[Joinable]:
        """The marks that fall here, without those that the body asked for before the last one."""
        finished = set(self._answered[:-1]) - set(self._answered[-1:])
        return frozenset(mark for mark in self._marks if mark not in finished and self._falls(mark))

    def __repr__(self) -> str:
        """Shows what is known about the tick; this reads no batch."""
        epoch, fallen = self._epoch, self._fallen
        if self._pass_end is not None:
            epoch, fallen = epoch + self._pass_end.is_here, fallen | self._pass_end.fallen
        marks = sorted(repr(mark) for mark in fallen if mark in self._marks)
        return (
            f"Tick(step={self.step}, num_steps={self.num_steps}, epoch={epoch}"
            + (f", marks=[{', '.join(marks)}]" if marks else "")
            + (", is_last=True)" if UNTIL in fallen else ")")
        )
