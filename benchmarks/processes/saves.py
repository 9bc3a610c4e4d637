"""The program of the kills: two processes save again and again, until one of them is killed.

python saves.py DIRECTORY VICTIM AFTER_S
"""

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

import fourbeat as fb


def values(step: int) -> dict[str, np.ndarray]:
    """What is saved at a step."""
    random = np.random.default_rng(step)
    return {"split": random.standard_normal((64, 128)), "whole": random.standard_normal(7)}


def main(directory: Path, victim: int, after_s: float) -> None:
    """Restores and checks the newest checkpoint, then saves until the victim is killed."""
    fb.distributed.initialize(heartbeat_s=20)
    mesh = Mesh(np.array(jax.devices()), ("data",), axis_types=(AxisType.Auto,))
    specs = {"split": PartitionSpec("data"), "whole": PartitionSpec()}

    def placed(step: int) -> dict[str, Any]:
        arrays = {name: array.astype(np.float32) for name, array in values(step).items()}
        place = lambda name, at: arrays[name][at]
        over = {
            name: jax.make_array_from_callback(
                array.shape, NamedSharding(mesh, specs[name]), lambda at, name=name: place(name, at)
            )
            for name, array in arrays.items()
        }
        return {**over, "step": step}

    with fb.Checkpoints(directory, keep_last=2) as checkpoints:
        tree = checkpoints.restore_or(placed(0))
        for name, array in placed(tree["step"]).items():
            if name != "step":
                for part, expected in zip(
                    tree[name].addressable_shards, array.addressable_shards, strict=True
                ):
                    np.testing.assert_array_equal(part.data, expected.data)
        checkpoints.save(tree["step"] + 1, placed(tree["step"] + 1))
        checkpoints.wait()
        if fb.distributed.process_index() == victim:
            kill = lambda: (time.sleep(after_s), os.kill(os.getpid(), signal.SIGKILL))
            threading.Thread(target=kill, daemon=True).start()
        for step in range(tree["step"] + 2, 10**6):
            checkpoints.save(step, placed(step))
            checkpoints.wait()
            print(f"saved {step}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
