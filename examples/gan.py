"""Two models, two optimizers, one loop: a generator and a critic, each with four beats of its own.

The generator learns to turn noise into points of a ring. Each has its own step, number of updates and
learning rate; the critic's parameters are an input of the generator's step, which reaches its loss by name.

    python examples/gan.py --out gan.png
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from matplotlib.figure import Figure

import fourbeat as fb
from fourbeat import guard

CRITIC_STEPS = 2  # to one of the generator


class Network(nnx.Module):
    """Two hidden layers."""

    def __init__(self, size_in: int, size_out: int, *, rngs: nnx.Rngs):
        self.layers = nnx.List(
            nnx.Linear(a, b, rngs=rngs) for a, b in ((size_in, 64), (64, 64), (64, size_out))
        )

    def __call__(self, x):
        """Outputs (batch, size_out)."""
        for layer in self.layers[:-1]:
            x = nnx.leaky_relu(layer(x))
        return self.layers[-1](x)


def make_ring(num_points: int) -> fb.data.Arrays:
    """Points near the unit circle."""
    angle = np.random.RandomState(0).uniform(0, 2 * np.pi, num_points)
    return fb.data.Arrays(real=np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32))


def critic_loss(critic, batch):
    """Real points score high, made ones low."""
    real, made = critic(batch["real"])[:, 0], critic(batch["made"])[:, 0]
    return jax.nn.softplus(-real) + jax.nn.softplus(made)


def generator_loss(generator, batch, *, critic):
    """Made points score high with the critic as it is."""
    critic = fb.merge(CRITIC, critic, {})
    return jax.nn.softplus(-critic(generator(batch["noise"]))[:, 0])


CRITIC = fb.split(Network(2, 1, rngs=nnx.Rngs(1)))[0]  # its structure


def main() -> None:
    """Trains both, prints their counts and draws what the generator makes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=3_000)
    parser.add_argument("--out", default="gan.png")
    arguments = parser.parse_args()
    falling = optax.cosine_decay_schedule(1e-3, max(arguments.steps // CRITIC_STEPS, 1))
    critic_beats = fb.four_beats(
        critic_loss, optax.adam(5e-4, b1=0.5), schedule=lambda count: 5e-4, guard=guard.skip()
    )
    generator_beats = fb.four_beats(
        generator_loss,
        optax.adam(falling, b1=0.5),
        schedule=falling,
        ema=0.99,
        predict=lambda model, batch: model(batch["noise"]),
    )
    critic = critic_beats.init(Network(2, 1, rngs=nnx.Rngs(1)))
    generator = generator_beats.init(Network(8, 2, rngs=nnx.Rngs(2)))
    critic_step, generator_step = fb.compile(critic_beats.train_step), fb.compile(generator_beats.train_step)
    make = jax.jit(generator_beats.predict_step)
    noise_of = jax.jit(lambda n: jax.random.normal(jax.random.fold_in(jax.random.key(3), n), (64, 8)))
    turn = fb.every(steps=CRITIC_STEPS)
    batches = make_ring(4_096).batches(64, shuffle=True, seed=0, remainder="drop")
    for tick in fb.loop(batches, until=fb.at(steps=arguments.steps), marks=[turn]):
        noise = noise_of(tick.step)
        made = make(generator, {"noise": noise})
        critic, critic_logs = critic_step(critic, {"real": tick.batch["real"], "made": made})
        if turn in tick:
            generator, logs = generator_step(generator, {"noise": noise}, critic=critic.params)
    for name, state, seen in (("critic", critic, critic_logs), ("generator", generator, logs)):
        print(
            f"{name:10s} step {int(state.step)}, updates {int(state.num_updates)}, "
            f"loss {float(seen['loss']):.3f}, learning rate {float(seen['learning_rate']):.2e}"
        )
    points = np.concatenate([make(generator, {"noise": noise_of(-n)}) for n in range(1, 9)])
    radius = float(jnp.linalg.norm(points, axis=1).mean())
    draw(make_ring(512).columns["real"], points).savefig(arguments.out)
    print(f"mean radius of what is made: {radius:.2f}; written to {arguments.out}")


def draw(real: np.ndarray, made: np.ndarray) -> Figure:
    """Points of the ring and those that the generator makes of noise."""
    figure = Figure(figsize=(5.2, 5.6), layout="constrained")
    axes = figure.add_subplot()
    for name, points in (("real", real), ("made", made)):
        axes.scatter(*points.T, s=5, alpha=0.6, label=name)
    axes.set(xlabel="x", ylabel="y", title="Points of a ring", aspect="equal")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


if __name__ == "__main__":
    main()
