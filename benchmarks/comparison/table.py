"""The table of the comparison, in Markdown."""

from typing import Any

ROWS = {
    "lines of the program": lambda found, _: str(found["lines"]),
    "start: imports, compilation, first save (CPU)": lambda found, base: _times(found, base, "start_cpu_s"),
    "a step, with its data and the loop's own work (CPU)": lambda found, base: _times(
        found, base, "step_cpu_us"
    ),
    "stopped after 2 epochs of 3 and resumed: same parameters": lambda found, _: _yes(
        found["resumes_exactly"]
    ),
    "validation loss as reported, short last batch": lambda found, _: _error(found["score_error"]),
    "a NaN in one example of an epoch": lambda found, _: _after_nan(found),
    "a flipped bit in the newest checkpoint": lambda found, _: _damage(found["damaged"]),
}


def table(found: dict[str, dict[str, Any]]) -> str:
    """A row a question, a column a library; times as ratios to those of the fourbeat that ran beside it.

    Args:
      found: what `python -m benchmarks.comparison` wrote, by library.
    """
    base = found["fourbeat"]
    lines = ["| | " + " | ".join(found) + " |", "|---|" + "---|" * len(found)]
    for question, answer in ROWS.items():
        lines.append(f"| {question} | " + " | ".join(answer(each, base) for each in found.values()) + " |")
    return "\n".join(lines)


def versions(found: dict[str, dict[str, Any]]) -> str:
    """The versions that were compared, in one line."""
    return "; ".join(f"{name}: {', '.join(each['versions'])}{_beside(each)}" for name, each in found.items())


def _beside(found: dict[str, Any]) -> str:
    return f" (beside {', '.join(found['beside']['versions'])})" if "beside" in found else ""


def _times(found: dict[str, Any], base: dict[str, Any], name: str) -> str:
    return f"{found[name] / found.get('beside', base)[name]:.1f}"


def _yes(answer: bool) -> str:
    return "yes" if answer else "no"


def _error(error: float) -> str:
    return "exact" if error < 1e-5 else f"off by {100 * error:.0f} %"


def _after_nan(found: dict[str, Any]) -> str:
    if found["error_of_nan"]:
        return f"stops: `{found['error_of_nan'][:60]}`"
    return "step skipped" if found["finite_after_nan"] else "all parameters NaN, no word"


def _damage(told: str) -> str:
    how, _, error = told.partition(": ")
    if how == "an error":
        return f"error: `{error[:60]}`"
    return told
