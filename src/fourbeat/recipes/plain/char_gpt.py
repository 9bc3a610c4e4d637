"""A small GPT on Python's own library, in plain JAX, Flax and Optax: the whole training in one file.

    python train.py --steps 4000

Read it from top to bottom: the settings, the text, the model, the loss, one step of training, evaluation,
samples, the loop. It needs `jax`, `flax`, `optax` and `numpy`; the text comes with Python.
"""

import argparse
import dataclasses
import hashlib
import math
import sysconfig
from functools import lru_cache, partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx


@dataclasses.dataclass(frozen=True)
class Settings:
    """Each of these is a flag: `--batch-size 32`."""

    out: str = "parameters.npz"  # where the parameters go
    steps: int = 4_000
    batch_size: int = 8  # windows of text in a batch
    accumulate: int = 2  # microbatches that a batch is cut into, to need the memory of one alone
    context: int = 128  # characters in a window
    layers: int = 4
    width: int = 128  # numbers that stand for a character inside the model
    heads: int = 4
    learning_rate: float = 3e-3  # the peak of it
    weight_decay: float = 0.1
    clip_norm: float = 1.0
    precision: str = "bfloat16"  # what the layers compute in, or "float32"
    seed: int = 0
    text: str = sysconfig.get_paths()["stdlib"]  # the folder whose .py files are learnt
    prompt: str = "def "  # what the samples go on with
    sample_length: int = 240
    temperature: float = 0.8  # of the samples: the lower, the surer
    eval_every: int = 500


# 1. The text. Each character is a number, its token: 0 stands before a file's first character, 1 for any
# character that is not in the list, and 2 and up for those in it.

START, UNKNOWN = 0, 1
CHARACTERS = "\t\n" + "".join(map(chr, range(32, 127)))
NUM_TOKENS = 2 + len(CHARACTERS)
NOT_READ = {"site-packages", "dist-packages", "test", "tests", "idle_test"}


def encode(text: str) -> np.ndarray:
    """The tokens of a text, a byte each."""
    token_of = {character: token for token, character in enumerate(CHARACTERS, start=2)}
    return np.array([token_of.get(character, UNKNOWN) for character in text], np.uint8)


def decode(tokens) -> str:
    """The text of tokens."""
    return "".join(["", "?", *CHARACTERS][token] for token in tokens)


