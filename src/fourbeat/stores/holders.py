"""Who may write below an address: whoever holds it says, before each change, that it still does."""

from collections.abc import Callable

_checks: dict[str, Callable[[], object]] = {}


def hold(address: str, check: Callable[[], object]) -> None:
    """From now on `check` is called before this process changes what lies at an address or below it.

    Args:
      address: such as "s3://bucket/run".
      check: raises what the change is to raise where the address is another process's by now.
    """
    _checks[address] = check


def let_go(address: str) -> None:
    """Nothing is checked any more before changes at an address."""
    _checks.pop(address, None)


def check_held(address: str) -> None:
    """Raises what the holder of an address, or of one above it, raises; nothing where none holds it.

    >>> asked = []
    >>> hold("s3://bucket/run", lambda: asked.append("run"))
    >>> for address in ("s3://bucket/run/checkpoints", "s3://bucket/run", "s3://bucket/run-2", "s3://bucket"):
    ...     check_held(address)
    >>> let_go("s3://bucket/run")
    >>> check_held("s3://bucket/run")
    >>> asked
    ['run', 'run']
    """
    for held, check in list(_checks.items()):
        if f"{address}/".startswith(f"{held}/"):
            check()
