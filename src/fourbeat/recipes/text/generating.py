"""Text token by token: a compiled loop in which a model reads each new token once, while the text fits."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fourbeat.types import Batch, Model


def windows_of(prompts: Sequence[np.ndarray], context: int, *, seed: int) -> dict[str, Any]:
    """The batch that `generate` goes on with: the end of each prompt, at least one token.

    Args:
      prompts: tokens of each text.
      context: of a window.
      seed: of what is drawn; the same for every text.
    """
    seen = [prompt[-context:] for prompt in prompts]
    window = np.stack([np.pad(tokens, (0, context - len(tokens))) for tokens in seen])
    keys = jnp.stack([jax.random.key(seed)] * len(prompts))
    return {"window": window.astype(np.int32), "length": np.array([*map(len, seen)], np.int32), "key": keys}


def generate(
    model: Model,
    batch: Batch,
    *,
    num_tokens: int,
    num_special: int = 1,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    stop: Sequence[int] | np.ndarray = (),
    end: int | None = None,
    filler: int = 0,
) -> jax.Array:
    """Goes on with texts; each token is drawn from what the model says of the window before it.

    While a text fits into its window, the model reads its new token alone, beside the keys and values that
    it kept of those before. In a full window each token moves by one place when a token comes. A model
    that learnt the places reads the whole window anew then, so every token costs as much as a window.
    Either way a token is the one that reading the whole window would give.

    Args:
      model: `model.empty_caches(num_texts)` gives caches, and `model.read_on(tokens, places, caches)` the
        logits, (texts, length, vocabulary), after tokens at places of a window, and the caches with these.
      batch: `window`, int (texts, context), holds `length` tokens of each text, at least one, from its
        beginning on. The draws of a text come from its `key`, and do not depend on the other texts.
      num_tokens: the most to draw for a text.
      num_special: so many tokens, the first of the vocabulary, are never drawn.
      temperature: logits are divided by it. 0 takes the likeliest token.
      top_k: draw from so many of the likeliest tokens alone.
      top_p: draw from the likeliest tokens alone: as few as have this probability together.
      stop: tokens with which a text ends.
      end: a token that ends a text by itself.
      filler: what comes after the end of a text.

    Returns:
      int32 (texts, num_tokens). After the end of a text there is the filler.
    """
    ending = jnp.asarray(stop, jnp.int32)
    rows = jnp.arange(len(batch["window"]))
    context = batch["window"].shape[1]
    every_place = jnp.broadcast_to(jnp.arange(context), batch["window"].shape)
    keys = jax.vmap(partial(jax.random.split, num=num_tokens))(batch["key"])
    choose = partial(chosen, num_special=num_special, temperature=temperature, top_k=top_k, top_p=top_p)

    def draw(carry: tuple) -> tuple:
        number, window, length, is_new, has_ended, caches, drawn = carry
        last = length - 1

        def read_window(caches: Any) -> tuple:
            logits, caches = model.read_on(window, every_place, caches)
            return logits[rows, last], caches

        def read_last(caches: Any) -> tuple:
            logits, caches = model.read_on(window[rows, last][:, None], last[:, None], caches)
            return logits[:, 0], caches

        logits, caches = lax.cond(is_new, read_window, read_last, caches)
        token = jnp.where(has_ended, 0, choose(logits, keys[:, number]))
        drawn = drawn.at[:, number + len(ending)].set(jnp.where(has_ended, filler, token))
        seen = lax.dynamic_slice_in_dim(drawn, number + 1, len(ending), axis=1)
        has_ended |= (seen == ending).all(axis=1) & (len(ending) > 0)
        has_ended = has_ended if end is None else has_ended | (token == end)
        is_full = length == context
        window = jnp.where(is_full[:, None], jnp.roll(window, -1, axis=1), window)
        length = jnp.minimum(length + 1, context)
        window = window.at[rows, length - 1].set(token)
        return number + 1, window, length, is_full.any(), has_ended, caches, drawn

    def goes_on(carry: tuple) -> jax.Array:
        number, _, _, _, has_ended, _, _ = carry
        return (number < num_tokens) & ~has_ended.all()

    drawn = jnp.full((len(rows), len(ending) + num_tokens), filler)  # room in front to look for the ending
    none_ended, caches = jnp.zeros(len(rows), bool), model.empty_caches(len(rows))
    start = (0, batch["window"], batch["length"], jnp.array(True), none_ended, caches, drawn)
    return lax.while_loop(goes_on, draw, start)[-1][:, len(ending) :]


def chosen(
    logits: jax.Array,
    keys: jax.Array,
    *,
    num_special: int,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
) -> jax.Array:
    """A token for each row of logits, drawn from its key; the options are those of `generate`."""
    logits = logits.at[:, :num_special].set(-jnp.inf)
    if temperature == 0:
        return logits.argmax(axis=1)
    logits = logits / temperature
    if top_k is not None:
        least = lax.top_k(logits, min(top_k, logits.shape[1]))[0][:, -1:]
        logits = jnp.where(logits < least, -jnp.inf, logits)
    if top_p is not None:
        likeliest = -jnp.sort(-logits, axis=1)
        shares = jax.nn.softmax(likeliest)
        is_kept = jnp.cumsum(shares, axis=1) - shares < top_p  # the tokens before it have less than top_p
        least = jnp.where(is_kept, likeliest, jnp.inf).min(axis=1, keepdims=True)
        logits = jnp.where(logits < least, -jnp.inf, logits)
    return jax.vmap(jax.random.categorical)(keys, logits)
