"""The small job in each library that is installed here; the table on the page is that of the results."""

import importlib.util
import json
import os
import sys

import pytest

from benchmarks.comparison import __main__ as command
from benchmarks.comparison.table import table, versions
from tests.docs.blocks import ROOT

NEEDS = {"substrax": "substrax", "reax": "reax", "Keras": "keras", "Lightning": "lightning"}
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
    found = json.loads((ROOT / "benchmarks/results/comparison.json").read_text())
    assert f"<!-- table of the comparison -->\n{table(found)}\n<!-- end of the table -->" in PAGE
    assert f"<!-- versions of the comparison -->\n{versions(found)}.\n<!-- end of the versions -->" in PAGE
    assert {name: each["lines"] for name, each in found.items()} == {
        name: command.num_lines(name) for name in found
    }


def test_bits_are_flipped_in_the_large_files_of_the_newest_checkpoint(tmp_path):
    for number, (name, size) in enumerate({"1/a": 900, "2/a": 1000, "2/b": 800, "2/c": 10, "3": 20}.items()):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"\xff" + bytes(size))
        os.utime(path, (number, number))
    (tmp_path / "2/text").write_text("x" * 2000)
    command.flip_bits(tmp_path)
    assert [sum((tmp_path / name).read_bytes()) - 255 for name in ("1/a", "2/a", "2/b", "2/c", "3")] == [
        0,
        8,
        8,
        0,
        0,
    ]
