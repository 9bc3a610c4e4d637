"""The recipe tokens on beginnings of files of Python's library: packing, scores, resuming, the plain form."""

import collections
import json
import re
import runpy
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

import fourbeat as fb
from fourbeat.cli import main
from fourbeat.recipes import tokens
from fourbeat.recipes.bad_files import say_left_out
from fourbeat.recipes.corpus import speed
from fourbeat.recipes.plain import tokens as plain
from fourbeat.runs import Interrupted
from tests.kinds import assert_bit_equal
from tests.oracles import packed_text as by_hand

CONTEXT, LENGTH = 16, 20
TINY = {
    "steps": 6, "batch_size": 4, "context": CONTEXT, "layers": 1, "width": 16, "heads": 2,
    "eval_every": 3, "save_every": 3, "sample_length": LENGTH, "seed": 1, "hold_out": 0.2,
}  # fmt: skip


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return by_hand.write_library(tmp_path_factory.mktemp("library"))


@pytest.fixture(scope="module")
def whole(library, tmp_path_factory):
    """`(config, state)` of a run that nothing stopped."""
    config = tokens.Tokens(file=library, out=tmp_path_factory.mktemp("whole") / "run", **TINY)
    return config, tokens.train(config)


@pytest.fixture(scope="module")
def untrained(library):
    """`(config, data, beats, state)` in float32."""
    config, corpus = tokens.read(tokens.Tokens(file=library, **TINY, precision="float32"))
    beats = tokens.make_beats(config)
    return config, tokens.make_data(config, corpus), beats, tokens.make_state(config, beats)


def lines_of(path):
    """The history without what time gave it."""
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    timed = {"data_wait_s", "speed_tokens_per_s"}
    return [{name: value for name, value in line.items() if name not in timed} for line in lines]


def test_every_token_is_predicted_once_an_epoch_from_those_before_it_in_its_document(untrained, library):
    _, data, _, _ = untrained
    learnt, held_out = by_hand.parted(by_hand.documents(library), 0.2)
    assert (data.num_documents, data.num_held_out) == (len(learnt), len(held_out))
    assert (data.num_tokens, data.num_held_out_tokens) == (sum(map(len, learnt)), sum(map(len, held_out)))
    expected = collections.Counter(
        (token, *inputs[: place + 1])
        for window in by_hand.pieces(learnt, CONTEXT)
        for inputs, piece in window
        for place, token in enumerate(piece)
    )
    seen, shapes = collections.Counter(), set()
    for batch in data.train:
        columns = {name: np.asarray(column) for name, column in batch.materialize().items()}
        shapes.add(tuple((name, column.shape) for name, column in columns.items()))
        for row, place in np.argwhere(columns["weight"] == 1):
            position = columns["positions"][row, place]
            before = columns["inputs"][row, place - position : place + 1]
            assert len(set(columns["segment_ids"][row, place - position : place + 1])) == 1
            seen[columns["tokens"][row, place], *before.tolist()] += 1
    assert seen == expected and len(shapes) == 1


def test_losses_and_gradients_are_those_of_documents_read_alone(untrained, library):
    _, data, beats, state = untrained
    learnt, _ = by_hand.parted(by_hand.documents(library), 0.2)
    windows = by_hand.pieces(learnt, CONTEXT)
    numbers, batch = data.train.numbers_of(0), data.train[0]
    columns = batch.materialize()
    losses, _ = jax.jit(tokens.loss_fn)(state.model, columns)
    forward = jax.jit(state.model)
    assert max(len(windows[number]) for number in numbers) > 1  # boundaries within windows
    for row, number in enumerate(numbers):
        alone = by_hand.losses_alone(forward, windows[number], CONTEXT)
        np.testing.assert_allclose(losses[row, : len(alone)], alone, rtol=1e-5, atol=1e-5)
    # a piece in each row, from the row's beginning on
    alone = [piece for number in numbers for piece in windows[number]]
    padded = [
        np.array([np.pad(piece[part], (0, CONTEXT - len(piece[part]))) for piece in alone], np.int32)
        for part in (0, 1)
    ]
    weight = jnp.array([np.arange(CONTEXT) < len(inputs) for inputs, _ in alone], jnp.float32)
    static, params, rest = fb.split(state.model)

    def mean_loss(params):
        log_shares = jax.nn.log_softmax(fb.merge(static, params, rest)(padded[0]))
        taken = jnp.take_along_axis(log_shares, padded[1][..., None], axis=-1)[..., 0]
        return -(taken * weight).sum() / weight.sum()

    expected = jax.jit(jax.grad(mean_loss))(params)
    grads, out = jax.jit(beats.gradient)(state, batch)
    assert out.weight == weight.sum()
    for (path, one), other in zip(jax.tree.leaves_with_path(grads), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6, err_msg=str(path))


