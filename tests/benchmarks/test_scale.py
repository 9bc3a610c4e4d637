"""The formulas of docs/scale.md agree with compiled programs, and its tables are those of the results."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import scale, scale_page
from benchmarks.collectives import collectives, received_bytes
from benchmarks.scale_formulas import Formulas, Size
from tests import quick_programs

SIZE = Size(layers=1, width=256, heads=4, context=256)
PROGRAM = """
import json
from tests.benchmarks.test_scale import SIZE
from benchmarks.scale import compiled
for axes in ({"data": 2, "fsdp": 4}, {"fsdp": 4, "tensor": 2}):
    print(json.dumps(compiled(SIZE, axes)[0]))
"""


@pytest.fixture(scope="module")
def rows():
    environment = {**os.environ, "XLA_FLAGS": quick_programs.flags(devices=8), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=Path(__file__).parents[2], env=environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_memory_and_flops_are_those_of_the_formulas(rows):
    assert len(rows) == 2
    for row in rows:
        by = Formulas(SIZE, row["axes"], tokens=SIZE.context)
        assert 0 <= row["state"] - by.state < 100  # step, key and metrics
        assert row["batch"] == by.batch
        assert row["flops"] < 1.05 * by.flops
        assert row["temporaries"] < 1.5 * by.temporaries


def test_devices_receive_what_the_formulas_say_and_no_activations_of_others(rows):
    for row in rows:
        by = Formulas(SIZE, row["axes"], tokens=SIZE.context)
        received = row["received"]
        assert 0.7 * by.gathered < received["all-gather"] <= by.gathered, row["axes"]
        # what is looked up in the table of positions is summed, and not gathered
        of_positions = 2 * 4 * SIZE.context * SIZE.width
        assert by.reduced <= received["all-reduce"] < by.reduced + of_positions, row["axes"]
        assert received["all-to-all"] == received["collective-permute"] == 0, row["axes"]


def test_collectives_in_loops_count_each_time_and_what_overlaps_is_seen():
    found = collectives(HLO)
    assert [(each.kind, each.times, each.is_async, each.overlapped) for each in found] == [
        ("all-reduce", 3, False, 0),
        ("all-gather", 1, True, 1),
    ]
    assert received_bytes(found)["all-reduce"] == 3 * 2 * 16 * 4 * 7 / 8
    assert received_bytes(found)["all-gather"] == 64 * 2 * 3 / 4


HLO = """\
HloModule jit_step, is_scheduled=true

%add (a: f32[], b: f32[]) -> f32[] {
  ROOT %sum = f32[] add(%a, %b)
}

%body (carry: (s32[], f32[16])) -> (s32[], f32[16]) {
  %r = (f32[12]{0}, f32[2,2]{1,0}) all-reduce(%x, %y), replica_groups=mesh['a'=8,'b'=2] {'a'}, to_apply=%add
}

%condition (carry: (s32[], f32[16])) -> pred[] {
  ROOT %less = pred[] compare(%i, %n), direction=LT
}

ENTRY %main (p: bf16[16]) -> f32[16] {
  %g = (bf16[16]{0}, bf16[64]{0}) all-gather-start(%p), replica_groups=[2,4]<=[8], dimensions={0}
  %f = f32[16]{0} fusion(%q), kind=kLoop, calls=%add
  %done = bf16[64]{0} all-gather-done(%g)
  %w = (s32[], f32[16]{0}) while(%t), condition=%condition, body=%body, \
backend_config={"known_trip_count":{"n":"3"}}
}
"""


def test_the_tables_of_the_page_are_those_of_the_results():
    results = json.loads(scale.RESULTS.read_text())
    page = scale_page.PAGE.read_text()
    for table in scale_page.tables(results).values():
        assert table in page
    for row in [row for run in results.values() for row in run["rows"]]:
        assert row["flops"] < 1.05 * Formulas(Size(**row["size"]), row["axes"], row["size"]["context"]).flops
