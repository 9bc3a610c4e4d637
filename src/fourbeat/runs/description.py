"""What a run writes down of itself: flags, versions, device, and what changed when it was resumed."""

import dataclasses
import datetime
import platform
import subprocess
from importlib import metadata
from typing import Any

import jax

from fourbeat.loggers import strict_json
from fourbeat.runs.flags import OF_THE_CALL
from fourbeat.types import Config

FORMAT = 3  # of the checkpoints: 1 had an entry for each variable of a recipe, 2 none for a stream
_PACKAGES = ("fourbeat", "jax", "jaxlib", "flax", "optax", "numpy")


def description(recipe: str, config: Config, score: dict | None) -> dict:
    """What `config.json` says of a new run."""
    device = jax.devices()[0]
    return {
        "recipe": recipe,
        "format": FORMAT,
        "score": score,
        "begun": now(),
        "flags": flags_of(config),
        "changes": [],
        "versions": {"python": platform.python_version(), **{p: metadata.version(p) for p in _PACKAGES}},
        "git_revision": _git_revision(),
        "device": f"{device.platform}: {device.device_kind} x {jax.device_count()}",
    }


def flags_of(config: Config) -> dict:
    """Every flag that says what the run is, as `config.json` has it."""
    return {name: value for name, value in all_flags_of(config).items() if name not in OF_THE_CALL}


def all_flags_of(config: Config) -> dict:
    """Every flag, those of this call included, as JSON has it."""
    return strict_json.loads(strict_json.dumps(dataclasses.asdict(config), default=str))


def changes_in_words(changes: dict[str, tuple[Any, Any]]) -> list[str]:
    """`steps 100 -> 200`, for each flag that changed."""
    return [f"{name} {before} -> {now}" for name, (before, now) in changes.items()]


def now() -> str:
    """The time, as it is written down."""
    return datetime.datetime.now(datetime.UTC).isoformat()


def _git_revision() -> str | None:
    """The revision of the working directory's checkout; None outside of one."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