def test_scores_are_those_of_numpy_over_every_held_out_token(whole, library, capsys):
    config, state = whole
    _, held_out = by_hand.parted(by_hand.documents(library), 0.2)
    with fb.precision.Policy(compute="bfloat16").computing(model := state.model):
        forward = jax.jit(model)
        losses = [
            loss
            for window in by_hand.pieces(held_out, CONTEXT)
            for loss in by_hand.losses_alone(forward, window, CONTEXT)
        ]
    num_bytes = sum(map(len, held_out)) - len(held_out)
    loss, bits = np.mean(losses), np.sum(losses) / np.log(2) / num_bytes
    test = lines_of(config.out)[-1]
    expected = [loss, loss, bits]
    names = ("loss", "perplexity", "bits_per_byte")
    logged = [test["test_loss"], np.log(test["test_perplexity"]), test["test_bits_per_byte"]]
    np.testing.assert_allclose(logged, expected, rtol=1e-3)  # bfloat16
    main(["evaluate", str(config.out), "--json"])
    said = json.loads(capsys.readouterr().out)
    assert (said["step"], said["documents"], said["tokens"]) == (6, len(held_out), len(losses))
    assert [said[name] for name in names] == pytest.approx([test[f"test_{name}"] for name in names], rel=1e-6)
    main(["evaluate", str(config.out)])
    assert capsys.readouterr().out == (
        f"{config.out}   step 6   {len(losses)} tokens in {len(held_out)} held-out documents\n"
        f"held out loss {said['loss']:.4f} perplexity {said['perplexity']:.4f} "
        f"bits_per_byte {said['bits_per_byte']:.4f}\n"
    )


def test_stopped_it_goes_on_without_its_file_named_and_ends_with_the_same_bits(
    whole, tmp_path, monkeypatch, capsys
):
    config, state = whole
    stopped = tokens.Tokens(file=config.file, out=tmp_path / "run", **TINY)
    with monkeypatch.context() as patch:
        patch.setattr(tokens, "text_of", lambda *_: signal.raise_signal(signal.SIGTERM) or "")
        with pytest.raises(Interrupted) as caught:
            tokens.train(stopped)
    told = f"stopped at step 3, saved; to go on:\nfourbeat train tokens --resume {stopped.out}"
    assert str(caught.value) == told
    main(["train", "tokens", "--resume", str(tmp_path / "run")])
    assert "going on from step 3\n" in capsys.readouterr().out
    resumed, _ = fb.Checkpoints(tmp_path / "run" / "checkpoints").restore({"state": state}, partial=True)
    assert_bit_equal(resumed["state"], state)
    lines, expected = lines_of(stopped.out), lines_of(config.out)
    lines[0].pop("sample_text"), expected[0].pop("sample_text")
    assert lines == expected


def test_plain_it_gives_the_same_bits_without_fourbeat(whole, tmp_path, capsys):
    config, state = whole
    main(["new", "tokens", str(tmp_path / "train.py"), "--plain"])
    assert "fourbeat" not in (tmp_path / "train.py").read_text()
    own = runpy.run_path(str(tmp_path / "train.py"))
    flags = {**TINY, "file": str(config.file), "eval_every": 6}
    del flags["save_every"]
    capsys.readouterr()
    own["save"](own["train"](own["Settings"](**flags)), tmp_path / "parameters.npz")
    expected = {
        jax.tree_util.keystr(place, simple=True, separator="."): leaf
        for place, leaf in jax.tree.leaves_with_path(state.params)
    }
    assert_bit_equal(dict(np.load(tmp_path / "parameters.npz")), expected)
    printed = capsys.readouterr().out
    first, last, test = lines_of(config.out)
    assert last["sample_text"] in printed
    numbers = [float(n) for n in re.findall(r"(?:loss|perplexity|bits_per_byte) (\d+\.\d+)", printed)]
    names = ("loss", "perplexity", "bits_per_byte")
    wanted = [last[f"eval_{name}"] for name in names] + [test[f"test_{name}"] for name in names]
    np.testing.assert_allclose(numbers[1:], wanted, rtol=1e-4)
    assert numbers[0] == pytest.approx((first["train_loss"] + last["train_loss"]) / 2, rel=1e-2)


