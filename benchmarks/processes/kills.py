"""Two processes that save without a pause, one of them killed at a random moment, again and again."""

import random
import tempfile
from pathlib import Path

import numpy as np

import fourbeat as fb
from benchmarks.processes import saves, tables
from tests.distributed import processes

PROGRAM = Path(__file__).parent / "saves.py"
KILLS, LONGEST_S = 16, 1.5
HEAD = ("kills of process 0, of process 1", "in the middle of a save", "saves", "lost", "damaged")


def run(only: str | None) -> str:
    """Kills so often, and gives the table: what was lost, and what was there but not whole."""
    del only
    chance, killed = random.Random(0), [0, 0]
    halfway = lost = damaged = 0
    with tempfile.TemporaryDirectory() as folder:
        directory, newest = Path(folder) / "checkpoints", 0
        for number in range(KILLS):
            victim = number % 2
            done = processes.run(
                PROGRAM, 2, Path(folder) / f"printed-{number}", devices=2, kill_after_s=120,
                arguments=[directory, victim, chance.uniform(0, LONGEST_S)],
            )  # fmt: skip
            assert done[victim].status == 137, done[victim].errors
            killed[victim] += 1
            told = [
                int(line.split()[1]) for each in done for line in each.output.splitlines() if "saved" in line
            ]
            halfway += any(path.name.endswith(".saving") for path in directory.iterdir())
            with fb.Checkpoints(directory) as checkpoints:
                like = {name: array.astype(np.float32) for name, array in saves.values(0).items()}
                tree = checkpoints.restore({**like, "step": 0}, checkpoints.latest)
            lost += tree["step"] < max([newest, *told])
            expected = saves.values(tree["step"])
            damaged += any((tree[name] != expected[name].astype(np.float32)).any() for name in like)
            newest = tree["step"]
            print(f"process {victim} killed, step {newest} is there", flush=True)
    row = (f"{killed[0]}, {killed[1]}", str(halfway), str(newest), str(lost), str(damaged))
    return tables.markdown(HEAD, [row])
