"""Goodput: which share of a run's wall time was training, and which restarts lost. No JAX is needed."""

from collections.abc import Mapping

KINDS = (
    "steps",
    "compiling",
    "waiting_for_data",
    "saving",
    "evaluating",
    "starting",
    "lost_to_restarts",
    "other",
)


def shares_percent(seconds: Mapping[str, float]) -> dict[str, float]:
    """The share of each kind of wall time in percent, to one decimal; their sum is 100.

    Args:
      seconds: by kind, as `summary.json` has them; what is no kind, such as `all`, is left out.

    Returns:
      The shares in the order of `KINDS`. What rounding leaves over goes to the shares that lost most by it.
      Empty where no time was counted.

    >>> shares_percent({"steps": 2.0, "compiling": 1.0, "all": 3.0})
    {'steps': 66.7, 'compiling': 33.3}
    """
    counted = {kind: seconds[kind] for kind in KINDS if kind in seconds}
    whole = sum(counted.values())
    if whole <= 0:
        return {}
    exact = {kind: 1000 * value / whole for kind, value in counted.items()}
    tenths = {kind: int(value) for kind, value in exact.items()}
    by_loss = sorted(exact, key=lambda kind: tenths[kind] - exact[kind])
    for kind in by_loss[: 1000 - sum(tenths.values())]:
        tenths[kind] += 1
    return {kind: value / 10 for kind, value in tenths.items()}


def in_words(seconds: Mapping[str, float]) -> str:
    """The shares in a line, without those that are 0.

    >>> in_words({"steps": 2.0, "compiling": 1.0, "waiting_for_data": 0.0})
    '3.0 s: steps 66.7 %, compiling 33.3 %'
    """
    told = [f"{kind.replace('_', ' ')} {share} %" for kind, share in shares_percent(seconds).items() if share]
    return f"{sum(seconds.get(kind, 0.0) for kind in KINDS):.1f} s: {', '.join(told)}"


def after_restart(recorded: Mapping[str, float], saved: Mapping[str, float]) -> dict[str, float]:
    """The seconds of a run that goes on from a checkpoint: what came after the checkpoint is lost.

    Args:
      recorded: seconds by kind, as the run wrote them last.
      saved: those at the moment at which the checkpoint was taken; empty where the run begins anew.

    >>> after_restart({"steps": 10.0, "saving": 2.0}, {"steps": 7.0, "saving": 1.0})
    {'steps': 7.0, 'saving': 1.0, 'lost_to_restarts': 4.0}
    """
    kept = {kind: saved[kind] for kind in KINDS if kind in saved}
    lost_s = sum(recorded.get(kind, 0.0) for kind in KINDS) - sum(kept.values())
    kept["lost_to_restarts"] = kept.get("lost_to_restarts", 0.0) + max(lost_s, 0.0)
    return kept