def test_it_goes_on_with_prompts_and_files_until_the_document_ends(whole, tmp_path, capsys):
    config, state = whole
    (tmp_path / "odd.txt").write_bytes(b"caf\xe9 " * 4)
    flags = ["--temperature", "0.9", "--json", "--step", "latest"]
    main(["predict", str(config.out), str(tmp_path / "odd.txt"), "--prompt", "im", *flags])
    said = json.loads(capsys.readouterr().out)
    forward = jax.jit(state.model)
    for row, prompt in zip(said["predictions"], (b"im", b"caf\xe9 " * 4), strict=True):
        assert row["prompt"] == prompt[-CONTEXT:].decode("utf-8", "replace")
        seen, drawn = [by_hand.END, *prompt], []
        with fb.precision.Policy(compute="bfloat16").computing(model := state.model):
            forward = jax.jit(model)
            for key in jax.random.split(jax.random.key(config.seed), LENGTH):
                window = np.zeros(CONTEXT, np.int32)
                window[: len(seen)] = seen[-CONTEXT:]
                logits = forward(window[None])[0, min(len(seen), CONTEXT) - 1].astype(jnp.float32)
                seen.append(int(jax.random.categorical(key, logits / 0.9)))
                drawn.append(seen[-1])
        drawn = drawn[: drawn.index(by_hand.END)] if by_hand.END in drawn else drawn
        assert row["continuation"] == bytes(drawn).decode("utf-8", "replace")
    assert said["bytes"] <= 2 * LENGTH and said["seconds"] > 0
    main(["predict", str(config.out), "--prompt", "im", *flags[:2], "--step", "latest", "--length", "3"])
    first, named, text, *_ = capsys.readouterr().out.splitlines()
    assert first == f"{config.out}   step 6   3 bytes at temperature 0.9"
    assert named == "--- the prompt goes on after 'im'" and text.startswith("im")


def test_it_is_exported_for_a_window_of_one_document(whole, tmp_path, capsys):
    config, state = whole
    main(["export", str(config.out), "--to", str(tmp_path / "a"), "--step", "latest"])
    assert capsys.readouterr().out.splitlines()[-1] == "largest difference to fb.predictor: 0"
    window = np.array([[by_hand.END, *b"import"]], np.int32)
    window = np.pad(window, ((0, 0), (0, CONTEXT - window.shape[1])))
    logits = fb.models.load(tmp_path / "a").predict({"tokens": window})
    assert logits.shape == (1, CONTEXT, 257)
    np.testing.assert_allclose(logits, state.model(window), atol=0.2)  # in float32; the run is in bfloat16


IDS = [[5, 6, 7], [1], [9, 9, 2, 4, 3], [0, 8]] * 3


def write_ids(folder, kind, end=None):
    """The documents as a file of some kind; with `end` after each one, where it is given."""
    rows = [[*document, *([] if end is None else [end])] for document in IDS]
    flat = np.concatenate(rows)
    if kind in ("uint16", "uint32"):
        flat.astype(kind).tofile(path := folder / f"{kind}.bin")
    elif kind == "parquet":
        table = pyarrow.table({"ids": rows, "length": [*map(len, rows)]})
        pyarrow.parquet.write_table(table, path := folder / "ids.parquet", row_group_size=5)
    else:
        np.save(path := folder / f"{kind}.npy", flat.astype(kind))
    return path


