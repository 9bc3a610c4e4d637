"""A small GPT: of one text a window, or of several documents packed into one."""

import jax
import jax.numpy as jnp
from flax import nnx


class Block(nnx.Module):
    """Attention to the tokens so far, then two linear layers; each adds to what it is given."""

    def __init__(self, width: int, heads: int, *, rngs: nnx.Rngs):
        self.heads = heads
        self.norm1 = nnx.LayerNorm(width, use_bias=False, rngs=rngs)
        self.query_key_value = nnx.Linear(width, 3 * width, use_bias=False, rngs=rngs)
        self.mix = nnx.Linear(width, width, use_bias=False, rngs=rngs)
        self.norm2 = nnx.LayerNorm(width, use_bias=False, rngs=rngs)
        self.up = nnx.Linear(width, 4 * width, use_bias=False, rngs=rngs)
        self.down = nnx.Linear(4 * width, width, use_bias=False, rngs=rngs)

    def __call__(self, x, cache=None, places=None, mask=None):
        """From and to shape (batch, length, width).

        With a cache, the keys and values of a window, `x` is what stands at `places`, (batch, length), of it.
        Then the new cache comes too. Without one, `mask`, (batch, 1, length, length), says which tokens see
        which of those before them.
        """
        by_head = self.query_key_value(self.norm1(x)).reshape(*x.shape[:2], 3 * self.heads, -1)
        query, key, value = jnp.split(by_head, 3, axis=2)
        if cache is None or places is None:
            attended = jax.nn.dot_product_attention(query, key, value, mask=mask, is_causal=True)
        else:
            rows = jnp.arange(len(x))[:, None]
            keys, values = cache
            keys, values = keys.at[rows, places].set(key), values.at[rows, places].set(value)
            is_before = jnp.arange(keys.shape[1]) <= places[:, None, :, None]
            attended = jax.nn.dot_product_attention(query, keys, values, mask=is_before)
            cache = [keys, values]
        x = x + self.mix(attended.reshape(x.shape))
        x = x + self.down(nnx.relu(self.up(self.norm2(x))) ** 2)
        return x if cache is None else (x, cache)


class GPT(nnx.Module):
    """Token and position embeddings, blocks, a norm, and a linear layer to the logits.

    Args:
      num_tokens: of the vocabulary.
      context: tokens of a window, the longest that it reads.
      width: numbers that stand for a token.
      layers: blocks.
      heads: of attention in each; they share the width.
      rngs: draws the parameters.
    """

    def __init__(self, num_tokens: int, context: int, width: int, layers: int, heads: int, *, rngs: nnx.Rngs):
        self.token = nnx.Embed(num_tokens, width, rngs=rngs)
        small = nnx.initializers.normal(0.02)  # at first the token counts, not where it stands
        self.position = nnx.Embed(context, width, embedding_init=small, rngs=rngs)
        self.blocks = nnx.List([Block(width, heads, rngs=rngs) for _ in range(layers)])
        self.norm = nnx.LayerNorm(width, use_bias=False, rngs=rngs)
        self.head = nnx.Linear(width, num_tokens, use_bias=False, rngs=rngs)

    def __call__(self, tokens, segment_ids=None, positions=None):
        """Logits (batch, length, num_tokens) of the token after each of `tokens`, (batch, length).

        Args:
          tokens: int.
          segment_ids: of documents packed into one window, int of the same shape: a token sees those of its
            own segment alone.
          positions: of the tokens, int of the same shape; by default 0, 1, ...
        """
        x = self.token(tokens) + self.position(
            jnp.arange(tokens.shape[1]) if positions is None else positions
        )
        mask = None if segment_ids is None else segment_ids[:, None, :, None] == segment_ids[:, None, None, :]
        for block in self.blocks:
            x = block(x, mask=mask)
        return self.head(self.norm(x))

    def empty_caches(self, num_texts):
        """For each block the keys and values of a window of which nothing is read."""
        context, linear = self.position.num_embeddings, self.blocks[0].query_key_value
        zeros = jnp.zeros((num_texts, context, linear.in_features), linear.dtype)
        zeros = zeros.reshape(num_texts, context, self.blocks[0].heads, -1)
        return [[zeros, zeros] for _ in self.blocks]

    def read_on(self, tokens, places, caches):
        """Logits after each of `tokens`, which stand at `places` of windows; and the caches with these."""
        x, after = self.token(tokens) + self.position(places), []
        for block, cache in zip(self.blocks, caches, strict=True):
            x, cache = block(x, cache, places)
            after.append(cache)
        return self.head(self.norm(x)).astype(jnp.float32), after
