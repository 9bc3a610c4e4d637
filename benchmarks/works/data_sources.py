"""Reading batches out of each source: by fourbeat, and by the source's own loader."""

from benchmarks.machine import num_threads
from benchmarks.reaching import measured, missing
from benchmarks.statistics import ratio
from benchmarks.work import Reach, Side, Work

FACTORY = "benchmarks.peers.data_sources:Reading"
OURS, OURS_2 = "fourbeat, 0 workers", "fourbeat, 2 workers"
IN_TURN, PROCESSES_2 = "fourbeat, 0 workers, not shuffled", "fourbeat, 2 processes"
IN_MEMORY, DECODING = "the same images in memory", "decoding alone, 2 threads"
# by source: its title, and its own ways as (side, method, workers)
SOURCES = {
    "Memmap": ("a memmap of images", [("NumPy's gather", "gathered", 0)]),
    "Windows": ("windows of tokens of a memmap", [("NumPy's gather", "gathered", 0)]),
    "TorchDataset": (
        "a torch Dataset, example by example",
        [("DataLoader, 0 workers", "loader", 0), ("DataLoader, 2 workers", "loader", 2)],
    ),
    "TorchMany": (
        "a torch Dataset with __getitems__",
        [("DataLoader, 0 workers", "loader", 0), ("DataLoader, 2 workers", "loader", 2)],
    ),
    "HuggingFace": (
        "a Hugging Face Dataset",
        [("its NumPy format, uint8", "numpy", 0), ("Arrow tables, no arrays yet", "arrow", 0)],
    ),
    "Parquet": ("Parquet, all in memory", [("pyarrow, take of the whole table", "whole_table", 0)]),
    "ParquetInWindows": ("Parquet, by row group", [("pyarrow iter_batches, not shuffled", "in_order", 0)]),
    "ArrayRecord": ("an ArrayRecord file", [("its __getitems__ and np.stack", "many", 0)]),
    "Tfds": ("tfds.data_source", [("its __getitems__ and np.stack", "many", 0)]),
    "Grain": (
        "a Grain MapDataset",
        [
            ("its shuffle and batch, 0 threads", "batched", 0),
            ("its shuffle and batch, 2 threads", "batched", 2),
        ],
    ),
    "Folder": (
        "PNG files in class folders",
        [("DataLoader, 0 workers", "loader", 0), ("DataLoader, 2 workers", "loader", 2)],
    ),
}
MORE_OF_OURS = {
    "ParquetInWindows": {IN_TURN: {"shuffle": False}},  # its own reader cannot shuffle: this is the same work
    "Folder": {PROCESSES_2: {"processes": 2}},  # DataLoader's workers are processes
}


def work_of(source):
    """The work of one source."""
    title, own = SOURCES[source]
    sides = {
        OURS: Side(FACTORY, options={"source": source, "by": "ours"}),
        OURS_2: Side(FACTORY, options={"source": source, "by": "ours", "workers": 2}),
    }
    for name, options in MORE_OF_OURS.get(source, {}).items():
        sides[name] = Side(FACTORY, options={"source": source, "by": "ours", **options})
    for name, by, workers in own:
        sides[name] = Side(FACTORY, options={"source": source, "by": by, "workers": workers})
    return Work(
        name=f"data-{source.lower()}",
        title=f"Data: a batch of 256 images of 32 x 32 x 3 out of {title}",
        sides=sides,
        against=own[0][0],
        settings={"num_examples": 4_096},
        # what worker processes read ahead, while other sides are measured, is a tenth of the round
        amount=128 if source == "Folder" else 16,
        per="batch",
        must={"wrong": ("at most", 0)},
        rounds=3 if source == "Folder" else 5,
        reaches=lambda measured_sides: reaches(measured_sides, source),
        notes=(
            "The data are on the host, and shuffled anew in each epoch. CPU time is that of the side's own "
            "process, the least of the rounds: what the machine does beside it does not count, and neither "
            "do worker processes.",
        ),
    )


STREAMS = {
    "grain_pipeline": "a Grain IterDataset",
    "hugging_face_iterable": "a Hugging Face IterableDataset",
    "stateful_loader": "a StatefulDataLoader",
}
PLAIN_FOR, STREAM = "a plain for", "fourbeat, a Stream"