@pytest.mark.parametrize("kind", ["uint16", "uint32", "int64", "parquet", "parquet without ends"])
def test_ids_of_every_kind_of_file_are_the_same_documents(kind, tmp_path):
    has_ends = not kind.endswith("ends")
    path = write_ids(tmp_path, kind.split()[0], 10 if has_ends else None)
    dtype = kind if path.suffix == ".bin" else None
    flags = {"document_token": 10} if has_ends else {}
    config, corpus = tokens.read(
        tokens.Tokens(file=path, dtype=dtype, context=4, batch_size=2, hold_out=0.2, **flags)
    )
    expected = [[*document, 10] for document in IDS]
    assert np.split(corpus.tokens, corpus.ends[:-1])[2].tolist() == expected[2]
    assert (config.vocabulary, config.document_token) == ((11, 10) if has_ends else (10, 10))
    assert (config.num_tokens, config.tokenizer) == (11, "none")
    assert isinstance(corpus.tokens, np.memmap) == (path.suffix != ".parquet")
    learnt, _ = by_hand.parted(expected, 0.2)
    windows = by_hand.pieces(learnt, 4, end=10)
    data = tokens.make_data(config, corpus)
    batch = data.train[0].materialize()
    for row, number in enumerate(data.train.numbers_of(0)):
        for column, part in (("inputs", 0), ("tokens", 1)):
            wanted = [token for piece in windows[number] for token in piece[part]]
            assert batch[column][row, : len(wanted)].tolist() == wanted
    assert batch["tokens"].dtype == np.uint16


@pytest.mark.parametrize("kind", ["separator", "parquet", "parquet of bytes"])
def test_text_of_every_kind_of_file_is_the_same_documents(kind, library, tmp_path):
    texts = [bytes(document[:-1]) for document in by_hand.documents(library)]
    texts += [] if kind == "parquet" else [b"caf\xe9\0"]  # strings hold no bytes that are not UTF-8
    if kind == "separator":
        (file := tmp_path / "all.txt").write_bytes(b"<|end|>".join(texts) + b"<|end|>")
    else:
        rows = [text.decode() if kind == "parquet" else text for text in texts]
        pyarrow.parquet.write_table(pyarrow.table({"text": [*rows, None]}), file := tmp_path / "a.parquet")
    flags = {"separator": "<|end|>"} if kind == "separator" else {}
    config, corpus = tokens.read(tokens.Tokens(file=file, **flags))
    assert [bytes(part[:-1].tolist()) for part in np.split(corpus.tokens, corpus.ends[:-1])] == texts
    assert (config.vocabulary, config.document_token, config.tokenizer) == (256, 256, "bytes")


