"""A saved model gives what the model gave, without its code; what is damaged or not ours is refused."""

import collections
import json
import os
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import safetensors
import safetensors.numpy
from flax import nnx

import fourbeat as fb

FILES = ["README.md", "program.stablehlo", "signature.json", "weights.safetensors"]


class CNN(nnx.Module):
    """Convolution, BatchNorm, Dropout, a list of layers."""

    def __init__(self, *, rngs):
        self.conv = nnx.Conv(1, 3, (3, 3), strides=4, rngs=rngs)
        self.norm = nnx.BatchNorm(3, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.layers = nnx.List([nnx.Linear(147, 8, rngs=rngs), nnx.Linear(8, 10, rngs=rngs)])

    def __call__(self, image):
        x = self.drop(nnx.relu(self.norm(self.conv(image))))
        for layer in self.layers:
            x = layer(x.reshape(x.shape[0], -1))
        return x


class Transformer(nnx.Module):
    """Attention over tokens, whose embedding is the last layer's kernel too."""

    def __init__(self, *, rngs):
        self.token = nnx.Embed(11, 8, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, 8, decode=False, dropout_rate=0.3, rngs=rngs)
        self.norm = nnx.LayerNorm(8, rngs=rngs)
        self.head = self.token

    def __call__(self, tokens):
        x = self.token(tokens)
        return self.head.attend(self.norm(x + self.attention(x)))


def to_float(batch):
    return {**batch, "image": batch["image"].astype(jnp.float32) / 255}


def digits():
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (21, 28, 28, 1), np.uint8)
    return fb.data.Arrays(image=images, label=random.integers(0, 10, 21)).map(to_float)


def texts():
    return fb.data.Arrays(text=np.random.default_rng(0).integers(0, 11, (21, 6)))


def of_images(model, batch):
    logits = model(batch["image"])
    return {"logits": logits, "top": (logits.argmax(-1), jax.nn.softmax(logits).max(-1))}


def make(kind):
    """`(beats, state, data)` after two steps."""
    if kind == "cnn":
        data, model, column = digits(), CNN(rngs=nnx.Rngs(0)), "image"
        options = {"predict": of_images}
    elif kind == "transformer in bfloat16":
        data, model, column = texts(), Transformer(rngs=nnx.Rngs(0)), "text"
        options = {"predict": lambda model, batch: model(batch["text"]), "precision": "bfloat16"}
    else:
        data, column = fb.data.Arrays(x=np.linspace(-1, 1, 42, dtype=np.float32).reshape(21, 2)), "x"
        model = {"w": jnp.ones((2, 3)), "times": jnp.array(0), "name": "line"}  # an int of weak type
        run = lambda model, batch: batch["x"] @ model["w"] + model["times"]
        options = {"predict": run}

    def loss_fn(model, batch):
        outputs = run(model, batch) if kind == "dict" else model(batch[column])
        return (outputs**2).mean(axis=tuple(range(1, outputs.ndim)))

    beats = fb.four_beats(loss_fn, optax.adam(1e-2), ema=0.5, **options)
    state, step = beats.init(model), fb.compile(beats.train_step)
    for i in range(2):
        state, _ = step(state, data.batches(8, remainder="drop")[i])
    return beats, state, data


@pytest.fixture(scope="module", params=["cnn", "transformer in bfloat16", "dict"])
def saved(request, tmp_path_factory):
    """`(kind, beats, state, data, folder)`."""
    beats, state, data = make(request.param)
    folder = tmp_path_factory.mktemp("saved") / "models" / "a"
    fb.models.save(folder, state, predict=beats, example=data.batches(8)[0], classes=list("0123456789"))
    return request.param, beats, state, data, folder


