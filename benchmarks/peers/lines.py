"""A line fitted by gradient descent: fused by hand, by fourbeat, and step by step."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

import fourbeat as fb
from benchmarks.peers.cpu_time import in_cpu_time

LEARNING_RATE, NUM_POINTS = 0.01, 128


def points():
    """128 noisy points about a line, float32."""
    random = np.random.RandomState(0)
    x = random.uniform(-2, 2, NUM_POINTS).astype(np.float32)
    return x, (2 * x - 1 + 0.5 * random.standard_normal(NUM_POINTS)).astype(np.float32)


def squared_error(params, batch):
    """Of each point."""
    return (params["weight"] * batch["x"] + params["bias"] - batch["y"]) ** 2


class Line:
    """What the sides have in common: the points, and how far a line is from the best one."""

    line: dict

    def __init__(self, settings):
        self.num_steps = settings["num_steps"]
        self.x, self.y = points()

    def start(self):
        """The line that every fit starts from."""
        return {"weight": jnp.zeros(()), "bias": jnp.zeros(())}

    def scores(self):
        """The largest distance of weight and bias from the least-squares line of NumPy."""
        best = np.polyfit(self.x.astype(np.float64), self.y.astype(np.float64), 1)
        return {"error": float(np.abs(best - [self.line["weight"], self.line["bias"]]).max())}


class Scan(Line):
    """`jax.jit` of one `lax.scan` over the steps.

    Args:
      settings: with the number of steps.
      logs: whether to give the last step's loss and gradient norm too, as fourbeat's step does.
    """

    def __init__(self, settings, *, logs=False):
        super().__init__(settings)
        tx, batch = optax.sgd(LEARNING_RATE), {"x": jnp.array(self.x), "y": jnp.array(self.y)}

        def step(carry, _):
            params, opt_state, _ = carry
            loss, grads = jax.value_and_grad(lambda p: squared_error(p, batch).mean())(params)
            updates, opt_state = tx.update(grads, opt_state, params)
            seen = (loss, optax.tree.norm(grads)) if logs else ()
            return (optax.apply_updates(params, updates), opt_state, seen), None

        def fit(params):
            start = (params, tx.init(params), (jnp.zeros(()), jnp.zeros(())) if logs else ())
            params, _, seen = lax.scan(step, start, length=self.num_steps)[0]
            return params, seen

        self.fit = jax.jit(fit)

    @in_cpu_time
    def run(self, amount):
        """So many fits from the start."""
        for _ in range(amount):
            self.line, _ = jax.block_until_ready(self.fit(self.start()))


class Jit(Line):
    """`jax.jit` of a step, called in a loop."""

    def __init__(self, settings):
        super().__init__(settings)
        self.tx = optax.sgd(LEARNING_RATE)
        self.batch = {"x": jnp.array(self.x), "y": jnp.array(self.y)}

        def step(params, opt_state, batch):
            grads = jax.grad(lambda p: squared_error(p, batch).mean())(params)
            updates, opt_state = self.tx.update(grads, opt_state, params)
            return optax.apply_updates(params, updates), opt_state

        self.step = jax.jit(step, donate_argnums=(0, 1))

    @in_cpu_time
    def run(self, amount):
        """So many fits from the start."""
        for _ in range(amount):
            params = self.start()
            opt_state = self.tx.init(params)
            for _ in range(self.num_steps):
                params, opt_state = self.step(params, opt_state, self.batch)
            self.line = jax.block_until_ready(params)


class Fourbeat(Line):
    """fourbeat's loop over batches of all points.

    Args:
      settings: with the number of steps.
      steps_per_call: how many steps a compiled call runs.
      options: of `four_beats`.
    """

    def __init__(self, settings, *, steps_per_call=1, **options):
        super().__init__(settings)
        self.beats = fb.four_beats(squared_error, optax.sgd(LEARNING_RATE), **options)
        self.step = fb.compile(self.beats.train_step)
        self.batches = fb.data.Arrays(x=self.x, y=self.y).batches(NUM_POINTS)
        self.steps_per_call = steps_per_call
        self.state = self.beats.init(self.start())

    @in_cpu_time
    def run(self, amount):
        """So many fits, each from a copy of the first state."""
        for _ in range(amount):
            state = self.state.replace()  # a copy: the step takes what it is given
            until = fb.at(steps=self.num_steps)
            for tick in fb.loop(self.batches, until=until, steps_per_call=self.steps_per_call):
                state, _ = self.step(state, tick.batch)
            self.line = jax.block_until_ready(state).params


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Same:
    """One batch for every step of a block."""

    batch: dict

    def take(self, index):
        """The batch, whatever the index."""
        return self.batch


class FourbeatBlock(Fourbeat):
    """fourbeat's step given one block by hand: every step of it reads the same batch."""

    @in_cpu_time
    def run(self, amount):
        """So many fits, each from a copy of the first state."""
        batch = {"x": jnp.array(self.x), "y": jnp.array(self.y)}
        block = fb.Block(Same(batch), np.asarray(self.num_steps, np.int32))
        for _ in range(amount):
            state, _ = self.step(self.state.replace(), block)
            self.line = jax.block_until_ready(state).params
