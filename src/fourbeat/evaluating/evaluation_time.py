"""How long an evaluation takes: told to JAX's monitoring, as JAX tells of its compilations."""

import functools
import time
from collections.abc import Callable
from typing import Any

import jax

EVALUATION = "/fourbeat/evaluation_duration"


def timed(evaluate: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which tells when it begins, as a scalar, and how long it took, as a duration."""

    @functools.wraps(evaluate)
    def told(*args: Any, **kwargs: Any) -> Any:
        begin_s = time.monotonic()
        jax.monitoring.record_scalar(EVALUATION, begin_s)
        try:
            return evaluate(*args, **kwargs)
        finally:
            jax.monitoring.record_event_duration_secs(EVALUATION, time.monotonic() - begin_s)

    return told