def test_names_that_begin_with_a_dot_are_passed_over(tmp_path):
    folder = tmp_path / ".texts"  # the folder itself may be named so
    for name in ("b.txt", "a/c.md", ".git/config", "a/.DS_Store"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    _, corpus = tokens.read(tokens.Tokens(file=folder))
    assert bytes(token % 256 for token in corpus.tokens.tolist()) == b"a/c.md\0b.txt\0"
    assert [path.name for path in plain.files_of(folder, "*")] == ["c.md", "b.txt"]


def test_what_is_no_text_in_a_folder_is_left_out_and_named(tmp_path, capsys):
    folder = tmp_path / "texts"
    folder.mkdir()
    contents = {
        "a": b"GIF89a\0", "b": "caf\u00e9".encode("latin-1"), "c": "caf\u00e9".encode(), "d.bin": b"ids",
        "e.md": b"text", "f.gz": b"text", "g": "text".encode("utf-16"), "h.txt": b"",
    }  # fmt: skip
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    _, corpus = tokens.read(tokens.Tokens(file=folder))
    assert bytes(token % 256 for token in corpus.tokens.tolist()) == "caf\u00e9\0text\0".encode()
    assert corpus.left_out == {
        f"{folder}/a": "it is no text: its byte 6 is 0x00",
        f"{folder}/b": "it is no UTF-8 text: its byte 3 is 0xe9",
        f"{folder}/d.bin": "it is ids, and no text: name the file itself, and join several into one",
        f"{folder}/f.gz": "it is compressed: unpack it first",
        f"{folder}/g": "it is no text: its byte 3 is 0x00",
    }
    assert [path.name for path in plain.files_of(folder, "[!df]*")] == ["c", "e.md", "h.txt"]
    say_left_out(tokens.make_data(tokens.Tokens(file=folder, context=2)).left_out)
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == "left out: 5 files in all" and said[-6] == (
        f"left out: {folder}/a: it is no text: its byte 6 is 0x00"
    )
    _, corpus = tokens.read(tokens.Tokens(file=folder / "b", separator="a"))  # a file that is named
    assert bytes(token % 256 for token in corpus.tokens.tolist()) == b"c\0f\xe9\0"


def test_a_file_of_its_own_is_held_out_and_bits_are_of_a_token_or_of_its_bytes(tmp_path):
    train, valid = write_ids(tmp_path, "uint16"), write_ids(tmp_path, "uint32")
    flags = {"context": 4, "batch_size": 2, "vocabulary": 12}
    np.array([1, 11, 2], np.uint16).tofile(valid)
    config, corpus = tokens.read(tokens.Tokens(file=train, valid=valid, **flags))
    data = tokens.make_data(config, corpus)
    assert (data.num_documents, data.num_tokens) == (1, sum(map(len, IDS)))
    assert (data.num_held_out, data.num_held_out_tokens, config.num_tokens) == (1, 3, 13)
    assert data.held_out[0]["inputs"][0].tolist() == [12, 1, 11, 0]
    assert tokens.scored(config, {"loss": np.log(4)}) == {"loss": np.log(4), "bits_per_token": 2.0}
    config = tokens.dataclasses.replace(config, bytes_per_token=4.0)
    assert tokens.scored(config, {"loss": np.log(4)})["bits_per_byte"] == 0.5


def test_ids_are_prompts_and_samples_too(tmp_path, capsys):
    path = write_ids(tmp_path, "uint32", end=10)
    flags = "--dtype uint32 --document-token 10 --steps 1 --batch-size 2"
    flags += " --context 4 --layers 1 --width 8 --heads 1"
    run = tmp_path / "run"
    main(["train", "tokens", str(path), "--out", str(run), *flags.split(), "--prompt", "5 6"])
    said = capsys.readouterr().out
    assert re.search(r"bits_per_token \d+\.\d+.*\n5 6( \d+)*\n", said)
    assert "no peak is known of cpu in bfloat16, so no utilisation is shown without --peak-flops\n" in said
    drawing = ["--length", "3", "--temperature", "0", "--json"]
    main(["predict", str(run), str(path), "--prompt", "7, 1", *drawing])
    first, second = json.loads(capsys.readouterr().out)["predictions"]
    assert (first["prompt"], second["prompt"]) == ("7 1", "10 0 8 10")
    assert all(re.fullmatch(r"( \d+){0,3}", row["continuation"]) for row in (first, second))
    np.save(tmp_path / "beyond.npy", [1, 11])
    with pytest.raises(SystemExit):
        main(["predict", str(run), str(tmp_path / "beyond.npy")])
    assert "'11' is no id: the model reads ids below 11, with" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["predict", str(run), "--prompt", "7 x"])
    assert capsys.readouterr().err == (
        "fourbeat: 'x' is no id: the model reads ids below 11, with spaces between them, as in '5 0 12'.\n"
    )
    np.append(np.fromfile(path, np.uint32), [4, 10]).astype(np.uint32).tofile(path)
    for command in (["evaluate", str(run)], ["train", "tokens", "--resume", str(run), "--steps", "2"]):
        with pytest.raises(SystemExit):
            main(command)
        assert capsys.readouterr().err == (
            f"fourbeat: {path} is not what it was when the run began: other documents would be learnt and "
            "held out. Give it back its content, or begin a new run.\n"
        )


class Watched(np.memmap):
    """A file of which we see how much is read."""

    def __getitem__(self, index):
        read = super().__getitem__(index)
        SEEN.append(np.size(read))
        return read


SEEN = []


def test_of_a_memmap_a_batch_reads_its_own_windows_alone(tmp_path):
    ids = np.arange(100_000, dtype=np.uint16) % 50
    ids.tofile(tmp_path / "ids.bin")
    config, corpus = tokens.read(tokens.Tokens(file=tmp_path / "ids.bin", document_token=49, batch_size=2))
    assert isinstance(corpus.tokens, np.memmap)
    data = tokens.make_data(config, corpus._replace(tokens=corpus.tokens.view(Watched)))
    assert not SEEN
    batch = data.train[3].materialize()
    assert 2 * config.context <= sum(SEEN) <= 2 * config.context + 2  # and what stands before each window
    starts = [config.context * number for number in data.train.numbers_of(3)]
    learnt, _ = by_hand.parted(np.split(ids, 2000), 0.05)
    expected = np.concatenate(learnt)
    assert batch["tokens"].tolist() == [expected[start : start + config.context].tolist() for start in starts]


