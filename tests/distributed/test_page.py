"""The program of the page of processes, by real ones."""

from tests.distributed import processes
from tests.docs.blocks import ROOT, blocks_of


def test_two_processes_train_to_the_loss_of_one(tmp_path):
    program = next(block for block in blocks_of((ROOT / "docs/processes.md").read_text()) if block.shown)
    first, second = processes.succeed(program.code, 2, tmp_path)
    seen = [line for line in first.splitlines() if "processes" in line]
    assert seen == [program.shown.strip().replace("1 processes, 1 devices", "2 processes, 2 devices")]
    assert "processes" not in second