def read_files(folder: Path) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The tokens of each file to learn, and of each file held out: 1 in 20, by a hash of its name."""
    learnt, held_out = [], []
    paths = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.py")}
    for name, path in sorted(paths.items()):
        if NOT_READ & set(name.split("/")) or not is_text(path):
            continue
        tokens = encode(path.read_text(encoding="utf-8"))
        if len(tokens):
            number = int.from_bytes(hashlib.sha256(name.encode()).digest())
            (held_out if number % 20 == 0 else learnt).append(tokens)
    return learnt, held_out


def is_text(file: Path) -> bool:
    """Whether a file holds UTF-8 without a byte of 0. Another one is named, and left out."""
    try:
        if "\0" not in file.read_text(encoding="utf-8"):
            return True
    except UnicodeDecodeError:
        pass
    print(f"left out: {file}: it is no text")
    return False


def make_windows(files: list[np.ndarray], context: int) -> tuple[np.ndarray, np.ndarray]:
    """Files cut into windows: token i + 1 of a window is to be predicted from its tokens up to i.

    The last window of each file is filled up, and what fills it has a weight of 0: it counts nothing.
    """
    texts, weights = [], []
    for tokens in files:
        for start in range(0, len(tokens), context):
            before = tokens[start - 1] if start else START
            there = tokens[start : start + context]
            empty = context - len(there)
            texts.append(np.pad(np.append(before, there).astype(np.uint8), (0, empty)))
            weights.append(np.pad(np.ones(len(there), np.float32), (0, empty)))
    return np.stack(texts), np.stack(weights)


@lru_cache(maxsize=1)
def order_of_pass(num_windows: int, seed: int, number: int) -> np.ndarray:
    """The order in which one pass over the windows visits them."""
    return np.random.RandomState([seed, number]).permutation(num_windows)


def training_batch(texts, weights, batch_size: int, seed: int, step: int):
    """The windows of the batch of one step: every pass over them has an order of its own.

    The last batch of a pass is filled up with windows of weight 0, so that every batch has the same shape,
    and the step is compiled once.
    """
    batches_in_a_pass = math.ceil(len(texts) / batch_size)
    number, place = divmod(step, batches_in_a_pass)
    places = np.arange(place * batch_size, (place + 1) * batch_size)
    chosen = order_of_pass(len(texts), seed, number)[places % len(texts)]
    is_real = places < len(texts)
    return jnp.array(texts[chosen]), jnp.array(weights[chosen] * is_real[:, None], jnp.float32)


# 2. The model. Its parameters are float32; its layers compute in `dtype`.


def make_norm(width: int, dtype: str, rngs: nnx.Rngs) -> nnx.LayerNorm:
    """A layer norm that gives `dtype`; its statistics and its scale stay float32."""
    as_they_are = lambda arrays, **_: arrays  # it would cast the scale to `dtype` too
    return nnx.LayerNorm(width, use_bias=False, dtype=dtype, promote_dtype=as_they_are, rngs=rngs)


def looked_up(embed: nnx.Embed, numbers, dtype: str):
    """Vectors of an embedding, rounded to `dtype`, but kept as float32: gradients are summed in float32."""
    table = embed.embedding[...].astype(dtype).astype(jnp.float32)  # adding ones in bfloat16 would end at 256
    return jnp.take(table, numbers, axis=0)


class Block(nnx.Module):
    """Attention to the characters so far, then two linear layers; each adds to what it is given."""

    def __init__(self, width: int, heads: int, dtype: str, *, rngs: nnx.Rngs):
        linear = partial(nnx.Linear, use_bias=False, dtype=dtype, rngs=rngs)
        self.heads = heads
        self.norm1 = make_norm(width, dtype, rngs)
        self.query_key_value = linear(width, 3 * width)
        self.mix = linear(width, width)
        self.norm2 = make_norm(width, dtype, rngs)
        self.up = linear(width, 4 * width)
        self.down = linear(4 * width, width)

    def __call__(self, x):
        """From and to shape (batch, length, width)."""
        by_head = self.query_key_value(self.norm1(x)).reshape(*x.shape[:2], 3 * self.heads, -1)
        query, key, value = jnp.split(by_head, 3, axis=2)
        attended = jax.nn.dot_product_attention(query, key, value, is_causal=True)
        x = x + self.mix(attended.reshape(x.shape))
        return x + self.down(nnx.relu(self.up(self.norm2(x))) ** 2)


class GPT(nnx.Module):
    """Token and position embeddings, blocks, a norm, and a linear layer to the logits."""

    def __init__(self, settings: Settings, *, rngs: nnx.Rngs):
        self.dtype = dtype = settings.precision
        width = settings.width
        self.token = nnx.Embed(NUM_TOKENS, width, rngs=rngs)
        small = nnx.initializers.normal(0.02)  # at first the token counts, not where it stands
        self.position = nnx.Embed(settings.context, width, embedding_init=small, rngs=rngs)
        blocks = (Block(width, settings.heads, dtype, rngs=rngs) for _ in range(settings.layers))
        self.blocks = nnx.List(blocks)
        self.norm = make_norm(width, dtype, rngs)
        self.head = nnx.Linear(width, NUM_TOKENS, use_bias=False, dtype=dtype, rngs=rngs)

    def __call__(self, tokens):
        """Numbers (logits) for each token that may come next: the larger, the more likely."""
        token = looked_up(self.token, tokens, self.dtype)
        position = looked_up(self.position, jnp.arange(tokens.shape[1]), self.dtype)
        x = token.astype(self.dtype) + jnp.broadcast_to(position, token.shape).astype(self.dtype)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)).astype(jnp.float32)


# 3. The loss: how surprised the model is by each character that comes next.


def losses_of(model, text):
    """The cross-entropy of each character."""
    text = text.astype(jnp.int32)
    return optax.softmax_cross_entropy_with_integer_labels(model(text[:, :-1]), text[:, 1:])


# 4. One step of training. The batch is cut into microbatches, run one after the other in the memory of one.
# The mean loss of each counts by its share of the batch's characters: so the summed gradients are those of
# the whole batch, however its windows are filled.


def make_optimizer(model, settings: Settings) -> nnx.Optimizer:
    """AdamW with clipped gradients; its rate warms up in a tenth of the steps, then falls along a cosine."""
    warmup = max(settings.steps // 10, 1)
    peak, steps = settings.learning_rate, max(settings.steps, warmup + 1)
    rate = optax.warmup_cosine_decay_schedule(0.0, peak, warmup, steps, end_value=peak / 10)
    clip = optax.clip_by_global_norm(settings.clip_norm)
    adamw = optax.adamw(rate, b2=0.99, weight_decay=settings.weight_decay)
    return nnx.Optimizer(model, optax.chain(clip, adamw), wrt=nnx.Param)


@partial(nnx.jit, static_argnames="accumulate")
def train_step(model, optimizer, text, weight, accumulate: int):
    """Forward, loss, gradient, update. The model and the optimizer are changed in place."""
    graph, params = nnx.split(model)
    texts, weights = (a.reshape(accumulate, -1, a.shape[-1]) for a in (text, weight))
    shares = weights.sum((1, 2)) / weight.sum()

    def add(sums, microbatch):
        text, weight, share = microbatch

        def share_of_loss(params):
            losses = losses_of(nnx.merge(graph, params), text)
            return share * (losses * weight).sum() / jnp.maximum(weight.sum(), 1)

        return jax.tree.map(jnp.add, sums, jax.value_and_grad(share_of_loss)(params)), None

    zeros = jnp.zeros(()), jax.tree.map(jnp.zeros_like, params)
    (loss, grads), _ = jax.lax.scan(add, zeros, (texts, weights, shares))
    optimizer.update(model, grads)
    return loss


# 5. Evaluation: forward and loss, and nothing learnt. The exponential of the mean loss is the perplexity:
# between how many characters, all equally likely, the model might as well be choosing.


@nnx.jit
def summed_loss(model, text, weight):
    """The losses of a batch, summed by weight."""
    return (losses_of(model, text) * weight).sum()


def evaluate(model, texts, weights, batch_size: int) -> float:
    """The mean loss of every character once; the last batch is filled up with windows of weight 0."""
    total = 0.0
    for start in range(0, len(texts), batch_size):
        places = np.arange(start, start + batch_size)
        is_real = (places < len(texts))[:, None]
        places = places % len(texts)
        total += float(summed_loss(model, jnp.array(texts[places]), jnp.array(weights[places] * is_real)))
    return total / weights.sum()


# 6. Samples: one character after the other, each drawn from what the model says of the window before it.


@partial(nnx.jit, static_argnames=("num_characters", "temperature"))
def draw(model, window, length, key, num_characters: int, temperature: float):
    """Tokens that go on with the first `length` tokens of `window`; a full window moves along."""
    context = len(window)

    def next_character(carry, key):
        window, length = carry
        logits = model(window[None])[0, length - 1] / temperature
        token = jax.random.categorical(key, logits.at[:2].set(-jnp.inf))  # a real character
        window = jnp.where(length < context, window, jnp.roll(window, -1))
        window = window.at[jnp.minimum(length, context - 1)].set(token)
        return (window, jnp.minimum(length + 1, context)), token

    return jax.lax.scan(next_character, (window, length), jax.random.split(key, num_characters))[1]


def sample(model, settings: Settings) -> str:
    """The prompt, and how the model goes on with it."""
    seen = np.append([START], encode(settings.prompt))[-settings.context :]
    window = jnp.zeros(settings.context, jnp.int32).at[: len(seen)].set(seen)
    key = jax.random.key(settings.seed)
    drawn = draw(model, window, len(seen), key, settings.sample_length, settings.temperature)
    return settings.prompt + decode(np.asarray(drawn))


# 7. The loop.


def train(settings: Settings) -> GPT:
    """Trains, prints scores and samples as it learns, and returns the model."""
    learnt, held_out = read_files(Path(settings.text))
    texts, weights = make_windows(learnt, settings.context)
    held_out_texts, held_out_weights = make_windows(held_out, settings.context)

    model = GPT(settings, rngs=nnx.Rngs(settings.seed))
    optimizer = make_optimizer(model, settings)

    losses, sizes = [], []  # of each step since the last look; they stay on the device
    for step in range(settings.steps):
        text, weight = training_batch(texts, weights, settings.batch_size, settings.seed, step)
        losses.append(train_step(model, optimizer, text, weight, settings.accumulate))
        sizes.append(weight.sum())

        steps_done = step + 1
        if steps_done % settings.eval_every == 0 or steps_done == settings.steps:
            seen = np.average(losses, weights=sizes)
            loss = evaluate(model, held_out_texts[::10], held_out_weights[::10], settings.batch_size)
            print(f"step {steps_done:5d}   train {in_words(seen)}   eval {in_words(loss)}")
            print(sample(model, settings), end="\n\n")
            losses, sizes = [], []

    print("held out", in_words(evaluate(model, held_out_texts, held_out_weights, settings.batch_size)))
    return model


def in_words(loss: float) -> str:
    """A mean loss, and its perplexity."""
    return f"loss {loss:.4f} perplexity {math.exp(loss):.4f}"


def save(model, file: Path) -> None:
    """The parameters as arrays by name: `np.load(file)["head.kernel"]`."""
    leaves, _ = jax.tree.flatten_with_path(nnx.to_pure_dict(nnx.state(model, nnx.Param)))
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in leaves]
    arrays = {name: np.asarray(leaf) for name, (_, leaf) in zip(names, leaves, strict=True)}
    np.savez(file, allow_pickle=False, **arrays)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description="Trains a small GPT on Python's own library.", allow_abbrev=False
    )
    for field in dataclasses.fields(Settings):
        flag = "--" + field.name.replace("_", "-")
        parser.add_argument(flag, type=type(field.default), default=field.default)
    settings = Settings(**vars(parser.parse_args()))
    save(train(settings), Path(settings.out))
    print(f"parameters written to {settings.out}")