def test_flops_are_six_a_parameter_that_multiplies_and_those_of_attention(untrained):
    config, _, _, state = untrained
    width, layers = config.width, config.layers
    multiplied = layers * (3 + 1 + 4 + 4) * width**2 + width * 257
    flops = speed.flops_per_token(state.params, layers=layers, width=width, context=CONTEXT)
    assert flops == 6 * multiplied + 12 * layers * width * CONTEXT


class Device:
    def __init__(self, kind):
        self.device_kind = kind


@pytest.mark.parametrize(
    ("kind", "tera"),
    [
        ("NVIDIA H200", 989.4), ("NVIDIA H100 80GB HBM3", 989.4), ("NVIDIA H100 PCIe", 756),
        ("NVIDIA L4", 121), ("NVIDIA L40S", 362), ("NVIDIA A100-SXM4-80GB", 312), ("TPU v5 lite", 197),
        ("TPU v5", 459),
        ("NVIDIA L40", None), ("TPU v5x", None), ("cpu", None),
    ],
)  # fmt: skip
def test_the_peak_of_a_device_is_that_of_its_kind_in_bfloat16(kind, tera):
    assert speed.peak_flops(Device(kind), "bfloat16") == (None if tera is None else tera * 1e12)
    assert speed.peak_flops(Device(kind), "float32") is None


def test_the_stopwatch_counts_no_first_step_and_nothing_between_a_stop_and_a_start(monkeypatch):
    watch = speed.Speed(tokens_per_step=1000, flops_per_token=50, peak_flops=1e6)
    times = iter([10.0, 14.0, 100.0, 101.0])
    monkeypatch.setattr(speed.time, "perf_counter", lambda: next(times))
    for _ in range(9):
        watch.step(jnp.zeros(()))  # the first one begins it, at 10
    assert watch.stop(jnp.zeros(())) == {"tokens_per_s": 2000.0, "flop_utilisation": 0.1}
    watch.step(jnp.zeros(()))
    watch.step(jnp.zeros(()))
    assert watch.stop(jnp.zeros(())) == {"tokens_per_s": 1000.0, "flop_utilisation": 0.05}
    monkeypatch.undo()
    watch.step(jnp.zeros(()))
    assert watch.stop(jnp.zeros(())) == {}  # one step alone tells nothing


def write_wrong(folder):
    """Files that cannot be learnt from, by name."""
    np.save(folder / "negative.npy", np.array([3, -1, 2], np.int32))
    np.save(folder / "floats.npy", np.ones(9))
    np.save(folder / "none.npy", np.ones(0, int))
    (folder / "text.npy").write_bytes(b"no array")
    (folder / "odd.bin").write_bytes(b"abc")
    (folder / "empty.bin").write_bytes(b"")
    (folder / "empty.txt").write_bytes(b"")
    (folder / "hollow").mkdir()
    (folder / "shards").mkdir()
    (folder / "shards" / "0.bin").write_bytes(b"ab")
    (folder / "text.gz").write_bytes(b"\x1f\x8b")
    (folder / "one.txt").write_text("one document")
    (folder / "short.txt").write_text("a\n\nb\n\nc")
    (folder / "text.parquet").write_bytes(b"no table")
    pyarrow.parquet.write_table(pyarrow.table({"a": [0.5], "b": [1]}), folder / "numbers.parquet")
    pyarrow.parquet.write_table(pyarrow.table({"a": ["x"], "b": [[1]]}), folder / "two.parquet")
    pyarrow.parquet.write_table(pyarrow.table({"b": [[1, None]]}), folder / "null.parquet")
    pyarrow.parquet.write_table(pyarrow.table({"b": [[], []], "c": [1, 2]}, schema=pyarrow.schema(
        {"b": pyarrow.list_(pyarrow.int32()), "c": pyarrow.int32()}
    )), folder / "no-id.parquet")  # fmt: skip
    write_ids(folder, "uint16", 10)
    np.array([0, 70_000] * 20, "<u4").tofile(folder / "wide.bin")


