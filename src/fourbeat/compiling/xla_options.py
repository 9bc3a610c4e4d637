"""Options of XLA, by the name of what they do."""

import jax


def eigen_convolutions() -> dict[str, str]:
    """Options with which XLA takes its convolutions on CPU from Eigen; none on other devices.

    By default XLA takes them from YNNPACK, whose backward passes use several cores badly: on two, a
    training step of mnist-cnn takes 0.7 of the time with Eigen's on jax 0.10, and 0.9 to 0.95 on jax 0.12.
    Evaluation takes the same time with both. Sums round in another order, so bits differ from the default's.

    Returns:
      `compiler_options` for `fourbeat.compile` and `jax.jit`.

    >>> import fourbeat as fb
    >>> step = fb.compile(lambda state, batch: (state, {}), compiler_options=eigen_convolutions())
    """
    if jax.default_backend() != "cpu":
        return {}
    # what XLA may take from YNNPACK: by default these two and convolutions
    kinds = ("REDUCE", "INDIVIDUAL_DOT")
    return {"xla_cpu_experimental_ynn_fusion_type": ",".join(f"LIBRARY_FUSION_TYPE_{kind}" for kind in kinds)}
