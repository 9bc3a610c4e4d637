"""What can be wrong with a model's files."""


class ModelFileError(ValueError):
    """A file of a model is damaged, or of another kind than was asked for.

    The text names the file, what was seen, and what to do.
    """
