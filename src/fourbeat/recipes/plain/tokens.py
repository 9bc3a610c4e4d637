"""A GPT on your own tokens or text, in plain JAX, Flax and Optax: the whole training in one file.

    python train.py corpus.txt --separator "<|endoftext|>"
    python train.py tokens.bin --document-token 50256

Read it from top to bottom: the settings, the documents, the windows, the model, the loss, one step of
training, evaluation, samples, the loop. It needs `jax`, `flax`, `optax` and `numpy`.
"""

import argparse
import dataclasses
import math
from functools import lru_cache, partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx


@dataclasses.dataclass(frozen=True)
class Settings:
    """The first is given by its place; each of the others is a flag: `--batch-size 32`."""

    file: str  # ids as .bin or .npy; any other file, or a folder, is text
    out: str = "parameters.npz"  # where the parameters go
    dtype: str = "uint16"  # of the ids of a .bin file, or "uint32"
    document_token: int = -1  # the id that ends a document
    pattern: str = "*"  # the files of a folder of text
    separator: str = ""  # what parts documents within a text
    hold_out: float = 0.05  # the share of the documents that is not learnt
    steps: int = 2_000
    batch_size: int = 16  # windows in a batch
    accumulate: int = 1  # microbatches that a batch is cut into, to need the memory of one alone
    context: int = 256  # tokens in a window
    layers: int = 4
    width: int = 128  # numbers that stand for a token inside the model
    heads: int = 4
    learning_rate: float = 2e-3  # the peak of it
    weight_decay: float = 0.1
    clip_norm: float = 1.0
    precision: str = "bfloat16"  # what the layers compute in, or "float32"
    seed: int = 0
    prompt: str = ""  # what the samples go on with; ids have spaces between them
    sample_length: int = 200
    temperature: float = 0.8  # of the samples: the lower, the surer
    eval_every: int = 250
    eval_windows: int = 256  # held-out windows that are scored while it learns


# 1. The documents, one after the other in one array. A document ends with the document token. The tokens of
# text are its bytes, and 256 ends a document; ids come from a file that is not read but mapped into memory.


@dataclasses.dataclass(frozen=True)
class Corpus:
    """All tokens, where each document ends, the token that ends it, and how many tokens there are."""

    tokens: np.ndarray
    ends: np.ndarray
    document_token: int
    num_tokens: int
    is_text: bool


def read_corpus(settings: Settings) -> Corpus:
    """The tokens of a file, or of a folder of text."""
    file = Path(settings.file)
    is_text = file.suffix not in (".bin", ".npy")
    if is_text:
        texts = [path.read_bytes() for path in files_of(file, settings.pattern)]
        if settings.separator:
            texts = [part for text in texts for part in text.split(settings.separator.encode())]
        tokens = [np.append(np.frombuffer(text, np.uint8), np.uint16(256)) for text in texts if text]
        tokens, end, num_tokens = np.concatenate(tokens), 256, 257
    else:
        mapped = np.load(file, "r") if file.suffix == ".npy" else np.memmap(file, settings.dtype, "r")
        tokens, end = mapped, settings.document_token
        num_tokens = max(int(mapped.max()), end) + 1
    ends = np.flatnonzero(tokens == end) + 1
    if not len(ends) or ends[-1] < len(tokens):  # the last document, which nothing ends
        ends = np.append(ends, len(tokens))
    if end < 0 or len(ends) < 2:
        how = "--separator TEXT" if is_text else "--document-token ID"
        raise SystemExit(f"{file} is one document, and one has to be held out: say where others begin, {how}")
    return Corpus(tokens, ends, end, num_tokens, is_text)


def files_of(file: Path, pattern: str) -> list[Path]:
    """The file, or those below the folder, by name."""
    if not file.is_dir():
        return [file]
    found = {path.relative_to(file): path for path in file.rglob(pattern) if path.is_file()}
    seen = [name for name in found if not any(part.startswith(".") for part in name.parts)]
    return [found[name] for name in sorted(seen, key=Path.as_posix) if is_text(found[name])]


def is_text(file: Path) -> bool:
    """Whether a file holds UTF-8 without a byte of 0. Another one is named, and left out."""
    try:
        if "\0" not in file.read_text(encoding="utf-8"):
            return True
    except UnicodeDecodeError:
        pass
    print(f"left out: {file}: it is no text")
    return False


