"""A variational autoencoder of digits whose pictures a critic judges: a loss of three parts, all logged.

The critic's parameters and the weight of the divergence, which grows as training goes on, are inputs of the
step: they reach the loss by name, and the step is compiled once. The parts of the loss are in the logs
without a second forward pass. Scores need neither critic nor weight: the loss has defaults for both.

    python examples/vae_with_critic.py --out vae.png
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from matplotlib.figure import Figure

import fourbeat as fb

SIZE, CODE = 14 * 14, 8


class Network(nnx.Module):
    """One hidden layer."""

    def __init__(self, size_in: int, size_out: int, *, rngs: nnx.Rngs):
        self.hidden = nnx.Linear(size_in, 128, rngs=rngs)
        self.out = nnx.Linear(128, size_out, rngs=rngs)

    def __call__(self, x):
        """Outputs (batch, size_out)."""
        return self.out(nnx.gelu(self.hidden(x)))


class Autoencoder(nnx.Module):
    """Encodes a picture as a normal distribution of codes, and decodes one of them."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.encoder = Network(SIZE, 2 * CODE, rngs=rngs)
        self.decoder = Network(CODE, SIZE, rngs=rngs)

    def __call__(self, pictures, key):
        """Logits of the decoded pictures (batch, SIZE), means and log variances of codes (batch, CODE)."""
        mean, log_variance = jnp.split(self.encoder(pictures), 2, axis=-1)
        noise = 0.0 if key is None else jax.random.normal(key, mean.shape)
        return self.decoder(mean + jnp.exp(log_variance / 2) * noise), mean, log_variance


CRITIC = fb.split(Network(SIZE, 1, rngs=nnx.Rngs(1)))[0]  # its structure


def autoencoder_loss(model, batch, key, *, critic=None, divergence_weight=1.0):
    """Reconstruction, divergence, and where there is a critic, how little it believes in the pictures."""
    logits, mean, log_variance = model(batch["picture"], key)
    reconstruction = optax.sigmoid_binary_cross_entropy(logits, batch["picture"]).sum(-1)
    kl = 0.5 * (mean**2 + jnp.exp(log_variance) - log_variance - 1).sum(-1)
    loss = reconstruction + divergence_weight * kl
    parts = {"reconstruction": reconstruction, "kl": kl, "made": jax.nn.sigmoid(logits)}
    if critic is None:
        return loss, parts
    parts["doubt"] = jax.nn.softplus(-fb.merge(CRITIC, critic, {})(parts["made"])[:, 0])
    return loss + parts["doubt"], parts


def critic_loss(critic, batch):
    """Real pictures score high, decoded ones low."""
    real, made = critic(batch["picture"])[:, 0], critic(batch["made"])[:, 0]
    return jax.nn.softplus(-real) + jax.nn.softplus(made)


def shrunk(batch):
    """Pictures of 14 by 14, each point the mean of four."""
    image = batch["image"].reshape(-1, 14, 2, 14, 2).mean((2, 4))
    return {"picture": image.reshape(-1, SIZE)}


def main() -> None:
    """Trains both, prints the parts of the loss and draws digits beside what comes back of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=3_000)
    parser.add_argument("--out", default="vae.png")
    arguments = parser.parse_args()
    train, test = (each.map(shrunk) for each in fb.data.mnist())
    beats = fb.four_beats(
        autoencoder_loss,
        optax.adam(1e-3),
        metrics=fb.metrics.Collection(
            reconstruction=fb.metrics.Mean("reconstruction"), kl=fb.metrics.Mean("kl")
        ),
        predict=lambda model, batch: jax.nn.sigmoid(model(batch["picture"], None)[0]),
        logs=("loss", "reconstruction", "kl", "doubt"),
    )
    critic_beats = fb.four_beats(critic_loss, optax.adam(2e-4))

    def both(states, batch, *, divergence_weight):
        """The autoencoder's step, and on the pictures that it made the critic's: no forward pass twice."""
        state, critic = states
        given = {"critic": critic.params, "divergence_weight": divergence_weight}
        grads, out = beats.gradient(state, batch, **given)
        state, logs = beats.update(state, grads, out)
        critic, seen = critic_beats.train_step(critic, {**batch, "made": out.aux["made"]})
        return (state, critic), logs | {"critic": seen["loss"]}

    step, log = fb.compile(both, on_recompile="raise"), fb.every(fraction=0.25)
    states = beats.init(Autoencoder(rngs=nnx.Rngs(0))), critic_beats.init(Network(SIZE, 1, rngs=nnx.Rngs(1)))
    batches = train.batches(64, shuffle=True, seed=0, remainder="drop")
    for tick in fb.loop(batches, until=fb.at(steps=arguments.steps), marks=[log]):
        weight = min(1.0, 2 * tick.step / arguments.steps)
        states, logs = step(states, tick.batch, divergence_weight=weight)
        if log in tick:
            parts = "  ".join(f"{name} {float(value):7.2f}" for name, value in logs.items())
            print(f"step {tick.step:5d}  divergence weight {weight:.2f}  {parts}")
    scores = fb.evaluator(beats)(states[0], test.batches(512))
    print(f"test set: reconstruction {scores['reconstruction']:.2f}, kl {scores['kl']:.2f}")
    print(f"programs compiled for the steps: {step.num_compilations}")
    few = test[:16].batches(16)
    draw(np.asarray(few[0]["picture"]), fb.predictor(beats)(states[0], few)).savefig(arguments.out)
    print(f"written to {arguments.out}")


def draw(pictures: np.ndarray, decoded: np.ndarray) -> Figure:
    """Pictures above what the autoencoder makes of them."""
    figure = Figure(figsize=(8, 1.4), layout="constrained")
    axes = figure.add_subplot()
    rows = [np.concatenate(each.reshape(-1, 14, 14), axis=1) for each in (pictures, decoded)]
    axes.imshow(np.concatenate(rows), cmap="gray_r")
    axes.set_axis_off()
    return figure


if __name__ == "__main__":
    main()