TO_HOLD_OUT = "so there is none to hold out: "
ERRORS = {
    "": "FILE is missing; give ids as .bin, .npy or .parquet, or text: a file or a folder.",
    "nowhere.bin": "there is no file or folder nowhere.bin.",
    "empty.bin": "empty.bin is empty.",
    "empty.txt": "empty.txt is empty.",
    "none.npy": "none.npy is empty.",
    "shards": "shards has no text in files *; 1 left out, such as shards/0.bin: it is ids, and no text: name "
    "the file itself, and join several into one.",
    "text.gz": "text.gz is compressed: unpack it first.",
    "hollow": "hollow has no text in files *.",
    "no-id.parquet": "the column 'b' of no-id.parquet holds no id.",
    "odd.bin": "odd.bin has 3 bytes, which is no whole number of uint16 ids of 2 bytes each. Say which they "
    "are: --dtype uint16 or --dtype uint32. Text belongs in a file of another name, such as .txt.",
    "wide.bin --document-token 0": "every second id of wide.bin is below 16: that is how ids of 4 bytes look "
    "where they are read as 2. Say which they are: --dtype uint32 or --dtype uint16.",
    "wide.bin --dtype uint16": f"wide.bin is one document, {TO_HOLD_OUT}say which id ends a document, "
    "--document-token ID, or name a file to hold out, --valid FILE.",
    "negative.npy": "id 1 of negative.npy is -1: ids are at least 0.",
    "floats.npy": "floats.npy is float64 of shape (9,); expected the ids as integers of shape (n,).",
    "text.npy": "text.npy is damaged, or no array of numbers that NumPy saved.",
    "uint16.bin --vocabulary 9": "id 3 of uint16.bin is 10, outside of a --vocabulary of 9. Are they of "
    "another --dtype?",
    "uint16.bin --vocabulary 20 --document-token 21": "--document-token is 21, outside of a --vocabulary of "
    "20.",
    "uint16.bin": f"uint16.bin is one document, {TO_HOLD_OUT}say which id ends a document, --document-token "
    "ID, or name a file to hold out, --valid FILE.",
    "one.txt": f"one.txt is one document, {TO_HOLD_OUT}part it into documents, --separator TEXT, or name a "
    "file to hold out, --valid FILE.",
    "short.txt --separator \n\n": "short.txt has 4 tokens to learn, which do not fill a window of 256: give "
    "more, or a smaller --context.",
    "one.txt --valid uint16.bin": "{folder}/uint16.bin and one.txt are not both text, or not both ids.",
    "one.txt --vocabulary 300": "one.txt is text, whose tokens are its bytes: leave --vocabulary out.",
    "one.txt --bytes-per-token 4": "one.txt is text, whose bytes are counted: leave --bytes-per-token out.",
    "one.txt --tokenizer none": "--tokenizer is none, and that of one.txt is bytes.",
    "one.txt --dtype uint16": "--dtype is for the ids of a .bin file, and one.txt is none: leave it out.",
    "one.txt --column text": "--column is for Parquet, and one.txt is none: leave it out.",
    "uint16.bin --separator x": "--separator is for text, and uint16.bin is none: leave it out.",
    "uint16.bin --prompt hello": "'hello' is no id: the model reads ids below 12, with spaces between them, "
    "as in '5 0 12'.",
    "numbers.parquet": "numbers.parquet has no column of lists of ids, or of text; it has a (double), b "
    "(int64).",
    "two.parquet --column c": "two.parquet has no column 'c' of lists of ids, or of text; it has a (string), "
    "b (list<element: int64>).",
    "two.parquet": "two.parquet has several columns of ids or text: name one, --column a or b.",
    "null.parquet": "the column 'b' of null.parquet has a list with a null in it.",
    "one.txt --heads 3": "--heads is 3, and cannot share out a --width of 128 evenly.",
    "one.txt --hold-out 0.6": "--hold-out is 0.6; give a finite number above 0 and at most 0.5.",
}  # fmt: skip


def test_a_wrong_file_or_flag_is_one_line_and_status_2_before_anything_is_compiled(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    write_wrong(tmp_path)
    before = {path.name for path in tmp_path.iterdir()}
    for flags, text in ERRORS.items():
        with pytest.raises(SystemExit) as stop:
            main(["train", "tokens", *[flag for flag in flags.split(" ") if flag]])
        assert (stop.value.code, capsys.readouterr().err) == (
            2,
            f"fourbeat: {text}\n".replace("{folder}", str(tmp_path)),
        )
    with pytest.raises(SystemExit):
        main(["train", "tokens", "text.parquet"])
    assert capsys.readouterr().err.startswith("fourbeat: cannot read text.parquet as Parquet: ")
    assert {path.name for path in tmp_path.iterdir()} == before