def parted(corpus: Corpus, share: float) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of the documents to learn, and of those held out: one at least of each."""
    draws = np.random.default_rng(0).random(len(corpus.ends))
    is_held_out = draws < share
    is_held_out[draws.argmin()], is_held_out[draws.argmax()] = True, False
    return np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)


# 2. The windows. Some documents, one after the other, are cut into windows of `context` tokens. Each of them
# is to be predicted from the tokens before it in its document, the first one from the document token.


class Windows:
    """Windows of some documents of a corpus; a window is made when it is wanted."""

    def __init__(self, corpus: Corpus, numbers: np.ndarray, context: int):
        self.corpus, self.context = corpus, context
        sizes = np.diff(corpus.ends, prepend=0)[numbers]
        self.begins = corpus.ends[numbers] - sizes  # of each document, in the corpus
        self.offsets = np.append(0, np.cumsum(sizes))  # of each document, among these
        self.num_tokens = int(self.offsets[-1])

    def __len__(self):
        return math.ceil(self.num_tokens / self.context)

    def __getitem__(self, number: int):
        """Inputs, the tokens to predict from them, the document of each, its place there, and its weight.

        What fills up the last window has a weight of 0: it counts nothing.
        """
        inputs, tokens, documents, positions = np.zeros((4, self.context), np.int32)
        start, end = number * self.context, min((number + 1) * self.context, self.num_tokens)
        first = np.searchsorted(self.offsets, start, side="right") - 1
        for document in range(first, np.searchsorted(self.offsets, end)):
            left, right = np.clip(self.offsets[document : document + 2], start, end)
            place = self.begins[document] + left - self.offsets[document]  # in the corpus
            here = slice(left - start, right - start)
            tokens[here] = self.corpus.tokens[place : place + right - left]
            inputs[here] = np.append(0, tokens[here][:-1])
            begins_here = left == self.offsets[document]
            inputs[here.start] = self.corpus.document_token if begins_here else self.corpus.tokens[place - 1]
            documents[here] = document - first + 1
            positions[here] = np.arange(right - left)
        weight = (np.arange(self.context) < end - start).astype(np.float32)
        return inputs, tokens, documents, positions, weight


def stacked(windows: Windows, numbers, is_real):
    """A batch of windows; those that only fill it up have a weight of 0."""
    *columns, weight = (np.stack(column) for column in zip(*[windows[n] for n in numbers], strict=True))
    return (*map(jnp.array, columns), jnp.array(weight * np.asarray(is_real)[:, None], jnp.float32))


@lru_cache(maxsize=1)
def order_of_pass(num_windows: int, seed: int, number: int) -> np.ndarray:
    """The order in which one pass over the windows visits them."""
    return np.random.RandomState([seed, number]).permutation(num_windows)


def training_batch(windows: Windows, batch_size: int, seed: int, step: int):
    """The windows of the batch of one step: every pass over them has an order of its own.

    The last batch of a pass is filled up with windows of weight 0, so that every batch has the same shape,
    and the step is compiled once.
    """
    batches_in_a_pass = math.ceil(len(windows) / batch_size)
    number, place = divmod(step, batches_in_a_pass)
    places = np.arange(place * batch_size, (place + 1) * batch_size)
    chosen = order_of_pass(len(windows), seed, number)[places % len(windows)]
    return stacked(windows, chosen, places < len(windows))


# 3. The model. Its parameters are float32; its layers compute in `dtype`.


def make_norm(width: int, dtype: str, rngs: nnx.Rngs) -> nnx.LayerNorm:
    """A layer norm that gives `dtype`; its statistics and its scale stay float32."""
    as_they_are = lambda arrays, **_: arrays  # it would cast the scale to `dtype` too
    return nnx.LayerNorm(width, use_bias=False, dtype=dtype, promote_dtype=as_they_are, rngs=rngs)


def looked_up(embed: nnx.Embed, numbers, dtype: str):
    """Vectors of an embedding, rounded to `dtype`, but kept as float32: gradients are summed in float32."""
    table = embed.embedding[...].astype(dtype).astype(jnp.float32)  # adding ones in bfloat16 would end at 256
    return jnp.take(table, numbers, axis=0)


class Block(nnx.Module):
    """Attention to the document so far, then two linear layers; each adds to what it is given."""

    def __init__(self, width: int, heads: int, dtype: str, *, rngs: nnx.Rngs):
        linear = partial(nnx.Linear, use_bias=False, dtype=dtype, rngs=rngs)
        self.heads = heads
        self.norm1 = make_norm(width, dtype, rngs)
        self.query_key_value = linear(width, 3 * width)
        self.mix = linear(width, width)
        self.norm2 = make_norm(width, dtype, rngs)
        self.up = linear(width, 4 * width)
        self.down = linear(4 * width, width)

    def __call__(self, x, mask):
        """From and to shape (batch, length, width); `mask` says which tokens are of one document."""
        by_head = self.query_key_value(self.norm1(x)).reshape(*x.shape[:2], 3 * self.heads, -1)
        query, key, value = jnp.split(by_head, 3, axis=2)
        attended = jax.nn.dot_product_attention(query, key, value, mask=mask, is_causal=True)
        x = x + self.mix(attended.reshape(x.shape))
        return x + self.down(nnx.relu(self.up(self.norm2(x))) ** 2)


class GPT(nnx.Module):
    """Token and position embeddings, blocks, a norm, and a linear layer to the logits."""

    def __init__(self, settings: Settings, num_tokens: int, *, rngs: nnx.Rngs):
        self.dtype = dtype = settings.precision
        width = settings.width
        self.token = nnx.Embed(num_tokens, width, rngs=rngs)
        small = nnx.initializers.normal(0.02)  # at first the token counts, not where it stands
        self.position = nnx.Embed(settings.context, width, embedding_init=small, rngs=rngs)
        blocks = (Block(width, settings.heads, dtype, rngs=rngs) for _ in range(settings.layers))
        self.blocks = nnx.List(blocks)
        self.norm = make_norm(width, dtype, rngs)
        self.head = nnx.Linear(width, num_tokens, use_bias=False, dtype=dtype, rngs=rngs)

    def __call__(self, inputs, documents, positions):
        """Numbers (logits) for each token that may come next: the larger, the more likely."""
        token = looked_up(self.token, inputs, self.dtype)
        position = looked_up(self.position, positions, self.dtype)
        x = token.astype(self.dtype) + position.astype(self.dtype)
        mask = documents[:, None, :, None] == documents[:, None, None, :]
        for block in self.blocks:
            x = block(x, mask)
        return self.head(self.norm(x)).astype(jnp.float32)


# 4. The loss: how surprised the model is by each token that comes next.


def losses_of(model, inputs, tokens, documents, positions):
    """The cross-entropy of each token."""
    logits = model(inputs, documents, positions)
    return optax.softmax_cross_entropy_with_integer_labels(logits, tokens)


# 5. One step of training. The batch is cut into microbatches, run one after the other in the memory of one.
# The mean loss of each counts by its share of the batch's tokens: so the summed gradients are those of
# the whole batch, however its windows are filled.


def make_optimizer(model, settings: Settings) -> nnx.Optimizer:
    """AdamW with clipped gradients; its rate warms up in a tenth of the steps, then falls along a cosine."""
    warmup = max(settings.steps // 10, 1)
    peak, steps = settings.learning_rate, max(settings.steps, warmup + 1)
    rate = optax.warmup_cosine_decay_schedule(0.0, peak, warmup, steps, end_value=peak / 10)
    clip = optax.clip_by_global_norm(settings.clip_norm)
    adamw = optax.adamw(rate, b2=0.95, weight_decay=settings.weight_decay)
    return nnx.Optimizer(model, optax.chain(clip, adamw), wrt=nnx.Param)


@partial(nnx.jit, static_argnames="accumulate")
def train_step(model, optimizer, batch, accumulate: int):
    """Forward, loss, gradient, update. The model and the optimizer are changed in place."""
    graph, params = nnx.split(model)

    def loss_and_grads(columns, weight, share=None):
        def share_of_loss(params):
            total = (losses_of(nnx.merge(graph, params), *columns) * weight).sum()
            return (total if share is None else share * total) / jnp.maximum(weight.sum(), 1)

        return jax.value_and_grad(share_of_loss)(params)

    def add(sums, microbatch):
        *columns, weight, share = microbatch
        return jax.tree.map(jnp.add, sums, loss_and_grads(columns, weight, share)), None

    if accumulate == 1:
        loss, grads = loss_and_grads(batch[:-1], batch[-1])
    else:
        zeros = jnp.zeros(()), jax.tree.map(jnp.zeros_like, params)
        cut = [column.reshape(accumulate, -1, column.shape[-1]) for column in batch]
        shares = cut[-1].sum((1, 2)) / batch[-1].sum()
        (loss, grads), _ = jax.lax.scan(add, zeros, (*cut, shares))
    optimizer.update(model, grads)
    return loss


# 6. Evaluation: forward and loss, and nothing learnt. The exponential of the mean loss is the perplexity:
# between how many tokens, all equally likely, the model might as well be choosing.


@nnx.jit
def summed_loss(model, batch):
    """The losses of a batch, summed by weight."""
    return (losses_of(model, *batch[:-1]) * batch[-1]).sum()


def evaluate(model, windows: Windows, batch_size: int, every: int = 1) -> tuple[float, float]:
    """The mean loss of each token of every n-th window, and how many bytes a token stands for."""
    chosen = range(0, len(windows), every)
    loss, num_tokens, num_bytes = 0.0, 0.0, 0.0
    for start in range(0, len(chosen), batch_size):
        places = np.arange(start, start + batch_size)
        numbers = [chosen[place] for place in places % len(chosen)]
        batch = stacked(windows, numbers, places < len(chosen))
        loss += float(summed_loss(model, batch))
        num_tokens += float(batch[-1].sum())
        num_bytes += float((batch[-1] * (batch[1] < 256)).sum())
    return loss / num_tokens, num_bytes / num_tokens


# 7. Samples: one token after the other, each drawn from what the model says of the window before it.


@partial(nnx.jit, static_argnames=("num_drawn", "temperature"))
def draw(model, window, length, key, num_drawn: int, temperature: float):
    """Tokens that go on with the first `length` tokens of `window`; a full window moves along."""
    context = len(window)
    one_document, positions = jnp.ones((1, context), jnp.int32), jnp.arange(context)[None]

    def next_token(carry, key):
        window, length = carry
        logits = model(window[None], one_document, positions)[0, length - 1] / temperature
        token = jax.random.categorical(key, logits)
        window = jnp.where(length < context, window, jnp.roll(window, -1))
        window = window.at[jnp.minimum(length, context - 1)].set(token)
        return (window, jnp.minimum(length + 1, context)), token

    return jax.lax.scan(next_token, (window, length), jax.random.split(key, num_drawn))[1]


def sample(model, corpus: Corpus, settings: Settings) -> str:
    """The prompt, and how the model goes on with it until the document ends."""
    prompt = list(settings.prompt.encode()) if corpus.is_text else [*map(int, settings.prompt.split())]
    seen = np.array([corpus.document_token, *prompt][-settings.context :])
    window = jnp.zeros(settings.context, jnp.int32).at[: len(seen)].set(seen)
    key = jax.random.key(settings.seed)
    drawn = np.asarray(draw(model, window, len(seen), key, settings.sample_length, settings.temperature))
    ends = np.flatnonzero(drawn == corpus.document_token)
    drawn = drawn[: ends[0]] if len(ends) else drawn
    if corpus.is_text:
        return settings.prompt + bytes(drawn.tolist()).decode("utf-8", "replace")
    return settings.prompt + "".join(f" {token}" for token in drawn)


# 8. The loop.


def train(settings: Settings) -> GPT:
    """Trains, prints scores and samples as it learns, and returns the model."""
    corpus = read_corpus(settings)
    windows, held_out = (
        Windows(corpus, numbers, settings.context) for numbers in parted(corpus, settings.hold_out)
    )
    every = math.ceil(len(held_out) / settings.eval_windows)

    model = GPT(settings, corpus.num_tokens, rngs=nnx.Rngs(settings.seed))
    optimizer = make_optimizer(model, settings)

    losses, sizes = [], []  # of each step since the last look; they stay on the device
    for step in range(settings.steps):
        batch = training_batch(windows, settings.batch_size, settings.seed, step)
        losses.append(train_step(model, optimizer, batch, settings.accumulate))
        sizes.append(batch[-1].sum())

        steps_done = step + 1
        if steps_done % settings.eval_every == 0 or steps_done == settings.steps:
            seen = np.average(losses, weights=sizes)
            scores = evaluate(model, held_out, settings.batch_size, every)
            print(f"step {steps_done:5d}   train loss {seen:.4f}   eval {in_words(corpus, *scores)}")
            print(sample(model, corpus, settings), end="\n\n")
            losses, sizes = [], []

    print("held out", in_words(corpus, *evaluate(model, held_out, settings.batch_size)))
    return model


def in_words(corpus: Corpus, loss: float, bytes_per_token: float) -> str:
    """A mean loss, its perplexity, and how many bits a byte of text takes, or a token."""
    bits, unit = (loss / bytes_per_token, "byte") if corpus.is_text else (loss, "token")
    return f"loss {loss:.4f} perplexity {math.exp(loss):.4f} bits_per_{unit} {bits / math.log(2):.4f}"


def save(model, file: Path) -> None:
    """The parameters as arrays by name: `np.load(file)["head.kernel"]`."""
    leaves, _ = jax.tree.flatten_with_path(nnx.to_pure_dict(nnx.state(model, nnx.Param)))
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in leaves]
    arrays = {name: np.asarray(leaf) for name, (_, leaf) in zip(names, leaves, strict=True)}
    np.savez(file, allow_pickle=False, **arrays)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Trains a GPT on tokens or text.", allow_abbrev=False)
    parser.add_argument("file")
    for field in dataclasses.fields(Settings)[1:]:
        flag = "--" + field.name.replace("_", "-")
        parser.add_argument(flag, type=type(field.default), default=field.default)
    settings = Settings(**vars(parser.parse_args()))
    save(train(settings), Path(settings.out))
    print(f"parameters written to {settings.out}")
