"""Ticks: what a loop gives for each call of the step."""

from __future__ import annotations

from collections.abc import Callable, Set
from typing import Any

from fourbeat.looping.durations import Joinable


class Tick:
    """One turn of the loop: a batch, and where training stands once it is applied.

    `mark in tick` tells whether a mark falls here; a mark that was not passed to `loop` in `marks`
    raises `ValueError`, so a misspelt one is not silent.

    Attributes:
      batch: the batch; with `steps_per_call` above 1 always a `Block`, for one valid step too.
      step: steps done since step 0 once this tick is applied; equals `state.step` then.
      num_steps: how many of them are this tick's.
      epoch: completed epochs once this tick is applied.
      is_last: True where the loop ends with this tick, as far as that can be known when it is
        given: by a limit, or by the end of an iterator. A stop signal is not foreseen, nor is a
        time limit before the clock reaches it, so no tick need have `is_last` before a `break`.
    """

    __slots__ = ("_examples", "_fallen", "_marks", "batch", "epoch", "is_last", "num_steps", "step")

    def __init__(
        self,
        batch: Any,
        step: int,
        num_steps: int,
        epoch: int,
        examples: int | Callable[[int], int],
        is_last: bool,
        fallen: Set[object],
        marks: Set[Joinable],
    ):
        self.batch = batch
        self.step = step
        self.num_steps = num_steps
        self.epoch = epoch
        self.is_last = is_last
        self._examples = examples
        self._fallen = fallen
        self._marks = marks

    @property
    def examples(self) -> int:
        """Examples seen since step 0 once this tick is applied."""
        # A function where it costs something: data that can be indexed counts only when asked.
        return self._examples if isinstance(self._examples, int) else self._examples(self.step)

    def __contains__(self, mark: Joinable) -> bool:
        """Whether `mark` falls at this tick."""
        if mark in self._fallen:
            return True
        if mark not in self._marks:
            known = ", ".join(sorted(map(repr, self._marks))) or "none"
            raise ValueError(
                f"cannot tell whether {mark!r} falls at step {self.step}: the loop was not told "
                f"of it (its marks: {known}). Pass it: loop(..., marks=[{mark!r}])."
            )
        return False

    def __repr__(self) -> str:
        fallen = sorted(repr(mark) for mark in self._fallen if mark in self._marks)
        return (
            f"Tick(step={self.step}, num_steps={self.num_steps}, epoch={self.epoch}"
            + (f", marks=[{', '.join(fallen)}]" if fallen else "")
            + (", is_last=True)" if self.is_last else ")")
        )
