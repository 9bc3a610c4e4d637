"""Weights that PyTorch wrote give PyTorch's own outputs; what does not fit is told place by place."""

import json
import os

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import safetensors.numpy
from flax import nnx

import fourbeat as fb
from fourbeat.models import PartialWeightsWarning, load_weights

torch = pytest.importorskip("torch")
safetensors_torch = pytest.importorskip("safetensors.torch")


class MLP(nnx.Module):
    """Two layers, the first of them square: its shape fits both layouts."""

    def __init__(self, *, rngs):
        self.first = nnx.Linear(6, 6, rngs=rngs)
        self.second = nnx.Linear(6, 4, rngs=rngs)

    def __call__(self, x):
        return self.second(nnx.relu(self.first(x)))


def of_mlp():
    """Modules by number, as `nn.Sequential` names them."""
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(6, 6), torch.nn.ReLU(), torch.nn.Linear(6, 4))


class CNN(nnx.Module):
    """Convolution in groups, BatchNorm, a transposed convolution, and a linear layer over all pixels."""

    def __init__(self, *, rngs, transpose_kernel=False):
        self.conv = nnx.Conv(4, 6, (3, 3), feature_group_count=2, rngs=rngs)
        self.bn = nnx.BatchNorm(6, rngs=rngs)
        self.up = nnx.ConvTranspose(
            6, 2, (3, 2), strides=(2, 2), padding="VALID", transpose_kernel=transpose_kernel, rngs=rngs
        )
        self.norm = nnx.GroupNorm(2, 2, epsilon=1e-5, rngs=rngs)
        self.fc = nnx.Linear(2 * 11 * 10, 3, rngs=rngs)

    def __call__(self, x):
        x = self.norm(self.up(nnx.relu(self.bn(self.conv(x)))))
        return self.fc(x.reshape(x.shape[0], -1))


class TorchCNN(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(4, 6, 3, padding=1, groups=2)
        self.bn = torch.nn.BatchNorm2d(6)
        self.up = torch.nn.ConvTranspose2d(6, 2, (3, 2), stride=2)
        self.norm = torch.nn.GroupNorm(2, 2)
        self.fc = torch.nn.Linear(2 * 11 * 10, 3)

    def forward(self, x):
        return self.fc(self.norm(self.up(torch.relu(self.bn(self.conv(x))))).flatten(1))


class Block(nnx.Module):
    """A layer as `nn.TransformerEncoderLayer` with norm_first."""

    def __init__(self, *, rngs):
        self.self_attn = nnx.MultiHeadAttention(2, 8, decode=False, rngs=rngs)
        self.linear1 = nnx.Linear(8, 16, rngs=rngs)
        self.linear2 = nnx.Linear(16, 8, rngs=rngs)
        self.norm1 = nnx.LayerNorm(8, epsilon=1e-5, rngs=rngs)
        self.norm2 = nnx.LayerNorm(8, epsilon=1e-5, rngs=rngs)

    def __call__(self, x):
        x = x + self.self_attn(self.norm1(x))
        return x + self.linear2(nnx.relu(self.linear1(self.norm2(x))))


class Transformer(nnx.Module):
    def __init__(self, *, rngs):
        self.token = nnx.Embed(8, 8, rngs=rngs)  # square
        self.blocks = nnx.List([Block(rngs=rngs) for _ in range(2)])
        self.head = nnx.Linear(8, 5, use_bias=False, rngs=rngs)

    def __call__(self, tokens):
        x = self.token(tokens)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class TorchTransformer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.wte = torch.nn.Embedding(8, 8)
        layer = torch.nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True, norm_first=True)
        self.encoder = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = torch.nn.Linear(8, 5, bias=False)

    def forward(self, tokens):
        return self.head(self.encoder(self.wte(tokens)))


class Window(nnx.Module):
    """Convolutions over one and three axes."""

    def __init__(self, *, rngs):
        self.one = nnx.Conv(3, 4, (5,), rngs=rngs)
        self.three = nnx.Conv(4, 4, (3, 1, 2), padding="VALID", rngs=rngs)

    def __call__(self, x):
        x = self.one(x)  # (batch, length, 4)
        return self.three(x.reshape(x.shape[0], 3, 2, -1, 4))


