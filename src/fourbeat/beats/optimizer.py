"""The optax transformation as the beats hold it."""

from typing import Any

import optax

from fourbeat.beats.naming import listed
from fourbeat.trees.keys import as_data, as_keys


def held(tx: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """`tx` whose state holds typed PRNG keys as their data, and whose `init` shows the parameters in errors.

    >>> held(optax.add_noise(0.1, 0.5, key=0)).init({"w": 1.0}).rng_key.data
    Array([0, 0], dtype=uint32)
    """
    taking = optax.with_extra_args_support(tx)

    def init(params: Any) -> Any:
        try:
            return as_data(tx.init(params))
        except Exception as error:
            error.add_note(
                f"Raised in tx.init. It was given the parameters as nested dicts of arrays: "
                f"{listed(params, 'params')}. Labels and masks have this structure, not the model's: make "
                "them of what tx.init is given, by a function of params such as optax.partition(transforms, "
                "lambda params: jax.tree.map_with_path(label, params)), or of fb.split(model)[1]."
            )
            raise

    def update(updates: Any, state: Any, params: Any = None, **extra_args: Any) -> tuple[Any, Any]:
        updates, state = taking.update(updates, as_keys(state), params, **extra_args)
        return updates, as_data(state)

    return optax.GradientTransformationExtraArgs(init, update)
