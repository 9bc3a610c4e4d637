"""One pass over batches, for a program over several processes: every process has the same number of them."""

from collections.abc import Iterator
from typing import Any

from jax.sharding import Mesh

from fourbeat.data.agreeing import Agreement
from fourbeat.data.batches import Batches
from fourbeat.data.plain_batches import check_batches, name_of, one_pass
from fourbeat.data.process_batches import whose
from fourbeat.shard.process_rows import ProcessRows, handed_over
from fourbeat.types import BatchSource


class LaidOut(Iterator[Any]):
    """Batches that lie over a mesh already, as many in every process."""

    def __init__(self, batches: Iterator[Any]):
        self._batches = batches

    def __next__(self) -> Any:
        return next(self._batches)


def one_pass_over(batches: BatchSource, mesh: Mesh) -> Iterator[tuple[Any, int | None]]:
    """As `one_pass`, with each batch laid out over the mesh.

    Args:
      batches: `Batches`, of which each process reads its own rows; or others, of which it was said whose
        they are.
      mesh: of the devices of several processes.

    Raises:
      TypeError: nothing says whose the batches are.
      ValueError: in every process, where their batches do not fit together, or some process has fewer.
    """
    check_batches(batches)
    if isinstance(batches, LaidOut):
        yield from ((batch, None) for batch in batches)
        return
    if isinstance(batches, Batches):
        yield from one_pass(batches.over(ProcessRows(mesh)))
        return
    given, is_local = whose(batches)
    agreement = Agreement(name_of(given), is_local=is_local, must_be_even=True)
    pairs = one_pass(given)
    while True:
        batch, num_real = next(pairs, (None, None))
        if not agreement.all_have(batch):
            return
        yield handed_over(batch, mesh, is_local=is_local), num_real