def assert_equal(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def test_a_loaded_model_gives_the_bits_of_the_predictor(saved):
    _, beats, state, data, folder = saved
    loaded = fb.models.load(folder)
    assert sorted(os.listdir(folder)) == FILES and os.listdir(folder.parent) == ["a"]
    batches = data.batches(8)
    predicted = fb.predictor(beats)(state, batches)
    parts = [loaded.predict(batches[i]) for i in range(3)]
    assert_equal(jax.tree.map(lambda *each: np.concatenate(each)[:21], *parts), predicted)
    column = next(iter(loaded.signature.inputs))
    stored = {column: data.columns[column][:5]}  # another number of examples, of the stored columns alone
    assert_equal(loaded.predict(stored), jax.jit(beats.predict_step)(state, data[:5].batches(5)[0]))
    assert loaded.classes == tuple("0123456789") and loaded.signature.step == 2


def test_the_weights_are_those_of_the_state_under_their_paths(saved):
    kind, _, state, _, folder = saved
    names = {
        "cnn": {
            "conv/kernel", "conv/bias", "norm/scale", "norm/bias", "norm/mean", "norm/var", "drop/rngs/key",
            "drop/rngs/count", "layers/0/kernel", "layers/0/bias", "layers/1/kernel", "layers/1/bias",
        },
        "dict": {"w", "times"},
    }  # fmt: skip
    weights = safetensors.numpy.load_file(folder / "weights.safetensors")  # by the format's own library
    assert_equal(weights, fb.models.load(folder).weights)
    if kind in names:
        assert weights.keys() == names[kind]
    else:  # the shared embedding is there once
        assert [name for name in weights if "embedding" in name] == ["head/embedding"]
    for name, array in weights.items():
        *path, last = [int(key) if key.isdigit() else key for key in name.split("/")]
        nested = state.rest if name in ("times",) or last in ("mean", "var", "key", "count") else state.params
        for key in path:
            nested = nested[key]
        np.testing.assert_array_equal(array, nested[last])


def test_the_signature_says_what_goes_in_and_out(saved):
    kind, _, _, _, folder = saved
    signature = json.loads((folder / "signature.json").read_text())
    if kind == "cnn":  # the label is not read, and the images are taken as they are stored
        assert signature["inputs"] == {"image": {"shape": ["batch", 28, 28, 1], "dtype": "uint8"}}
        assert signature["outputs"] == {
            "outputs['logits']": {"shape": ["batch", 10], "dtype": "float32"},
            "outputs['top'][0]": {"shape": ["batch"], "dtype": "int32"},
            "outputs['top'][1]": {"shape": ["batch"], "dtype": "float32"},
        }
        assert signature["preprocessing"] == ["to_float"]
    assert signature["platforms"] == ["cpu", "cuda", "tpu"]
    assert signature["versions"]["jax"] == jax.__version__
    assert sorted(signature["files"]) == sorted(set(FILES) - {"signature.json"})


def test_notes_are_in_the_signature_as_json_has_them(tmp_path):
    of = {
        "predict": lambda model, batch: model["w"] * batch["x"],
        "example": {"x": np.arange(3.0, dtype=np.float32)},
    }
    notes = {"words": ("b", "a"), "units": {"x": "cm"}}
    fb.models.save(tmp_path / "a", {"w": jnp.ones(())}, notes=notes, platforms=("cpu",), **of)
    assert fb.models.load(tmp_path / "a").signature.notes == {"words": ["b", "a"], "units": {"x": "cm"}}
    text = (
        "notes cannot be written as JSON: Object of type set is not JSON serializable. Give texts, numbers, "
        "lists and dicts."
    )
    with pytest.raises(TypeError, match=f"^{re.escape(text)}$"):
        fb.models.save(tmp_path / "b", {"w": jnp.ones(())}, notes={"words": {"a"}}, platforms=("cpu",), **of)
    assert not (tmp_path / "b").exists()


def test_the_averaged_weights_are_saved_where_asked_for(saved, tmp_path):
    _, beats, state, data, folder = saved
    batch = data.batches(8)[0]
    fb.models.save(tmp_path / "a", state, predict=beats, example=batch, ema=True, platforms=("cpu",))
    loaded = fb.models.load(tmp_path / "a")
    expected = jax.jit(beats.predict_step)(state.replace(params=state.ema), batch)
    assert_equal(loaded.predict(batch), expected)
    assert loaded.signature.averaged and not fb.models.load(folder).signature.averaged


def test_a_model_left_in_train_mode_is_saved_in_evaluation_mode(tmp_path):
    model, batch = CNN(rngs=nnx.Rngs(0)), {"image": np.ones((3, 28, 28, 1), np.float32)}
    model.train()
    predict = lambda model, batch: model(batch["image"])
    fb.models.save(tmp_path / "a", model, predict=predict, example=batch, platforms=("cpu",))
    model.eval()
    expected = nnx.jit(predict)(model, batch)
    np.testing.assert_array_equal(fb.models.load(tmp_path / "a").predict(batch), expected)


ALONE = """
import sys, types
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("fourbeat", "flax", "orbax", "safetensors"):
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
"""


def test_the_readme_runs_the_program_with_jax_alone_and_reads_the_weights_with_numpy_alone(saved):
    kind, beats, state, _, folder = saved
    if kind != "transformer in bfloat16":
        return
    reading, running = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    code = ALONE + "\n".join(
        [
            reading,
            "assert 'jax' not in sys.modules",
            "print(sorted(weights), file=sys.stderr)",
            running.replace("np.zeros((2, 6), 'int32')", "np.arange(12, dtype='int32').reshape(2, 6) % 11"),
            "np.save('outputs.npy', outputs)",
        ]
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    outputs = np.load(folder / "outputs.npy")
    (folder / "outputs.npy").unlink()
    batch = {"text": np.arange(12, dtype=np.int32).reshape(2, 6) % 11}
    np.testing.assert_array_equal(outputs, jax.jit(beats.predict_step)(state, batch))
    assert done.stderr.strip() == str(sorted(fb.models.load(folder).weights))


def test_arrays_of_every_kind_and_order_come_back(tmp_path):
    arrays = {
        "transposed": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        "every_second": np.arange(8, dtype=np.int16)[::2],
        "scalar": np.float64(3).reshape(()).astype(np.float16),
        "empty": np.zeros((0, 3), np.float32),
        "bfloat16": np.asarray(jnp.linspace(0, 1, 5, dtype=jnp.bfloat16)),
        "float8": np.asarray(jnp.linspace(0, 1, 5).astype(jnp.float8_e4m3fn)),
        "flags": np.array([True, False]),
        "complex": np.ones(2, np.complex64) * 1j,
    }
    model = {**arrays, "a/b": jnp.ones(1), "a": {"b": jnp.zeros(1)}, "x~1": jnp.ones(2)}
    fb.models.save(
        tmp_path / "a",
        model,
        predict=lambda model, batch: batch["x"] * model["a/b"],
        example={"x": jnp.ones(4)},
        platforms=("cpu",),
    )
    weights = fb.models.load(tmp_path / "a").weights
    assert weights.keys() == {*arrays, "a~1b", "a/b", "x~01"}
    for name, array in arrays.items():
        assert weights[name].dtype == array.dtype, name
        assert weights[name].tolist() == array.tolist(), name
    with safetensors.safe_open(tmp_path / "a" / "weights.safetensors", "np") as theirs:
        for name in set(arrays) - {"bfloat16", "float8"}:  # its NumPy half cannot read these
            assert theirs.get_tensor(name).tolist() == weights[name].tolist(), name


LINE = {"w": jnp.ones((3, 2))}
BATCH = {"x": np.ones((4, 3), np.float32), "y": np.ones(4, np.float32)}


def save_line(path, model=LINE, **options):
    options = {"predict": lambda model, batch: batch["x"] @ model["w"], "example": BATCH, **options}
    fb.models.save(path, model, platforms=options.pop("platforms", ("cpu",)), **options)


Pair = collections.namedtuple("Pair", "a b")
SIZE = (
    " Where the number of examples is needed, write x.shape[0] and no number (x.reshape(x.shape[0], -1)), "
    "and "
    "use it in shapes alone; or write the prediction of one example, and map it: jax.vmap(lambda one: ...)"
    "(batch['x'])."
)
REFUSED = {
    "a size as a number": (
        {"predict": lambda model, batch: jnp.stack([batch["x"][i] for i in range(batch["x"].shape[0])])},
        "predict cannot be traced for any number of examples: '_DimExpr' object cannot be interpreted as an "
        "integer." + SIZE,
    ),
    "a fixed size": (
        {"predict": lambda model, batch: batch["x"].reshape(4, 3)[:2]},
        "predict returned outputs float32[2,3] for a batch of any number of examples, batch. Return arrays "
        "of "
        "one entry an example, whose first axis is batch.",
    ),
    "a mean over the batch": (
        {"predict": lambda model, batch: batch["x"].mean()},
        "predict returned outputs float32[] for a batch of any number of examples, batch. Return arrays of "
        "one "
        "entry an example, whose first axis is batch.",
    ),
    "nothing read": (
        {"predict": lambda model, batch: model["w"]},
        "predict reads no column of the example, which has x, y: its outputs are the same for every batch. "
        "Give a predict that computes them from the batch.",
    ),
    "a container of the user's": (
        {"predict": lambda model, batch: Pair(batch["x"], batch["x"])},
        "predict returned PyTreeDef(CustomNode(namedtuple[Pair], [*, *])), and a program without your code "
        "knows dicts, lists and tuples alone. Return one of these, such as outputs._asdict().",
    ),
    "an operation that a platform lacks": (
        {
            "predict": lambda model, batch: jnp.linalg.eigvals(jnp.einsum("bi,bj->bij", *2 * [batch["x"]])),
            "platforms": ("cpu", "tpu"),
        },
        "predict cannot be lowered for cpu, tpu: MLIR translation rule for primitive 'eig' not found for "
        "platforms ['tpu']. Leave a platform out, platforms=(\"cpu\",), or write the operation otherwise.",
    ),
    "no platform": ({"platforms": "cpu"}, "platforms is 'cpu'. Give some of cpu, cuda, rocm, tpu."),
    "random preprocessing": (
        {"example": fb.data.Arrays(**BATCH).map(lambda batch, key: batch).batches(4)[0]},
        "the example is of batches with the mapped function <lambda>, which draws random numbers from a key: "
        "a "
        "saved prediction draws none. Give a batch of data without it, as for evaluation.",
    ),
    "keys": (
        {"example": {**BATCH, "key": jax.random.split(jax.random.key(0), 4)}},
        "the column 'key' of the example holds PRNG keys: a saved prediction draws nothing. Let predict "
        "leave "
        "out what is random.",
    ),
    "no batch": (
        {"example": BATCH["x"]},
        "example is an ndarray, not a batch. Give a dict of columns, or one of data.batches(...).",
    ),
    "no function": (
        {"predict": "logits"},
        "predict is a str. Give a function (model, batch) -> outputs, or the beats, which were made with "
        "one.",
    ),
    "beats without a state": (
        {"predict": fb.four_beats(lambda model, batch: batch["x"], optax.sgd(0.1))},
        "predict is the beats, and they predict from a state: give the state in place of the model, or "
        "predict=a function (model, batch).",
    ),
    "no average": (
        {"ema": True},
        "ema=True saves the averaged parameters of a state, and this is a model.",
    ),
    "a dtype that safetensors has not": (
        {"model": {**LINE, "q": jnp.ones(2, jnp.int4)}},
        "cannot write q: safetensors has no int4. It has float64, float32, float16, bfloat16, float8_e4m3fn, "
        "float8_e5m2, float8_e8m0fnu, int64, int32, int16, int8, uint64, uint32, uint16, uint8, bool, "
        "complex64; cast the array to one of them.",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_saved_is_refused_and_nothing_is_left(case, tmp_path):
    options, text = REFUSED[case]
    with pytest.raises((ValueError, TypeError)) as caught:
        save_line(tmp_path / "a", **options)
    assert str(caught.value) == text
    assert os.listdir(tmp_path) == []


def test_a_slash_in_a_key_is_no_other_path(tmp_path):
    model = {"w": jnp.ones((3, 2)), "deep": ({"0": jnp.ones(1)}, jnp.ones(1)), "deep/0/0": jnp.ones(1)}
    save_line(tmp_path / "a", model)
    assert "deep~10~10" in fb.models.load(tmp_path / "a").weights


def test_what_lies_there_is_replaced_only_where_asked_for_and_only_a_model(tmp_path):
    save_line(tmp_path / "a")
    with pytest.raises(ValueError) as caught:
        save_line(tmp_path / "a")
    assert str(caught.value) == (
        f"{tmp_path / 'a'} holds a saved model already. Choose another path, or replace it with "
        f"overwrite=True."
    )
    (tmp_path / "a.saving").mkdir()  # what a killed save left
    save_line(tmp_path / "a", {"w": jnp.full((3, 2), 2.0)}, overwrite=True)
    assert fb.models.load(tmp_path / "a").weights["w"].max() == 2 and os.listdir(tmp_path) == ["a"]
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "thesis.txt").write_text("mine")
    for overwrite, text in (
        (False, f"{tmp_path / 'b'} is there already. Choose another path."),
        (
            True,
            f"{tmp_path / 'b'} is there and is no saved model, so it is not replaced. Choose another path.",
        ),
    ):
        with pytest.raises(ValueError) as caught:
            save_line(tmp_path / "b", overwrite=overwrite)
        assert str(caught.value) == text
    assert (tmp_path / "b" / "thesis.txt").read_text() == "mine"


def flipped(path):
    """Flips one bit in the middle, and in the first and the last byte."""
    data = path.read_bytes()
    for place in (0, len(data) // 2, len(data) - 1):
        yield data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


@pytest.mark.parametrize("name", FILES)
def test_every_damaged_file_is_named(name, tmp_path):
    save_line(tmp_path / "a")
    path = tmp_path / "a" / name
    whole = path.read_bytes()
    for data in (*flipped(path), whole[:-3], whole + b"\n", b""):
        path.write_bytes(data)
        with pytest.raises(fb.models.ModelFileError) as caught:
            fb.models.load(tmp_path / "a")
        assert re.match(rf"{re.escape(str(path))} is (damaged|no signature)", str(caught.value))
    path.unlink()
    with pytest.raises(fb.models.ModelFileError, match=f"{name} is missing, or no plain file"):
        fb.models.load(tmp_path / "a")
    (tmp_path / name).write_bytes(whole)
    path.symlink_to(tmp_path / name)  # a link could lead anywhere
    with pytest.raises(fb.models.ModelFileError, match=f"{name} is missing, or no plain file"):
        fb.models.load(tmp_path / "a")
    path.unlink()
    path.write_bytes(whole)
    assert fb.models.load(tmp_path / "a").predict(BATCH).shape == (4, 2)


def test_a_model_of_a_newer_fourbeat_and_another_file_are_told_apart(tmp_path, monkeypatch):
    from fourbeat.models.saved import signature

    with monkeypatch.context() as patch:
        patch.setattr(signature, "_VERSION", 2)
        save_line(tmp_path / "a")
    with pytest.raises(fb.models.ModelFileError) as caught:
        fb.models.load(tmp_path / "a")
    assert str(caught.value) == (
        f"{tmp_path / 'a' / 'signature.json'} is of fourbeat.models 2, and this fourbeat reads "
        f"fourbeat.models "
        "1. Read it with the fourbeat that wrote it, or a newer one than this."
    )
    (tmp_path / "a" / "signature.json").write_text('{"inputs": "../../etc/passwd"}')
    with pytest.raises(fb.models.ModelFileError, match="is no signature of a model that fb"):
        fb.models.load(tmp_path / "a")
    with pytest.raises(fb.models.ModelFileError, match=r"there is no saved model in .*: signature.json is"):
        fb.models.load(tmp_path)


WRONG = {
    "missing": (
        {"y": BATCH["y"]},
        "the batch has no column 'x': it has y. The model takes 'x' float32[batch,3].",
    ),
    "shape": (
        {"x": np.ones((2, 4))},
        "the column 'x' is float32[2,4], and the model takes float32[batch,3]. Give it so, with as many "
        "examples as you like.",
    ),
    "dtype": (
        {"x": np.ones((2, 3), np.int32)},
        "the column 'x' is int32[2,3], and the model takes float32[batch,3]. Give it so, with as many "
        "examples "
        "as you like.",
    ),
    "empty": (
        {"x": np.ones((0, 3))},
        "the columns have 0 examples in 'x'. Give all of them the same number, at least 1.",
    ),
    "array": (
        BATCH["x"],
        "batch is an ndarray. Give a dict of columns, 'x' float32[batch,3], or one of data.batches(...).",
    ),
    "other preprocessing": (
        fb.data.Arrays(**BATCH).map(to_float).batches(4)[0],
        "the batch maps to_float, and the program begins with half. Give the stored columns, or batches of "
        "data that is mapped as the example was.",
    ),
}


def half(batch):
    return {**batch, "x": batch["x"] / 2}


@pytest.fixture(scope="module")
def mapped_line(tmp_path_factory):
    folder = tmp_path_factory.mktemp("line") / "a"
    save_line(folder, example=fb.data.Arrays(**BATCH).map(half).batches(4)[0])
    return fb.models.load(folder)


@pytest.mark.parametrize("case", WRONG)
def test_a_batch_that_does_not_fit_is_refused(case, mapped_line):
    batch, text = WRONG[case]
    with pytest.raises((ValueError, TypeError)) as caught:
        mapped_line.predict(batch)
    assert str(caught.value) == text


def test_a_state_of_several_members_is_saved_member_by_member(tmp_path):
    beats = fb.four_beats(lambda model, batch: batch["x"] @ model["w"], optax.sgd(0.1))
    state = fb.replicas(beats, 2).init(lambda: LINE)
    with pytest.raises(TypeError) as caught:
        save_line(tmp_path / "a", state)
    assert str(caught.value) == (
        "the state has 2 members, and a saved model is one of them. Give one, such as state.member(0)."
    )
    save_line(tmp_path / "a", state.member(0))
    assert fb.models.load(tmp_path / "a").predict(BATCH).tolist() == [[3.0, 3.0]] * 4


def test_lists_do_and_columns_that_are_not_read_may_be_anything(mapped_line):
    batch = {"x": [[2.0, 2.0, 2.0]], "name": ["a"], "label": np.ones(7)}
    assert mapped_line.predict(batch).tolist() == [[3.0, 3.0]]
