"""Attention in half precision with its softmax in float32."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from fourbeat.types import Object


def attention(query: jax.Array, key: Object, value: Object, bias: Object = None, **options: Any) -> jax.Array:
    """`nnx.dot_product_attention`, with the softmax of its weights in float32 and its products in their own
    dtype.

    Without dropout Flax calls `jax.nn.dot_product_attention`, which does this by itself. With dropout, or if
    the weights are sown, Flax gives the weights the wider dtype of a bias. A bias of float32 zeros therefore
    keeps them in float32 until they are normalised.

    >>> x = jnp.ones((1, 2, 1, 4), jnp.bfloat16)
    >>> out = attention(x, x, x, dropout_rate=0.5, deterministic=True)
    >>> out.dtype, out.shape
    (dtype(bfloat16), (1, 2, 1, 4))
    """
    drops = options.get("dropout_rate", 0.0) > 0 or options.get("module") is not None
    if not drops and query.dtype == jnp.float16 and jax.default_backend() == "cpu":
        # jax.nn.dot_product_attention asks for a product that XLA on CPU does not have (F16_F16_F32)
        options |= {"dropout_rate": 0.5, "deterministic": True}
        drops = True
    if drops:
        bias = jnp.zeros((), jnp.float32) if bias is None else bias.astype(jnp.float32)
    return nnx.dot_product_attention(query, key, value, bias, **options)
