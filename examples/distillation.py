"""Distillation: a small network learns from few labels alone, and from a large network's soft answers.

The large network, a module, and the temperature are inputs of the small one's step. The temperature falls as
training goes on; the step is compiled once. Scores need no teacher: the loss has a default.

    python examples/distillation.py
"""

import argparse

import jax
import jax.numpy as jnp
import optax
from flax import nnx

import fourbeat as fb


class Network(nnx.Module):
    """One hidden layer over the pixels of a digit."""

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.hidden = nnx.Linear(28 * 28, width, rngs=rngs)
        self.out = nnx.Linear(width, 10, rngs=rngs)

    def __call__(self, image):
        """Logits (batch, 10)."""
        return self.out(nnx.relu(self.hidden(image.reshape(len(image), -1))))


def loss_fn(model, batch, *, teacher=None, temperature=1.0):
    """Cross-entropy with the labels; with a teacher, with its probabilities at a temperature."""
    logits = model(batch["image"])
    aux = {"logits": logits, "labels": batch["label"]}
    if teacher is None:
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]), aux
    answers = jax.nn.softmax(teacher(batch["image"]) / temperature)
    loss = temperature**2 * optax.softmax_cross_entropy(logits / temperature, answers)
    agrees = logits.argmax(-1) == answers.argmax(-1)
    return loss, aux | {"agreement": agrees.astype(jnp.float32)}


def trained(width, batches, num_steps, *, teacher=None):
    """A state of a network of this width after so many steps, with the logs of the last one."""
    metrics = fb.metrics.Collection(accuracy=fb.metrics.Accuracy())
    logs = ("loss",) if teacher is None else ("loss", "agreement")
    beats = fb.four_beats(loss_fn, optax.adam(1e-3), metrics=metrics, logs=logs)
    state = beats.init(Network(width, rngs=nnx.Rngs(0)))
    step = fb.compile(beats.train_step, on_recompile="raise")
    for tick in fb.loop(batches, until=fb.at(steps=num_steps)):
        inputs = {}
        if teacher is not None:
            inputs = {"teacher": teacher, "temperature": 4.0 - 3.0 * tick.step / num_steps}
        state, seen = step(state, tick.batch, **inputs)
    assert step.num_compilations == 1
    return beats, state, seen


def main() -> None:
    """Trains the teacher, and two students: on labels, and on the teacher's answers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=2_000)
    arguments = parser.parse_args()
    train, test = fb.data.mnist()
    train, few = train.split(1_000, seed=0)  # the students see a thousand digits
    whole, small = (each.batches(64, shuffle=True, seed=0, remainder="drop") for each in (train, few))
    beats, state, _ = trained(512, whole, arguments.steps)
    teacher = state.model  # in evaluation mode
    runs = {
        "teacher, 512 units": (beats, state),
        "student, 32 units, from labels": trained(32, small, arguments.steps)[:2],
    }
    beats, state, seen = trained(32, small, arguments.steps, teacher=teacher)
    runs["student, 32 units, from the teacher"] = beats, state
    for name, (beats, state) in runs.items():
        accuracy = fb.evaluator(beats)(state, test.batches(1_000))["accuracy"]
        print(f"{name:37s} {accuracy:.2%} of the test set")
    print(f"the last batch: student and teacher agree on {float(seen['agreement']):.0%}")


if __name__ == "__main__":
    main()
