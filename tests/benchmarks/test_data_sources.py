"""Each source of the benchmarks gives whole batches of the right images, by whoever reads it."""

import pytest

from benchmarks.peers.png_epoch import Decoding, InMemory, PngEpoch
from benchmarks.worker import load
from benchmarks.works import data_sources
from benchmarks.works.data_sources import SOURCES, STREAMS, costs_no_more, is_faster, work_of, work_of_stream

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


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")  # PyTorch's own, in torchdata
@pytest.mark.parametrize("source", STREAMS)
def test_a_batch_of_a_stream_holds_the_images_of_its_labels(source):
    needs = {"grain_pipeline": "grain", "hugging_face_iterable": "datasets", "stateful_loader": "torchdata"}
    pytest.importorskip(needs[source])
    for side in work_of_stream(source).sides.values():
        made = load(side.factory)({"num_examples": 512}, **side.options)
        made.run(3)
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
    made = PngEpoch({"threads": 2, "job": job, "num_images": 12}, workers=1)
    facts = made.run(1)["facts"]
    assert 0 < facts["percent of the time waiting for data"] <= 100
    assert int(made.state.step) == 3


def test_an_epoch_in_memory_sees_the_images_of_the_files(values_of_cnn):
    job = {"name": "mnist-cnn", "batch_size": 4, "num_test": 20, "values": values_of_cnn}
    settings = {"threads": 2, "job": job, "num_images": 12}
    made, decoding = InMemory(settings), Decoding(settings)
    assert made.run(1)["facts"]["CPU seconds of an epoch"] > 0
    assert decoding.run(1)["facts"]["CPU seconds of an epoch"] > 0
    sums = [
        sorted(float(image.sum()) for step in range(3) for image in batches.read(step).columns["image"])
        for batches in (decoding.batches, made.batches)
    ]
    assert sums[0] == sums[1]


def test_an_epoch_is_judged_by_the_work_that_there_is(monkeypatch):
    monkeypatch.setattr(data_sources, "num_threads", lambda: 2)
    name, waits = "CPU seconds of an epoch", "percent of the time waiting for data"
    sides = {
        data_sources.OURS_2: {"seconds": [2.0], "median_s": 2.0, "facts": {waits: 1.5}},
        data_sources.IN_MEMORY: {"seconds": [1.0], "facts": {name: 3.0}},
        data_sources.DECODING: {"seconds": [1.0], "facts": {name: 0.8}},
    }
    found = data_sources.is_hardly_waited_for(sides)
    assert [each.measured for each in found] == ["1.50 %", "1.05 x (3.00 s of steps, 0.80 s of decoding)"]
    assert [each.met for each in found] == [True, True]
