"""Which rows are a process's own: against NumPy, over a table of meshes, without a process."""

import numpy as np
import pytest

from fourbeat.shard.process_rows import own_shares, rows_of_shares

# axes of the mesh with their sizes; devices of a process, which are neighbours; axes of the rows
MESHES = {
    "data": ({"data": 4}, 2, ("data",)),
    "one device a process": ({"data": 4}, 1, ("data",)),
    "data and fsdp": ({"data": 2, "fsdp": 4}, 2, ("data", "fsdp")),
    "tensor within a process": ({"data": 4, "tensor": 2}, 2, ("data",)),
    "tensor across processes": ({"data": 2, "tensor": 4}, 2, ("data",)),
    "replicas before the rows": ({"replicas": 2, "data": 4}, 2, ("data",)),
    "fsdp, then tensor across": ({"fsdp": 2, "data": 2, "tensor": 2}, 1, ("fsdp", "data")),
    "nothing is split": ({"tensor": 4}, 2, ()),
}


@pytest.mark.parametrize("name", MESHES)
@pytest.mark.parametrize("num_rows", [16, 6, 1])
def test_own_rows_are_those_of_the_own_devices(name, num_rows):
    sizes, of_a_process, axes = MESHES[name]
    processes = np.arange(int(np.prod(list(sizes.values())))).reshape(tuple(sizes.values())) // of_a_process
    num_shares = int(np.prod([sizes[axis] for axis in axes], dtype=int))
    held = []
    for process in np.unique(processes):
        rows = set()
        for place in np.argwhere(processes == process):  # the rows of one device, counted by hand
            share = 0
            for axis in axes:
                share = share * sizes[axis] + place[list(sizes).index(axis)]
            size = num_rows // num_shares
            rows |= (
                set(range(num_rows))
                if num_rows % num_shares
                else set(range(share * size, (share + 1) * size))
            )
        own = rows_of_shares(own_shares(processes, list(sizes), axes, process), num_shares, num_rows)
        assert own.tolist() == sorted(rows)
        held += own.tolist()
    assert set(held) == set(range(num_rows))
