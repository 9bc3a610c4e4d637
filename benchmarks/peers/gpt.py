"""A small GPT in Flax NNX on sequences that it can learn, trained by fourbeat with accumulation."""

import jax
import numpy as np
import optax
from flax import nnx

import fourbeat as fb

VOCABULARY, WIDTH, NUM_HEADS, NUM_LAYERS, CONTEXT = 61, 64, 4, 2, 64
NUM_SEQUENCES = 1_024


class Layer(nnx.Module):
    """Causal attention and a feed-forward part, each after a LayerNorm."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.norm1, self.norm2 = nnx.LayerNorm(WIDTH, rngs=rngs), nnx.LayerNorm(WIDTH, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(NUM_HEADS, WIDTH, decode=False, rngs=rngs)
        self.up = nnx.Linear(WIDTH, 4 * WIDTH, rngs=rngs)
        self.down = nnx.Linear(4 * WIDTH, WIDTH, rngs=rngs)

    def __call__(self, x, mask):
        """(batch, tokens, width) of the same."""
        x = x + self.attention(self.norm1(x), mask=mask)
        return x + self.down(nnx.gelu(self.up(self.norm2(x))))


class GPT(nnx.Module):
    """Token and position embeddings, layers, a head."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.tokens = nnx.Embed(VOCABULARY, WIDTH, rngs=rngs)
        self.positions = nnx.Embed(CONTEXT, WIDTH, rngs=rngs)
        self.layers = nnx.List([Layer(rngs=rngs) for _ in range(NUM_LAYERS)])
        self.norm, self.head = nnx.LayerNorm(WIDTH, rngs=rngs), nnx.Linear(WIDTH, VOCABULARY, rngs=rngs)

    def __call__(self, tokens):
        """Logits (batch, tokens, vocabulary)."""
        x = self.tokens(tokens) + self.positions(np.arange(tokens.shape[1]))
        mask = nnx.make_causal_mask(tokens)
        for layer in self.layers:
            x = layer(x, mask)
        return self.head(self.norm(x))


def loss_fn(model, batch):
    """Cross-entropy of each next token."""
    logits = model(batch["tokens"])
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, batch["next"])
    return loss, {"logits": logits, "labels": batch["next"]}


def sequences():
    """Tokens that follow one another by a fixed rule, a tenth of them at random."""
    random = np.random.RandomState(0)
    tokens = np.empty((NUM_SEQUENCES, CONTEXT + 1), np.int32)
    tokens[:, 0] = random.randint(0, VOCABULARY, NUM_SEQUENCES)
    for place in range(CONTEXT):
        by_rule = (7 * tokens[:, place] + 3) % VOCABULARY
        at_random = random.randint(0, VOCABULARY, NUM_SEQUENCES)
        tokens[:, place + 1] = np.where(random.uniform(size=NUM_SEQUENCES) < 0.1, at_random, by_rule)
    return tokens


class FourbeatGPT:
    """fourbeat's loop over batches of sequences.

    Args:
      settings: with `gpt_batch_size`, sequences in a step.
      accumulate: microbatches of a step.
    """

    def __init__(self, settings, *, accumulate=1):
        tokens = sequences()
        data = fb.data.Arrays(tokens=tokens[:, :-1], next=tokens[:, 1:])
        self.batches = data.batches(settings["gpt_batch_size"], shuffle=True, seed=0, remainder="drop")
        self.metrics = fb.metrics.Collection(loss=fb.metrics.Mean("loss"), accuracy=fb.metrics.Accuracy())
        beats = fb.four_beats(loss_fn, optax.adamw(3e-3), accumulate=accumulate)
        self.state = beats.init(GPT(rngs=nnx.Rngs(0)))
        self.step = fb.compile(beats.train_step)
        self.evaluate = fb.evaluator(beats, self.metrics)

    def run(self, amount):
        """Goes on from `state.step`."""
        state, step = self.state, self.step
        until = fb.at(steps=int(state.step) + amount)
        for tick in fb.loop(self.batches, start=state.step, until=until):
            state, _ = step(state, tick.batch)
        self.state = jax.block_until_ready(state)

    def scores(self):
        """Loss and accuracy of the next token; a rule with a tenth at random allows about 0.9."""
        return self.evaluate(self.state, self.batches)
