"""The places of a stream that every process reads for itself: one text for all of them."""

import json

from fourbeat.data.streams.place import Place
from fourbeat.distributed import gather, num_processes, process_index
from fourbeat.types import Object

_PLACES = "places"


def text_of_processes(place: Place) -> str:
    """The places of all processes as JSON; every one calls it."""
    texts = gather(place.text(), topic="stream")
    return texts[0] if len(texts) == 1 else json.dumps({_PLACES: texts})


def place_of_process(text: Object, *, is_local: bool) -> Place:
    """The place that a text has for this process.

    Args:
      text: of `text_of_processes`, or of a single place.
      is_local: whether each process reads examples of its own.

    Raises:
      TypeError: it is no text.
      ValueError: it is of another number of processes; or neither function wrote it.
    """
    texts = _apart(text)
    here = num_processes() if is_local else 1
    if len(texts) == here:
        return Place.of_text(texts[process_index() if is_local else 0])
    place = Place.of_text(texts[0])
    if is_local and place.step == 0:
        return place
    raise ValueError(
        f"this state of a stream was saved by {_counted(len(texts))}, each at a place in its own part of the "
        f"examples, and it is to go on in {_counted(here)}. Where a place lies in other parts is not known. "
        f"Go on with {_counted(len(texts))}; or begin a new run with a stream of its own. Data that is read "
        "by number, fourbeat.data.Examples(source).batches(...), and fourbeat.data.global_batches(stream) go "
        "on with any number of processes."
    )


def _apart(text: Object) -> list[Object]:
    try:
        content = json.loads(text)
    except (TypeError, ValueError):  # `Place.of_text` says what is wrong with it
        return [text]
    texts = content.get(_PLACES) if isinstance(content, dict) else None
    return texts if isinstance(texts, list) and texts else [text]


def _counted(num: int) -> str:
    return f"{num} process{'' if num == 1 else 'es'}"