class TorchWindow(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.one = torch.nn.Conv1d(3, 4, 5, padding=2)
        self.three = torch.nn.Conv3d(4, 4, (3, 1, 2))

    def forward(self, x):
        x = self.one(x)
        return self.three(x.reshape(x.shape[0], 4, 3, 2, -1))


def first(x):
    """Channels first."""
    return np.moveaxis(x, -1, 1)


IMAGES = np.random.default_rng(0).normal(size=(3, 5, 5, 4)).astype(np.float32)
CNN_OPTIONS = {"flattened": {"fc": (2, 11, 10)}}
RENAMED = {"wte": "token", "encoder.layers": "blocks"}
KINDS = {  # model, PyTorch's, an input, that of PyTorch, its outputs as ours, options
    "mlp": (MLP, of_mlp, IMAGES[:, 0, :, 0].repeat(2, 1)[:, :6], np.asarray, np.asarray,
            {"rename": {"0": "first", "2": "second"}}),
    "cnn": (CNN, TorchCNN, IMAGES, first, np.asarray, CNN_OPTIONS),
    "cnn with a kernel transposed": (lambda rngs: CNN(rngs=rngs, transpose_kernel=True), TorchCNN, IMAGES,
                                     first, np.asarray, CNN_OPTIONS),
    "transformer": (Transformer, TorchTransformer, np.arange(24).reshape(3, 8) % 7, np.asarray, np.asarray,
                    {"rename": RENAMED}),
    "windows": (Window, TorchWindow, np.sin(np.arange(144, dtype=np.float32).reshape(2, 24, 3)), first,
                lambda x: np.moveaxis(x, 1, -1), {}),
}  # fmt: skip


def write(torch_model, file, x=None):
    """Every parameter and statistic at random, and in the file."""
    generator = torch.Generator().manual_seed(0)
    for name, array in torch_model.state_dict().items():
        if array.is_floating_point():
            array.copy_(torch.rand(array.shape, generator=generator) * 0.6 + (0.4 if "var" in name else -0.3))
    safetensors_torch.save_file(torch_model.state_dict(), file)
    torch_model.eval()


@pytest.mark.parametrize("kind", KINDS)
def test_the_outputs_are_those_of_pytorch(kind, tmp_path):
    make, make_torch, x, as_torch, as_ours, options = KINDS[kind]
    torch_model = make_torch()
    write(torch_model, tmp_path / "model.safetensors")
    model, report = load_weights(make(rngs=nnx.Rngs(0)), tmp_path / "model.safetensors", **options)
    assert report.is_whole, str(report)
    with torch.no_grad():
        expected = as_ours(torch_model(torch.tensor(as_torch(x).copy())).numpy())
    model.eval()
    outputs = nnx.jit(lambda model, x: model(x))(model, x)
    np.testing.assert_allclose(outputs, expected, atol=1e-5, rtol=1e-5)


def test_a_model_keeps_its_mode_its_random_state_and_its_dtypes_and_is_not_changed(tmp_path):
    arrays = {"0.weight": np.ones((6, 6), np.float16), "0.bias": np.ones(6), "2.weight": np.ones((4, 6))}
    safetensors.numpy.save_file({**arrays, "2.bias": np.ones(4)}, tmp_path / "a.safetensors")
    given = nnx.List([MLP(rngs=nnx.Rngs(0)), nnx.Dropout(0.5, rngs=nnx.Rngs(3))])
    before = np.asarray(given[0].first.kernel[...])
    given.train()
    rename = {"0": "0.first", "2": "0.second"}
    model, report = load_weights(given, tmp_path / "a.safetensors", rename)
    assert report.is_whole
    assert [row.split() for row in str(report).splitlines()[2:3]] == [
        [
            "0/first/kernel",
            "float32[6,6]",
            "0.weight",
            "float16[6,6],",
            "transposed,",
            "cast",
            "to",
            "float32",
        ]
    ]
    assert not model[1].deterministic and model[0].first.kernel.dtype == jnp.float32
    assert model[1].rngs.key.get_raw_value() == given[1].rngs.key.get_raw_value()
    np.testing.assert_array_equal(given[0].first.kernel[...], before)
    assert float(model[0].first.kernel[...].min()) == 1


def test_plain_trees_and_models_without_values_take_weights_too(tmp_path):
    torch_model = of_mlp()
    write(torch_model, tmp_path / "a.safetensors")
    like = {name: {"kernel": jnp.zeros((6, out)), "bias": np.zeros(out, np.float32)} for name, out in
            (("0", 6), ("2", 4))}  # fmt: skip
    tree, report = load_weights(like, tmp_path / "a.safetensors")
    assert report.is_whole and isinstance(tree["2"]["bias"], np.ndarray)
    rename = {"0": "first", "2": "second"}
    abstract = nnx.eval_shape(lambda: MLP(rngs=nnx.Rngs(0)))
    model, _ = load_weights(abstract, tmp_path / "a.safetensors", rename)
    np.testing.assert_array_equal(tree["0"]["kernel"], torch_model[0].weight.detach().numpy().T)
    np.testing.assert_array_equal(model.first.kernel[...], tree["0"]["kernel"])
    with pytest.raises(
        ValueError, match=r"the model has no value for second/bias, second/kernel, and the file"
    ):
        load_weights(abstract, tmp_path / "a.safetensors", {"0": "first"})


def test_weights_that_we_saved_come_back(tmp_path):
    models = [nnx.List([CNN(rngs=rngs), nnx.Dropout(0.5, rngs=rngs)]) for rngs in (nnx.Rngs(0), nnx.Rngs(1))]
    predict = lambda model, batch: model[1](model[0](batch["x"]))
    fb.models.save(tmp_path / "a", models[0], predict=predict, example={"x": IMAGES}, platforms=("cpu",))
    model, report = load_weights(models[1], tmp_path / "a")
    assert report.is_whole and not any(fit.layout for fit in report.fits)
    for one, other in zip(
        jax.tree.leaves(nnx.state(model[0])), jax.tree.leaves(nnx.state(models[0][0])), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_several_files_with_an_index(tmp_path):
    torch_model = of_mlp()
    weights = torch_model.state_dict()
    shards = {name: f"model-0000{1 + (name > '1')}-of-00002.safetensors" for name in weights}
    for shard in set(shards.values()):
        part = {name: weights[name] for name in weights if shards[name] == shard}
        safetensors_torch.save_file(part, tmp_path / shard)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": shards}))
    rename = {"0": "first", "2": "second"}
    for file in (tmp_path, index):
        model, report = load_weights(MLP(rngs=nnx.Rngs(0)), file, rename)
        assert report.is_whole
        np.testing.assert_array_equal(model.second.kernel[...], weights["2.weight"].numpy().T)
    for shard, text in (
        (
            "../other.safetensors",
            "names '../other.safetensors', which is not the plain name of a file beside it",
        ),
        ("/etc/passwd", "names '/etc/passwd', which is not the plain name of a file beside it"),
        ("model-3.safetensors", "model-3.safetensors is missing, and model.safetensors.index.json names it"),
        (shards["0.bias"], "has no 2.weight, and model.safetensors.index.json says it has"),
    ):
        index.write_text(json.dumps({"weight_map": {**shards, "2.weight": shard}}))
        with pytest.raises(fb.models.ModelFileError, match=text):
            load_weights(MLP(rngs=nnx.Rngs(0)), tmp_path, rename)
    index.write_text("[]")
    with pytest.raises(fb.models.ModelFileError, match="is no index of safetensors files"):
        load_weights(MLP(rngs=nnx.Rngs(0)), index, rename)


TABLE = """\
model          wants         file        holds
first/bias     float32[6]    0.bias      float32[6]
first/kernel   float32[6,6]  0.weight    float32[6,6], transposed
second/kernel  float32[6,4]  2.weight    float32[9,6], does not fit
second/bias    float32[4]    -           missing
-                            fc.running  float32[2], left"""


def test_what_fits_what_is_missing_and_what_is_left_is_one_table(tmp_path):
    file = tmp_path / "a.safetensors"
    arrays = {"0.weight": (6, 6), "0.bias": (6,), "2.weight": (9, 6), "fc.running": (2,)}
    arrays = {name: np.ones(shape, np.float32) for name, shape in arrays.items()}
    safetensors.numpy.save_file({**arrays, "bn.num_batches_tracked": np.array(3)}, file)
    given, rename = MLP(rngs=nnx.Rngs(0)), {"0": "first", "2": "second"}
    with pytest.warns(PartialWeightsWarning) as caught:
        model, report = load_weights(given, file, rename)
    assert str(caught[0].message) == (
        f"the weights of {file} were loaded in part: 2 leaves fit, 1 are missing in the file, 1 do not fit, "
        f"and 1 "
        "of its arrays are left. Rename what should fit, or pass partial=True where that is meant.\n" + TABLE
    )
    assert str(report) == TABLE and not report.is_whole
    assert report.missing == (("second/bias", "float32[4]"),)
    assert report.left == (("fc.running", "float32[2]"),)
    assert [fit.name for fit in report.differing] == ["2.weight"]
    np.testing.assert_array_equal(model.second.kernel[...], given.second.kernel[...])  # kept
    model, report = load_weights(given, file, {**rename, "fc": None}, partial=True)  # and no warning
    assert report.left == (("fc.running", "float32[2]"),)


REFUSED = {
    "a key of nothing": (
        {"rename": {"1": "first", "0": "second"}},
        "rename has '1', and no name of the file begins with it, in whole parts. The names are 0.bias, "
        "0.weight.",
    ),
    "two names of one place": (
        {"rename": {"0.weight": "a", "0.bias": "a"}},
        "'0.bias' and '0.weight' of the file would both be a. Rename one of them otherwise, or to None.",
    ),
    "too many stars": (
        {"rename": {"*": "*.*"}},
        "rename has '*': '*.*', with more stars in the new name than in the old one.",
    ),
    "no linear layer": (
        {"rename": {"0": "first"}, "flattened": {"conv": (2, 1, 3)}},
        "flattened has 'conv': (2, 1, 3), and the model has no linear layer there. Give the path of the "
        "linear "
        "layer, and the (channels, height, width) of the image that is flattened before it.",
    ),
    "another image": (
        {"rename": {"0": "first"}, "flattened": {"first": (2, 2, 3)}},
        "flattened has 'first': (2, 2, 3), and the model has a kernel float32[6,6] there. Give the path of "
        "the "
        "linear layer, and the (channels, height, width) of the image that is flattened before it.",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_names_nothing_is_refused(case, tmp_path):
    options, text = REFUSED[case]
    arrays = {"0.weight": np.ones((6, 6), np.float32), "0.bias": np.ones(6, np.float32)}
    safetensors.numpy.save_file(arrays, tmp_path / "a.safetensors")
    with pytest.raises(ValueError) as caught:
        load_weights(MLP(rngs=nnx.Rngs(0)), tmp_path / "a.safetensors", **options)
    assert str(caught.value) == text


def test_a_file_of_which_nothing_fits_and_a_state_are_refused(tmp_path):
    safetensors.numpy.save_file({"a": np.ones(2)}, tmp_path / "a.safetensors")
    with pytest.raises(
        ValueError, match=r"nothing in .*a.safetensors fits the model. Say which names are which"
    ):
        load_weights({"b": jnp.ones(2)}, tmp_path / "a.safetensors")
    beats = fb.four_beats(lambda model, batch: batch["x"], optax.sgd(0.1))
    with pytest.raises(TypeError, match=r"model is a state. Give state.model, and put the result back"):
        load_weights(beats.init({"a": jnp.ones(2)}), tmp_path / "a.safetensors")


def header(content, data=b""):
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return len(text).to_bytes(8, "little") + text + data


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
DAMAGED = {
    "empty": (b"", "is no safetensors file, or is cut off: it is empty."),
    "a pickle": (b"PK\x03\x04 and more", "is a pickle of PyTorch, and nothing is unpickled here"),
    "another file": (b"\x89PNG\r\n\x1a\n" * 4, "or is cut off: it begins with bytes 89 50"),
    "a huge header": (header({"a": ENTRY}, bytes(8))[:30], "is no safetensors file, or is cut off"),
    "no JSON": (header(b'{"a": '), "is damaged: its header cannot be read"),
    "a name twice": (header(b'{"a": 1, "a": 2}'), r"its header cannot be read \(a name is there twice\)"),
    "deep": (header(b'{"a":' + b"[" * 99_999), "is damaged: its header cannot be read"),
    "no entry": (header({"a": 3}), "is damaged: its header says nothing of 'a'"),
    "a negative length": (header({"a": {**ENTRY, "shape": [-2]}}, bytes(8)), "header says nothing of 'a'"),
    "an unknown dtype": (header({"a": {**ENTRY, "dtype": "F4"}}, bytes(8)), "a is of dtype F4, which NumPy"),
    "cut off": (header({"a": ENTRY}, bytes(7)), "is damaged: its arrays need 8 bytes and it has 7"),
    "too long": (header({"a": ENTRY}, bytes(9)), "is damaged: its arrays need 8 bytes and it has 9"),
    "another shape": (header({"a": {**ENTRY, "shape": [3]}}, bytes(8)), r"a of float32\[3\] needs 12 bytes"),
    "an overlap": (header({"a": ENTRY, "b": ENTRY}, bytes(8)), r"b of float32\[2\] needs 8 bytes"),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_or_foreign_file_is_named(case, tmp_path):
    data, text = DAMAGED[case]
    (tmp_path / "a.safetensors").write_bytes(data)
    with pytest.raises(fb.models.ModelFileError, match=text) as caught:
        load_weights({"a": jnp.ones(2)}, tmp_path / "a.safetensors")
    assert os.fspath(tmp_path / "a.safetensors") in str(caught.value)
