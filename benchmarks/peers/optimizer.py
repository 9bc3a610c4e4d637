"""AdamW as every side built on Optax has it."""

import optax

from benchmarks.jobs import EPSILON, WEIGHT_DECAY, Job


def make_tx(job: Job) -> optax.GradientTransformation:
    """With the job's learning rate: constant, or warmed up and then a cosine over its steps."""
    rate = job.learning_rate
    if job.schedule_steps is not None:
        warmup = job.schedule_steps // 10
        rate = optax.warmup_cosine_decay_schedule(0.0, rate, warmup, job.schedule_steps)
    return optax.adamw(rate, b1=0.9, eps=EPSILON, weight_decay=WEIGHT_DECAY)
