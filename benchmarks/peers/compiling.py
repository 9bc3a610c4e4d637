"""A new training step, traced and compiled again and again: by hand and by fourbeat, doing the same."""

import time

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from benchmarks.peers.nnx_models import CNN
from fourbeat.recipes import char_gpt

DECAY = 0.999
TX = optax.adamw(1e-3)


def cross_entropy(model, batch):
    """One value an image."""
    return optax.softmax_cross_entropy_with_integer_labels(model(batch["image"]), batch["label"])


def cnn(dtype=None, batch_size=32):
    """mnist-cnn: how it is made, its loss, and what stands for a batch."""
    image = jax.ShapeDtypeStruct((batch_size, 28, 28, 1), jnp.float32)
    batch = {"image": image, "label": jax.ShapeDtypeStruct((batch_size,), jnp.int32)}
    return lambda: CNN(rngs=nnx.Rngs(0), dtype=dtype), cross_entropy, batch


def gpt(num_layers=12, batch_size=8, context=64):
    """A GPT of so many layers."""
    batch = {"text": jax.ShapeDtypeStruct((batch_size, context + 1), jnp.uint8)}
    return (
        lambda: char_gpt.GPT(char_gpt.NUM_TOKENS, context, 64, num_layers, 2, rngs=nnx.Rngs(0)),
        char_gpt.loss_fn,
        batch,
    )


MODELS = {"cnn": cnn, "gpt": gpt}


class Compiling:
    """What the sides share.

    Args:
      settings: unused.
      model: "cnn" or "gpt".
      sizes: of the model and its batch.
    """

    def __init__(self, settings, *, model="cnn", sizes=None, **options):
        self.make, self.loss_fn, self.batch = MODELS[model](**(sizes or {}))
        self.options, self.facts = options, {}
        self.step, self.arguments = self.stepping()

    def stepping(self):
        """The step, and what stands for its arguments."""
        raise NotImplementedError

    def run(self, amount):
        """So many programs, each new to JAX. The time is that of the cores: compilation has threads."""
        jax.config.update("jax_enable_compilation_cache", False)
        began = time.process_time()
        for _ in range(amount):
            fresh = jax.jit(lambda *args: self.step(*args), donate_argnums=range(len(self.arguments) - 1))
            lowered = fresh.lower(*self.arguments)
            self.compiled = lowered.compile()
        took = time.process_time() - began
        self.facts = {"operations": float(self.compiled.as_text().count(" = "))}
        return {"seconds": took}

    def scores(self):
        """Nothing is trained."""
        return {"loss": 0.0}


class ByHand(Compiling):
    """JAX, Flax and Optax alone.

    Args, beside those of `Compiling`:
      norm: whether the step gives the norm of the gradients.
      guard: whether a step with a bad loss, gradient or update changes nothing and is counted.
      ema: whether an average of the parameters is kept.
      accumulate: microbatches of a step.
    """

    def stepping(self):
        """A step on `(params, others, optimizer state, what is kept beside, batch)`."""
        static, params, others = nnx.split(self.make(), nnx.Param, ...)
        kept = {"ema": params} if self.options.get("ema") else {}
        kept |= dict.fromkeys(("num_updates", "num_skipped"), jnp.int32(0))
        self.static = static
        return self.one_step, (params, others, jax.eval_shape(TX.init, params), kept, self.batch)

    def gradients(self, params, others, batch):
        """Loss, the model's other variables and gradients."""

        def loss(params):
            model = nnx.merge(self.static, params, others)
            model.train()
            return self.loss_fn(model, batch).mean(), nnx.split(model, nnx.Param, ...)[2]

        (value, others), grads = jax.value_and_grad(loss, has_aux=True)(params)
        return value, others, grads

    def accumulated(self, params, others, batch, num):
        """The same of microbatches, one after the other: XLA on CPU is slow at convolutions in a loop."""
        parts = jax.tree.map(lambda column: column.reshape(num, -1, *column.shape[1:]), batch)
        value, grads = 0.0, jax.tree.map(jnp.zeros_like, params)
        for i in range(num):
            part = jax.tree.map(lambda column, i=i: column[i], parts)
            more, others, found = self.gradients(params, others, part)
            value, grads = value + more / num, jax.tree.map(lambda a, b: a + b / num, grads, found)
        return value, others, grads

    def one_step(self, params, others, opt_state, kept, batch):
        """The new state, and the logs."""
        num = self.options.get("accumulate", 1)
        found = (
            self.gradients(params, others, batch)
            if num == 1
            else self.accumulated(params, others, batch, num)
        )
        loss, new_others, grads = found
        updates, new_opt_state = TX.update(grads, opt_state, params)
        new_params = optax.apply_updates(params, updates)
        new_kept, logs = dict(kept), {"loss": loss}
        if self.options.get("norm"):
            logs["grad_norm"] = optax.tree.norm(grads)
        if self.options.get("ema"):
            decay = jnp.minimum(DECAY, (1 + kept["num_updates"]) / (10 + kept["num_updates"]))
            move = lambda average, param: decay * average + (1 - decay) * param
            new_kept["ema"] = jax.tree.map(move, kept["ema"], new_params)
        new_kept["num_updates"] = kept["num_updates"] + 1
        new = (new_params, new_others, new_opt_state, new_kept)
        if self.options.get("guard"):
            logs["update_norm"] = optax.tree.norm(updates)
            good = jnp.isfinite(jnp.stack(list(logs.values()))).all()
            logs["finite"] = good
            old = (params, others, opt_state, kept | {"num_skipped": kept["num_skipped"] + 1})
            new = jax.lax.cond(good, lambda new, old: new, lambda new, old: old, new, old)
        return *new, logs


class Fourbeat(Compiling):
    """`beats.train_step`.

    Args, beside those of `Compiling`:
      guard: whether bad steps are skipped.
      others: options of `four_beats`.
    """

    def stepping(self):
        """The step on `(state, batch)`."""
        import fourbeat as fb

        options = dict(self.options)
        if options.pop("guard", False):
            options["guard"] = fb.guard.skip()
        beats = fb.four_beats(self.loss_fn, TX, **options)
        return beats.train_step, (jax.eval_shape(lambda: beats.init(self.make())), self.batch)
