"""Each source of the benchmarks gives whole batches of the right images, by whoever reads it."""

import pytest

from benchmarks.peers.png_epoch import PngEpoch
from benchmarks.worker import load
from benchmarks.works.data_sources import SOURCES, costs_no_more, is_faster, work_of

NEEDS = {
    "TorchDataset": "torch",
    "TorchMany": "torch",
    "HuggingFace": "datasets",
    "Parquet": "pyarrow",
    "ParquetInWindows": "pyarrow",
    "ArrayRecord": "array_record",
    "Tfds": "tensorflow_datasets",
    "Grain": "grain",
    "Folder": "PIL",
}


@pytest.mark.parametrize("source", SOURCES)
def test_a_batch_holds_the_images_of_its_labels(source):
    pytest.importorskip(NEEDS.get(source, "numpy"))
    for side in work_of(source).sides.values():
        if side.options.get("workers"):
            continue
        if side.options["by"] == "loader":
            pytest.importorskip("torch")
        made = load(side.factory)({"num_examples": 512}, **side.options)
        made.run(2)
        assert made.scores() == {"wrong": 0.0}


def test_a_source_is_judged_by_cpu_time_and_with_workers_by_the_clock():
    sides = {
        "ours": {"seconds": [1.0, 1.1], "facts": {"CPU ms a batch": 1.05}},
        "own": {"seconds": [1.0, 1.2], "facts": {"CPU ms a batch": 1.0}},
    }
    found = costs_no_more(sides, "ours", "own"), is_faster(sides, "ours", "own")
    assert [each.measured for each in found] == ["1.05", "1.045 (1.000 to 1.091) times as many"]
    assert [each.met for each in found] == [True, True]
    found = costs_no_more(sides, "ours", "own", limit=1.0), is_faster(sides, "own", "ours")
    assert [each.met for each in found] == [False, False]


def test_an_epoch_of_files_says_how_long_it_waited(values_of_cnn):
    job = {"name": "mnist-cnn", "batch_size": 4, "num_test": 20, "values": values_of_cnn}
    made = PngEpoch({"threads": 2, "job": job, "num_images": 12}, workers=2)
    facts = made.run(2)["facts"]
    assert 0 < facts["percent of the time waiting for data"] <= 100
    assert int(made.state.step) == 6