def work_of_stream(source):
    """The work of one source that is read in order."""
    factory = "benchmarks.peers.stream_sources:Streaming"
    return Work(
        name=f"stream-{source.replace('_', '-')}",
        title=f"Data: a batch of 256 images of 32 x 32 x 3 out of {STREAMS[source]}, in order",
        sides={
            PLAIN_FOR: Side(factory, options={"source": source, "by": "own"}),
            STREAM: Side(factory, options={"source": source, "by": "ours"}),
        },
        against=PLAIN_FOR,
        settings={"num_examples": 1_024},
        amount=4,
        per="batch",
        must={"wrong": ("at most", 0)},
        rounds=3,
        reaches=lambda sides: [costs_no_more(sides, STREAM, PLAIN_FOR)],
        notes=("The stream keeps the place of each batch, so that a run goes on from any step.",),
    )


def reaches(sides, source):
    """By CPU time where one process does all, and by the clock with as many workers."""
    (_, own), more = SOURCES[source], MORE_OF_OURS.get(source, {})
    alone = [OURS, *(name for name in more if name == IN_TURN)]
    with_workers = [OURS_2, *(name for name in more if name == PROCESSES_2)]
    found = [costs_no_more(sides, ours, own[0][0]) for ours in alone]
    others = [name for name, _, workers in own if workers == 2]
    return found + [is_faster(sides, ours, name) for name in others for ours in with_workers]


def costs_no_more(sides, ours, own, limit=1.1):
    """Whether a batch takes at most as much CPU time, up to 10 %."""
    reach = f"{ours}: CPU time of a batch at most {limit:g} x that of {own}"
    if not measured(sides, ours, own):
        return missing(reach)
    ratio_of = sides[ours]["facts"]["CPU ms a batch"] / sides[own]["facts"]["CPU ms a batch"]
    return Reach(reach, f"{ratio_of:.2f}", ratio_of <= limit)


def is_faster(sides, ours, own):
    """Whether more examples come in a second, by the median of the rounds."""
    reach = f"{ours}: more examples a second than {own}"
    if not measured(sides, ours, own):
        return missing(reach)
    times = ratio(sides[own]["seconds"], sides[ours]["seconds"])
    return Reach(reach, f"{times} times as many", times.median > 1)


def is_hardly_waited_for(sides):
    """The share of an epoch, of the last round; and the epoch beside the work that there is to do."""
    share = f"{OURS_2}: less than 2 % of an epoch spent waiting for data"
    limit = f"{OURS_2}: an epoch at most 1.1 x the CPU time of its steps and its decoding, over all cores"
    if not measured(sides, OURS_2, IN_MEMORY, DECODING):
        return [missing(share), missing(limit)]
    percent = sides[OURS_2]["facts"]["percent of the time waiting for data"]
    work_s = [sides[name]["facts"]["CPU seconds of an epoch"] for name in (IN_MEMORY, DECODING)]
    least_s = sum(work_s) / num_threads()
    times = sides[OURS_2]["median_s"] / least_s
    words = f"{times:.2f} x ({work_s[0]:.2f} s of steps, {work_s[1]:.2f} s of decoding)"
    return [Reach(share, f"{percent:.2f} %", percent < 2), Reach(limit, words, times <= 1.1)]


PNG_EPOCH = Work(
    name="data-png-epoch",
    title="Data: an epoch of mnist-cnn, batch 32, out of 6,400 PNG files",
    sides={
        OURS: Side("benchmarks.peers.png_epoch:PngEpoch", options={"workers": 0}),
        OURS_2: Side("benchmarks.peers.png_epoch:PngEpoch", options={"workers": 2}),
        IN_MEMORY: Side("benchmarks.peers.png_epoch:InMemory"),
        DECODING: Side("benchmarks.peers.png_epoch:Decoding"),
    },
    against=OURS,
    job={"name": "mnist-cnn", "batch_size": 32, "learning_rate": 5e-3, "num_test": 2_000},
    settings={"num_images": 6_400},
    per="pass",
    learn=1,
    must={"accuracy": ("at least", 0.85)},
    unit="s",
    scale=1.0,
    rounds=3,
    reaches=is_hardly_waited_for,
    notes=(
        "The convolutions are Eigen's, as in the recipe. Steps and decoding share the cores: where their CPU "
        "time alone fills all of them, the loop has to wait.",
    ),
)
WORKS = [*(work_of(source) for source in SOURCES), *map(work_of_stream, STREAMS), PNG_EPOCH]
