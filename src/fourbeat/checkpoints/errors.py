"""What can go wrong between memory and disk."""


class CheckpointError(RuntimeError):
    """A checkpoint could not be written, or what is on disk is no whole checkpoint.

    The text names the directory, the step, what was seen, and what to do. Asking for what was never
    saved is a `FileNotFoundError`; restoring into another tree is a `ValueError`.
    """


class NotTogetherError(CheckpointError):
    """The processes of a run do not save one checkpoint together. The text says what to do."""


class CheckpointWarning(UserWarning):
    """A checkpoint could not be restored, and an earlier one was restored instead."""
