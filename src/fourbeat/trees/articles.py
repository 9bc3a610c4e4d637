"""Types in sentences."""


def a_type(value: object) -> str:
    """The type of a value with its article, for a sentence.

    >>> a_type(3), a_type({})
    ('an int', 'a dict')
    """
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeio' or name == 'ndarray' else 'a'} {name}"
