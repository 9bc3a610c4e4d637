"""The curves of a history: for a plot, a page, a terminal. No JAX is needed."""

from collections.abc import Sequence
from typing import Any

from fourbeat.runs.scores import is_number

_MEMBERS = "members_"  # of replicas: the group of all members' values

Curve = dict[str, list]


def curves_of(history: Sequence[dict[str, Any]]) -> dict[str, Curve]:
    """The steps, ascending, and the values of each logged number; None where it was not finite.

    Of two values of one step the later line's is taken.

    >>> curves_of([{"step": 1, "loss": 0.5}, {"step": 2, "loss": None}, {"step": 2, "text": "a"}])
    {'loss': {'steps': [1, 2], 'values': [0.5, None]}}
    """
    points: dict[str, dict[int, float | None]] = {}
    for line in history:
        for name, value in line.items():
            if name != "step" and (value is None or is_number(value)):
                points.setdefault(name, {})[line["step"]] = value
    return {
        name: {"steps": sorted(values), "values": [values[step] for step in sorted(values)]}
        for name, values in points.items()
        if any(map(is_number, values.values()))
    }


def bands_of(history: Sequence[dict[str, Any]]) -> dict[str, Curve]:
    """The lowest and the highest of several members, by the name of the value that `members_<name>` spreads.

    >>> bands_of([{"step": 1, "eval_loss": 0.5, "members_eval_loss": [0.25, None, 0.75]}])
    {'eval_loss': {'steps': [1], 'low': [0.25], 'high': [0.75]}}
    """
    bands: dict[str, Curve] = {}
    for line in history:
        for name, values in line.items():
            if name.startswith(_MEMBERS) and isinstance(values, list):
                known = [value for value in values if is_number(value)]
                if known:
                    of = name.removeprefix(_MEMBERS)
                    band = bands.setdefault(of, {"steps": [], "low": [], "high": []})
                    for key, value in (("steps", line["step"]), ("low", min(known)), ("high", max(known))):
                        band[key].append(value)
    return bands
