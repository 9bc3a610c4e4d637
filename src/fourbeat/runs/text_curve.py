"""Curves over each other as lines of plain text: a letter for each, on one scale."""

from collections.abc import Iterator, Mapping

_HEIGHT = 10
_LEAST_WIDTH, _MOST_WIDTH = 16, 100
_SEVERAL = "*"


def text_curve(curves: Mapping[str, Mapping[str, list]], width: int) -> Iterator[str]:
    """The lines of a drawing.

    A column shows the mean of the values that fall into it; `*` stands where several curves meet.

    Args:
      curves: steps and values by letter.
      width: of the screen, in characters; the drawing is between 16 and 100 wide.

    >>> line = {"steps": [0, 1, 2, 3], "values": [3.0, 2.0, 1.0, 0.0]}
    >>> flat = {"steps": [0, 3], "values": [0.0, 0.0]}
    >>> for text in text_curve({"A": line, "B": flat}, 24):
    ...     print(text.rstrip())
    3 |A
      |
      |
      |      A
      |
      |
      |             A
      |
      |
    0 |B                  *
      +--------------------
       0                  3
    """
    points = {
        letter: [(s, v) for s, v in zip(curve["steps"], curve["values"], strict=True) if v is not None]
        for letter, curve in curves.items()
    }
    every = [point for each in points.values() for point in each]
    low, high = min(v for _, v in every), max(v for _, v in every)
    first, last = min(s for s, _ in every), max(s for s, _ in every)
    ends = [f"{end:.4g}" for end in (high, low)]
    margin = max(map(len, ends))
    columns = min(max(width - margin - 3, _LEAST_WIDTH), _MOST_WIDTH)
    cells = [[" "] * columns for _ in range(_HEIGHT)]
    for letter, each in points.items():
        within: dict[int, list[float]] = {}
        for step, value in each:
            within.setdefault(_place(step, first, last, columns), []).append(value)
        for column, values in within.items():
            row = _HEIGHT - 1 - _place(sum(values) / len(values), low, high, _HEIGHT)
            cells[row][column] = letter if cells[row][column] == " " else _SEVERAL
    for row, line in enumerate(cells):
        label = ends[0] if row == 0 else ends[1] if row == _HEIGHT - 1 else ""
        yield f"{label:>{margin}} |{''.join(line)}"
    yield f"{'':>{margin}} +{'-' * columns}"
    yield f"{'':>{margin}}  {first}{last:>{max(columns - len(str(first)), 1)}}"


def _place(value: float, low: float, high: float, count: int) -> int:
    """Which of `count` cells between two ends a value falls into."""
    return 0 if high == low else round((value - low) / (high - low) * (count - 1))
