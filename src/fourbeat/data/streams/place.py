"""The place of a stream: which batch was given last, and how its source gets there again."""

import json
from typing import NamedTuple

from fourbeat.trees.articles import a_type
from fourbeat.types import Object

_FORMAT = 1


class Place(NamedTuple):
    """Where a stream stands.

    Attributes:
      step: batches given since the beginning.
      epoch: the number of the pass that the last of them is of; the passes before it are complete.
      examples: their examples; None where a batch did not tell how many it has.
      source: the kind of the source; None at the very beginning.
      state: the source's state, as JSON, `skip` batches before this place; None at the beginning of the pass.
      skip: batches to read and drop after `state`.
    """

    step: int = 0
    epoch: int = 0
    examples: int | None = 0
    source: str | None = None
    state: Object = None
    skip: int = 0

    def text(self) -> str:
        """The place as JSON."""
        return json.dumps({"format": _FORMAT, **self._asdict()})

    @classmethod
    def of_text(cls, text: Object) -> "Place":
        """The place that `text` tells.

        Raises:
          TypeError: `text` is no text.
          ValueError: the method `text` did not write it.
        """
        if not isinstance(text, str):
            raise TypeError(
                f"a stream is restored from the text that state() gave, and this is {a_type(text)}. "
                "Pass on what was saved: stream.restore(saved['stream'])."
            )
        try:
            content = json.loads(text)
            known = content.pop("format")
            place = cls(**content)
        except (ValueError, AttributeError, KeyError, TypeError):
            raise ValueError(
                f"{text[:40]!r} is no state of a stream. Pass on what stream.state() gave, as it was saved."
            ) from None
        if known != _FORMAT:
            raise ValueError(f"this state of a stream has format {known}, and this fourbeat reads {_FORMAT}.")
        return place


BEGINNING = Place()
