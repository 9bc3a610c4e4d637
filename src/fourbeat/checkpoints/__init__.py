"""Saving, restoring, and explaining a mismatch."""

from fourbeat.checkpoints.checkpoints import Checkpoints
from fourbeat.checkpoints.errors import CheckpointError, CheckpointWarning, NotTogetherError
from fourbeat.checkpoints.mismatch import Mismatch

__all__ = ["CheckpointError", "CheckpointWarning", "Checkpoints", "Mismatch", "NotTogetherError"]
