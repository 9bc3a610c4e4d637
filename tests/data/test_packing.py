"""Documents in windows: by hand, out of a file, and as a transformer sees them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fourbeat as fb
from fourbeat.data import packed

DOCUMENTS = [
    np.arange(10 * n, 10 * n + size, dtype=np.uint16) for n, size in enumerate([3, 0, 2, 4, 1, 1, 5, 0])
]
TOKENS = np.concatenate(DOCUMENTS)
OFFSETS = [0, 3, 3, 5, 9, 10, 11, 16, 16]

# windows of 6 tokens, by hand: tokens, segments, positions
WHOLE = [
    ([0, 1, 2, 20, 21, 0], [1, 1, 1, 2, 2, 0], [0, 1, 2, 0, 1, 0]),
    ([30, 31, 32, 33, 40, 50], [1, 1, 1, 1, 2, 3], [0, 1, 2, 3, 0, 0]),
    ([60, 61, 62, 63, 64, 0], [1, 1, 1, 1, 1, 0], [0, 1, 2, 3, 4, 0]),
]
CUT = [
    ([0, 1, 2, 20, 21, 30], [1, 1, 1, 2, 2, 3], [0, 1, 2, 0, 1, 0]),
    ([31, 32, 33, 40, 50, 60], [1, 1, 1, 2, 3, 4], [0, 1, 2, 0, 0, 0]),
    ([61, 62, 63, 64, 0, 0], [1, 1, 1, 1, 0, 0], [0, 1, 2, 3, 0, 0]),
]


@pytest.mark.parametrize("source", ["a list", "one array"])
@pytest.mark.parametrize(("cut", "wanted"), [(False, WHOLE), (True, CUT)], ids=["whole", "cut"])
def test_windows_are_those_by_hand(source, cut, wanted):
    documents, offsets = (DOCUMENTS, None) if source == "a list" else (TOKENS, OFFSETS)
    windows = packed(documents, 6, offsets=offsets, cut=cut)
    assert len(windows) == len(wanted)
    for number in (2, 0, 1):  # each by itself
        batch = windows.batches(1)[number].materialize()
        assert {name: column.dtype for name, column in batch.items()} == {
            "tokens": np.uint16, "segment_ids": np.int32, "positions": np.int32
        }  # fmt: skip
        columns = (batch[name][0].tolist() for name in ("tokens", "segment_ids", "positions"))
        assert tuple(columns) == wanted[number]


@pytest.mark.parametrize("cut", [False, True])
def test_every_token_comes_once_in_a_segment_of_its_document(cut):
    sizes = np.random.RandomState(0).randint(0, 12, 200)
    documents = [np.full(size, number, np.int32) for number, size in enumerate(sizes)]
    windows, seen = packed(documents, 12, cut=cut), []
    for batch in windows.batches(7):
        columns = {name: np.asarray(column) for name, column in batch.materialize().items()}
        for row in np.flatnonzero(columns["weight"]):
            tokens, segments, positions = (
                columns[name][row] for name in ("tokens", "segment_ids", "positions")
            )
            seen += tokens[segments > 0].tolist()
            assert segments[segments > 0].tolist() == sorted(segments[segments > 0])
            for segment in range(1, segments.max() + 1):
                mine = segments == segment
                assert len(set(tokens[mine])) == 1
                assert positions[mine].tolist() == [*range(mine.sum())]
                assert cut or mine.sum() == sizes[tokens[mine][0]]
    assert seen == np.repeat(np.arange(200), sizes).tolist()


# the token before each, by hand: 99 in front of a document, that of the window before in one that goes on
WHOLE_INPUTS = [[99, 0, 1, 99, 20, 0], [99, 30, 31, 32, 99, 99], [99, 60, 61, 62, 63, 0]]
CUT_INPUTS = [[99, 0, 1, 99, 20, 99], [30, 31, 32, 99, 99, 99], [60, 61, 62, 63, 0, 0]]


class Written:
    """Documents that write their tokens themselves."""

    offsets, dtype = np.array(OFFSETS), TOKENS.dtype

    def write(self, start, out):
        out[:] = TOKENS[start : start + len(out)]


@pytest.mark.parametrize("source", ["a list", "one array", "an object"])
@pytest.mark.parametrize(("cut", "wanted"), [(False, WHOLE_INPUTS), (True, CUT_INPUTS)], ids=["whole", "cut"])
def test_the_token_before_each_is_there_where_one_is_to_begin_a_document(source, cut, wanted):
    documents = {"a list": DOCUMENTS, "one array": TOKENS, "an object": Written()}[source]
    offsets = OFFSETS if source == "one array" else None
    windows, plain = (packed(documents, 6, offsets=offsets, cut=cut, before=before) for before in (99, None))
    for number in (2, 0, 1):
        batch, without = (each.batches(1)[number].materialize() for each in (windows, plain))
        assert batch["inputs"][0].tolist() == wanted[number]
        assert (batch["weight"].tolist(), batch["weight"].dtype) == (
            (batch["segment_ids"] > 0).tolist(),
            np.float32,
        )
        assert all((batch[name] == column).all() for name, column in without.items() if name != "weight")
    assert windows.batches(1)[0]["inputs"].dtype == np.uint16
    beyond = packed(documents, 6, offsets=offsets, cut=True, before=2**16).batches(1)[0]["inputs"]
    assert (beyond.dtype, int(beyond[0, 0])) == (np.uint32, 2**16)


class Watched(np.memmap):
    """A file of which we see what is read."""

    def __getitem__(self, index):
        SEEN.append(index)
        return super().__getitem__(index)


SEEN = []


def test_of_a_file_only_the_windows_that_are_wanted_are_read(tmp_path):
    path = tmp_path / "tokens.bin"
    np.arange(60_000, dtype=np.uint16).tofile(path)
    tokens = np.memmap(path, np.uint16, "r").view(Watched)
    windows = packed(tokens, 64, offsets=np.arange(0, 60_001, 50), cut=True)
    assert not SEEN
    batch = windows.batches(2, shuffle=True, seed=1)[3].materialize()
    numbers = windows.batches(2, shuffle=True, seed=1).numbers_of(3)
    assert [slice(64 * number, 64 * number + 64) for number in numbers] == SEEN
    assert np.array_equal(
        batch["tokens"], np.arange(100_000, dtype=np.uint16)[:99_968].reshape(-1, 64)[numbers]
    )


def next_token(window):
    """Labels are the next tokens; where a document ends there is none, so it has weight 0."""
    tokens, segments = window["tokens"].astype(np.int32), window["segment_ids"]
    follows = np.append(segments[1:] == segments[:-1], False) & (segments > 0)
    return {**window, "tokens": tokens, "labels": np.roll(tokens, -1), "weight": follows.astype(np.float32)}


WIDTH, WORDS = 8, 70
PARAMS = {
    name: 0.3 * np.random.RandomState(i).randn(*shape).astype(np.float32)
    for i, (name, shape) in enumerate(
        {
            "embed": (WORDS, WIDTH),
            "place": (6, WIDTH),
            "qkv": (WIDTH, 3 * WIDTH),
            "out": (WIDTH, WORDS),
        }.items()
    )
}


def transformer(params, tokens, positions, mask):
    """Logits of a layer of attention; tokens and positions (B, T), mask (B, T, T)."""
    x = params["embed"][tokens] + params["place"][positions]
    query, key, value = jnp.split(x @ params["qkv"], 3, axis=-1)
    causal = jnp.tril(jnp.ones(mask.shape[1:], bool))
    scores = jnp.where(mask & causal, query @ key.swapaxes(1, 2) / WIDTH**0.5, -jnp.inf)
    return (x + jax.nn.softmax(scores) @ value) @ params["out"]


def packed_losses(params, batch):
    segments = batch["segment_ids"]
    mask = segments[:, :, None] == segments[:, None, :]
    logits = transformer(params, batch["tokens"], batch["positions"], mask)
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch["labels"]), {"logits": logits}


def test_a_transformer_sees_packed_documents_as_it_sees_each_alone():
    documents = [document[:3] for document in DOCUMENTS if len(document) >= 3]  # the second window has one
    batch = packed(documents, 6, decode=next_token).batches(3)[0]  # and the third is padding
    beats = fb.four_beats(packed_losses, optax.sgd(1.0))
    grads, out = jax.jit(beats.gradient)(beats.init(jax.tree.map(jnp.asarray, PARAMS)), batch)

    def alone(params):
        tokens = jnp.stack(documents).astype(jnp.int32)
        logits = transformer(params, tokens, jnp.arange(3)[None], jnp.ones((len(documents), 3, 3), bool))
        losses = optax.softmax_cross_entropy_with_integer_labels(logits[:, :-1], tokens[:, 1:])
        return losses.mean(), logits

    (loss, logits), grads_alone = jax.jit(jax.value_and_grad(alone, has_aux=True))(PARAMS)
    is_token = np.asarray(batch["segment_ids"] > 0) & (np.arange(3) < 2)[:, None]
    seen = jax.jit(packed_losses)(PARAMS, batch.materialize())[1]["logits"]
    np.testing.assert_allclose(seen[is_token], logits.reshape(-1, WORDS), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(out.loss, loss, rtol=1e-6)
    for name, gradient in grads_alone.items():
        np.testing.assert_allclose(grads[name], gradient, rtol=1e-5, atol=1e-7)


ERRORS = {
    "too long": (
        lambda: packed(DOCUMENTS, 4),
        ValueError,
        "document 6 has 5 tokens, one of 1 that do not fit in a window of 4. Pass cut=True, so that "
        "documents go on in the next window; or cut them, or use length=5.",
    ),
    "one array": (
        lambda: packed(TOKENS, 6),
        TypeError,
        "documents is one array of tokens, which does not say where a document ends: pass offsets=, as "
        "np.append(0, np.flatnonzero(documents == end_of_document) + 1), or a list of documents.",
    ),
    "offsets without the end": (
        lambda: packed(TOKENS, 6, offsets=[0, 3, 9]),
        ValueError,
        "offsets is [0, ..., 9]; expected ascending whole numbers from 0 to 16, the number of tokens: where "
        "each document begins, and where the last one ends.",
    ),
    "offsets of a list": (
        lambda: packed(DOCUMENTS, 6, offsets=OFFSETS),
        TypeError,
        "offsets= is for one array of all tokens; these documents are apart already.",
    ),
    "not integers": (
        lambda: packed([np.ones(2), np.ones(3)], 6),
        TypeError,
        "document 0 is float64 of shape (2,); expected a 1-d array of integers, its tokens.",
    ),
    "nothing": (lambda: packed([[], []], 6), ValueError, "cannot pack documents that hold no token."),
    "no length": (lambda: packed(DOCUMENTS, 0), ValueError, "length is 0; a window needs at least 1 token."),
    "a broken window": (
        lambda: packed(DOCUMENTS, 6, decode=lambda window: {"x": 1 / 0}).batches(1)[2],
        fb.data.ExampleError,
        "window 2 of the packed documents: cannot decode it: ZeroDivisionError: division by zero. Mend it, "
        "or leave it out by its place: data[np.delete(np.arange(len(data)), place)].",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_name_the_document_and_the_repair(name):
    fails, kind, message = ERRORS[name]
    with pytest.raises(kind) as raised:
        fails()
    assert str(raised.value) == message
