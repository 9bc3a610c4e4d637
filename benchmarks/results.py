"""The results of one kind of machine: a JSON file that single works can be measured into anew."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "results"
WORK_KEYS = {
    *("title", "date", "versions", "rounds", "amount", "per", "unit", "scale", "against", "learn", "must"),
    *("sides", "reaches", "notes"),
}


def read(path: Path) -> dict[str, Any]:
    """The results in a file, or none where it is not there."""
    return json.loads(path.read_text()) if path.exists() else {"works": {}}


def write(path: Path, machine: Mapping[str, Any], works: Mapping[str, Any]) -> dict[str, Any]:
    """Adds works to the file, each in place of an earlier one of its name; returns all that it then holds."""
    results = read(path)
    results["machine"] = dict(machine)
    results["works"] = {**results["works"], **works}
    check(results)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n")
    return results


def check(results: Mapping[str, Any]) -> None:
    """Raises where results do not have the form that the page and its readers rely on.

    Raises:
      ValueError: names the place.
    """
    for name, work in results["works"].items():
        if WORK_KEYS - set(work):
            raise ValueError(f"works[{name!r}] lacks {', '.join(sorted(WORK_KEYS - set(work)))}.")
        for side_name, side in work["sides"].items():
            why = {"seconds", "absent", "failed", "refused"} & set(side)
            if len(why) != 1:
                raise ValueError(
                    f"works[{name!r}].sides[{side_name!r}] has {sorted(why)}; a side is measured, absent, "
                    "failed or refused: one of these."
                )
            if "seconds" in side and not all(second > 0 for second in side["seconds"]):
                raise ValueError(f"works[{name!r}].sides[{side_name!r}] has a round of no time.")
        for reach in work["reaches"]:
            if set(reach) != {"reach", "measured", "met"}:
                raise ValueError(f"works[{name!r}].reaches has {sorted(reach)}.")
