"""Parquet: what is read, kept and refused."""

import pickle
import threading

import numpy as np
import pytest

from fourbeat.data import ExampleError, Examples, parquet
from fourbeat.data.readers.kept_groups import KeptGroups
from fourbeat.data.readers.open_files import OpenFiles

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

NUM, SIZE = 40, 4


def write(path, size=SIZE, **columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=size)
    return path


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write(tmp_path_factory.mktemp("parquet") / "numbers.parquet", x=list(range(NUM)))


def loads(monkeypatch):
    """The row groups that were read, in their order."""
    found, read = [], pq.ParquetFile.read_row_group

    def counted(self, group, **options):
        found.append(group)
        return read(self, group, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counted)
    return found


def test_an_epoch_reads_few_row_groups_twice(path, monkeypatch):
    read = loads(monkeypatch)
    batches = parquet(path, window=2 * SIZE).batches(4, shuffle=True)
    for step in range(len(batches)):
        batches[step]
    assert set(read) == set(range(NUM // SIZE))
    assert len(read) <= NUM // SIZE + 2  # the ring's begin comes again at its end
    in_turn = parquet(path).batches(3)
    del read[:]
    for step in range(len(in_turn)):
        in_turn[step]
    assert read == list(range(NUM // SIZE))


def test_parts_are_shuffled_by_their_own_groups(path, monkeypatch):
    part = parquet(path, window=1)[np.arange(5, 11)]
    read = loads(monkeypatch)
    batches = part.batches(2, shuffle=True, remainder="drop")
    seen = [x for step in range(len(batches)) for x in batches[step]["x"].tolist()]
    assert sorted(seen) == list(range(5, 11))
    assert sorted(set(read)) == [1, 2]


def test_kept_groups_are_few_and_loaded_once_by_all_threads():
    begun, go_on, loaded = threading.Event(), threading.Event(), []

    def load(number):
        loaded.append(number)
        begun.set()
        go_on.wait()
        return number

    kept = KeptGroups(load, most=2)
    found = []
    threads = [threading.Thread(target=lambda: found.append(kept(7))) for _ in range(4)]
    for thread in threads:
        thread.start()
    begun.wait()
    go_on.set()
    for thread in threads:
        thread.join()
    assert found == [7] * 4 and loaded == [7]
    for number in (1, 2, 7, 1, 2):
        kept(number)
    assert loaded == [7, 1, 2, 7, 1, 2]  # the one asked for longest ago went first


class Opened:
    """Notes what becomes of a file."""

    def __init__(self, number, all_opened):
        self.number, self.is_closed = number, False
        all_opened.append(self)

    def close(self):
        self.is_closed = True


def test_open_files_are_lent_to_one_thread_at_a_time_and_few_stay_open():
    opened = []
    files = OpenFiles(lambda number: Opened(number, opened), most=2)

    def use(number):
        with files(number) as file:
            assert file.number == number and not file.is_closed

    with files(1) as first, files(1) as second:
        assert first is not second
    use(1)
    assert len(opened) == 2
    use(2)
    use(1)
    assert [(file.number, file.is_closed) for file in opened] == [(1, True), (1, False), (2, False)]

    def fail():
        with files(2):
            raise OSError("the disk is away")

    with pytest.raises(OSError, match="the disk is away"):
        fail()
    assert opened[2].is_closed
    use(2)
    assert [file.number for file in opened] == [1, 1, 2, 2]


def test_an_epoch_opens_each_file_once(path, tmp_path, monkeypatch):
    files = [path, write(tmp_path / "more.parquet", x=list(range(NUM, 2 * NUM)))]
    begun, opened = pq.ParquetFile.__init__, []
    data = parquet(files, window=4 * SIZE)

    def counted(self, file, **options):
        opened.append(file)
        begun(self, file, **options)

    monkeypatch.setattr(pq.ParquetFile, "__init__", counted)
    batches = data.batches(8, shuffle=True)
    seen = [x for step in range(len(batches)) for x in batches[step]["x"].tolist()]
    assert sorted(seen) == list(range(2 * NUM)) and sorted(opened) == sorted(files)


def test_a_group_that_could_not_be_loaded_is_tried_again():
    calls = []

    def load(number):
        calls.append(number)
        if len(calls) == 1:
            raise OSError("the disk is away")
        return number

    kept = KeptGroups(load, most=1)
    with pytest.raises(OSError, match="the disk is away"):
        kept(3)
    assert kept(3) == 3


def test_strings_lists_and_bytes(tmp_path):
    file = write(
        tmp_path / "a.parquet",
        name=["a", "bc"],
        tokens=[[1, 2], [3, 4]],
        raw=[b"\0\1\0", b"\2"],
        one=pa.array([1, 2], pa.uint8()),
    )
    batch = parquet(file).batches(2)[0]
    assert batch["tokens"].tolist() == [[1, 2], [3, 4]] and batch["one"].dtype == np.uint8
    assert batch.texts["name"].tolist() == ["a", "bc"] and batch.texts["raw"].tolist() == [b"\0\1\0", b"\2"]
    assert list(parquet(file, ["one"]).batches(2, remainder="drop")[0]) == ["one"]
    decoded = parquet(file, decode=lambda row: {"size": len(row["raw"]), "first": row["tokens"][0]})
    assert decoded.batches(2)[0]["size"].tolist() == [3, 1]


def test_many_files_are_one_data_set_that_travels(tmp_path):
    for number in range(3):
        write(tmp_path / "part" / f"{number}.parquet", x=[10 * number + i for i in range(3)])
    write(tmp_path / "_logs" / "0.parquet", y=[1])
    data = parquet(tmp_path)
    assert repr(data) == f"Examples(9 of the Parquet files of {tmp_path.name})"
    assert data.batches(9)[0]["x"].tolist() == [0, 1, 2, 10, 11, 12, 20, 21, 22]
    files = parquet(sorted(tmp_path.glob("part/*.parquet"), reverse=True))
    assert files.batches(4)[0]["x"].tolist() == [20, 21, 22, 10]
    assert pickle.loads(pickle.dumps(data)).batches(9)[0]["x"].tolist() == data.batches(9)[0]["x"].tolist()


def test_rows_that_make_no_batch_are_named(tmp_path):
    file = write(tmp_path / "a.parquet", x=[1, None], tokens=[[1], [1, 2]])
    write(tmp_path / "both" / "a.parquet", x=[1, 2, 3])
    write(tmp_path / "both" / "b.parquet", x=[4, None])
    texts = {
        parquet(file, ["x"]): (
            "example 1 of the Parquet file a.parquet: its 'x' is null (None), and nothing stands for a "
            "missing "
            "value: fill it in decode=, or leave the example out by its place, "
            "data[np.delete(np.arange(len(data)), place)]."
        ),
        parquet(file, ["tokens"]): (
            "example 1 of the Parquet file a.parquet: its 'tokens' has shape (2,), where that of example 0 "
            "has "
            "(1,): bring them to one shape in decode=, or pad them with collate=fourbeat.data.pad_to(...)."
        ),
        parquet(tmp_path / "both")[4:]: (
            "example 4 (row 1 of b.parquet) of the Parquet files of both: its 'x' is null (None), and "
            "nothing "
            "stands for a missing value: fill it in decode=, or leave the example out by its place, "
            "data[np.delete(np.arange(len(data)), place)]."
        ),
    }
    for data, text in texts.items():
        with pytest.raises(ExampleError) as caught:
            data.batches(len(data))[0]
        assert str(caught.value) == text


def wrong(folder):
    write(folder / "numbers.parquet", x=[1])
    write(folder / "unlike" / "a.parquet", x=[1])
    write(folder / "unlike" / "b.parquet", x=[1.5])
    write(folder / "parts" / "year=2024" / "a.parquet", x=[1])
    (folder / "empty").mkdir()
    (folder / "text.parquet").write_text("no Parquet")
    return {
        "another type": (
            lambda: parquet(folder / "unlike"),
            f"column 'x' of {folder}/unlike/b.parquet is double, where that of {folder}/unlike/a.parquet "
            f"is int64: "
            "write them with one type, or leave the column out with columns=.",
        ),
        "no such column": (
            lambda: parquet(folder / "numbers.parquet", ["x", "y"]),
            f"{folder}/numbers.parquet has no column 'y': its columns are x.",
        ),
        "columns is a name": (
            lambda: parquet(folder / "numbers.parquet", "x"),
            "columns is 'x'; expected a list of names out of x.",
        ),
        "partitioned": (
            lambda: parquet(folder / "parts"),
            f"{folder}/parts is partitioned: the value of 'year=2024' is a folder's name and no column of "
            f"the files. "
            "Write it into them, or leave it out and pass the paths of the files: "
            "sorted(folder.rglob('*.parquet')).",
        ),
        "an empty folder": (
            lambda: parquet(folder / "empty"),
            f"{folder}/empty holds no file whose name ends in .parquet.",
        ),
        "no Parquet": (
            lambda: parquet(folder / "text.parquet"),
            f"cannot read {folder}/text.parquet as Parquet: ",
        ),
        "no window": (
            lambda: parquet(folder / "numbers.parquet", window=0),
            "window is 0; expected at least 1 row.",
        ),
    }


def test_what_is_no_parquet_data_set_is_refused_before_anything_is_read(tmp_path):
    for act, text in wrong(tmp_path).values():
        with pytest.raises((ValueError, FileNotFoundError)) as caught:
            act()
        assert str(caught.value).startswith(text) if text.endswith("Parquet: ") else str(caught.value) == text
    with pytest.raises(FileNotFoundError):
        parquet(tmp_path / "missing.parquet")


def test_a_data_set_of_parquet_is_examples(path):
    assert type(parquet(path)) is Examples
