"""The small job in each library that is installed here; the table on the page is that of the results."""

import importlib.util
import json
import os
import sys

import pytest

from benchmarks.comparison import __main__ as command
from benchmarks.comparison.table import ROWS, table, versions
from tests.docs.blocks import ROOT

NEEDS = {
    "substrax": "substrax",
    "reax": "reax",
    "Keras": "keras",
    "Lightning": "lightning",
    "dew": "dew",
    "kauldron": "kauldron",
}
PAGE = (ROOT / "docs/comparison.md").read_text()


@pytest.mark.parametrize("name", command.PROGRAMS)
def test_the_program_trains(name, tmp_path):
    if importlib.util.find_spec(NEEDS.get(name, "jax")) is None:
        pytest.skip(f"{name} is not installed")
    said = command.run(name, sys.executable, tmp_path / "run", 1)
    assert said.get("finite"), said
    assert said["exact"] < 1.5  # nats; a guess among ten classes is 2.3
    assert len(said["clock"]) == 1
    if name == "fourbeat":
        assert said["score"] == pytest.approx(said["exact"], rel=1e-5)


def test_the_table_on_the_page_is_that_of_the_results():
    found = json.loads((ROOT / "benchmarks/comparison/results.json").read_text())
    assert f"<!-- table of the comparison -->\n{table(found)}\n<!-- end of the table -->" in PAGE
    assert f"<!-- versions of the comparison -->\n{versions(found)}.\n<!-- end of the versions -->" in PAGE
    assert {name: each["lines"] for name, each in found.items()} == {
        name: command.num_lines(name) for name in found
    }


@pytest.mark.parametrize("folder", ["", "checkpoints"])
def test_bits_are_flipped_in_the_large_files_of_the_newest_checkpoint(tmp_path, folder):
    sizes = {"1/a": 900, "2/a": 1000, "2/b": 800, "2/c": 10, "3": 20}
    files = {tmp_path / folder / name: size for name, size in sizes.items()}
    events = tmp_path / "train/events.out.tfevents.0"  # newer and larger, and no checkpoint
    for number, (path, size) in enumerate({**files, events: 2000}.items()):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\xff" + bytes(size))
        os.utime(path, (number, number))
    (tmp_path / folder / "2/text").write_text("x" * 2000)
    command.flip_bits(tmp_path)
    assert [sum(path.read_bytes()) - 255 for path in (*files, events)] == [0, 8, 8, 0, 0, 0]


def test_a_later_column_keeps_the_times_of_the_fourbeat_beside_it():
    def column(name, seconds):
        return {"versions": [name], "start_cpu_s": seconds, "step_cpu_us": seconds}

    earlier = {"fourbeat": column("fourbeat 1", 4.0), "NNX": column("flax 1", 2.0)}
    found = command.joined(earlier, {"fourbeat": column("fourbeat 2", 10.0), "dew": column("dewml 1", 20.0)})
    assert list(found) == ["fourbeat", "NNX", "dew"]
    start = ROWS["start: imports, compilation, first save (CPU)"]
    assert [start(each, found["fourbeat"]) for each in found.values()] == ["1.0", "0.5", "2.0"]
    assert versions(found) == "fourbeat: fourbeat 1; NNX: flax 1; dew: dewml 1 (beside fourbeat 2)"
