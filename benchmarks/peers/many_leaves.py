"""Many small vectors drawn to a target by SGD with momentum: sides of any number of leaves."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.works.growth import LEARNING_RATE, MOMENTUM

SIZE = 8


def transformation():
    """SGD with momentum: as many leaves again as parameters."""
    return optax.sgd(LEARNING_RATE, momentum=MOMENTUM)


def distance(params, target):
    """The summed squared distance, half of it."""
    return sum(0.5 * ((param - target) ** 2).sum() for param in jax.tree.leaves(params))


class Raw:
    """`jax.jit` over a dict, donated.

    Args:
      settings: of the work.
      num_leaves: of the state.
      norm: whether a step gives the gradient's norm and a weight beside the loss.
    """

    def __init__(self, settings, *, num_leaves, norm=False):
        tx = transformation()
        params = {f"p{i:04}": jnp.zeros(SIZE) for i in range(num_leaves // 2)}
        params = jax.tree.map(jnp.copy, params)
        self.carry = params, tx.init(params)
        self.target = jnp.ones(SIZE)
        self.facts = {"leaves": num_leaves}

        def step(params, opt_state, target):
            loss, grads = jax.value_and_grad(distance)(params, target)
            updates, opt_state = tx.update(grads, opt_state, params)
            seen = (loss, optax.tree.norm(grads), jnp.float32(1)) if norm else loss
            return optax.apply_updates(params, updates), opt_state, seen

        self.step = jax.jit(step, donate_argnums=(0, 1))

    def run(self, amount):
        """So many steps more."""
        carry, step, target = self.carry, self.step, self.target
        for _ in range(amount):
            *carry, _ = step(*carry, target)
        self.carry = jax.block_until_ready(carry)

    def scores(self):
        """The mean squared distance to the target."""
        return squared_distance(self.carry[0])


class Fourbeat:
    """fourbeat's compiled step over the same dict.

    Args:
      settings: of the work.
      num_leaves: of the state.
      options: of `four_beats`.
    """

    def __init__(self, settings, *, num_leaves, **options):
        import fourbeat as fb

        beats = fb.four_beats(
            lambda params, batch: distance(params, batch["target"]), transformation(), **options
        )
        self.state = beats.init({f"p{i:04}": jnp.zeros(SIZE) for i in range(num_leaves // 2)})
        self.step = fb.compile(beats.train_step)
        self.batch = {"target": jnp.ones(SIZE)}
        self.facts = {"leaves": num_leaves}

    def run(self, amount):
        """So many steps more."""
        state, step, batch = self.state, self.step, self.batch
        for _ in range(amount):
            state, _ = step(state, batch)
        self.state = jax.block_until_ready(state)

    def scores(self):
        """The mean squared distance to the target."""
        return squared_distance(self.state.params)


class Nnx:
    """`nnx.jit` over a module of as many `nnx.Param`."""

    def __init__(self, settings, *, num_leaves):
        from flax import nnx

        class Module(nnx.Module):
            def __init__(self):
                self.params = nnx.List([nnx.Param(jnp.zeros(SIZE)) for _ in range(num_leaves // 2)])

        self.model = Module()
        self.optimizer = nnx.Optimizer(self.model, transformation(), wrt=nnx.Param)
        self.target = jnp.ones(SIZE)
        self.facts = {"leaves": num_leaves}
        self.leaves = lambda: [param[...] for param in self.model.params]

        @nnx.jit
        def step(model, optimizer, target):
            def loss_fn(model):
                return sum(0.5 * ((param[...] - target) ** 2).sum() for param in model.params)

            loss, grads = nnx.value_and_grad(loss_fn)(model)
            optimizer.update(model, grads)
            return loss

        self.step = step

    def run(self, amount):
        """So many steps more."""
        for _ in range(amount):
            loss = self.step(self.model, self.optimizer, self.target)
        jax.block_until_ready((loss, self.leaves()))

    def scores(self):
        """The mean squared distance to the target."""
        return squared_distance(self.leaves())


class Equinox:
    """`eqx.filter_jit` over a module with a list of arrays."""

    def __init__(self, settings, *, num_leaves):
        import equinox as eqx

        class Module(eqx.Module):
            params: list

        tx = transformation()
        self.model = Module([jnp.zeros(SIZE) for _ in range(num_leaves // 2)])
        self.opt_state = tx.init(eqx.filter(self.model, eqx.is_array))
        self.target = jnp.ones(SIZE)
        self.facts = {"leaves": num_leaves}

        @eqx.filter_jit
        def step(model, opt_state, target):
            loss, grads = eqx.filter_value_and_grad(distance)(model, target)
            updates, opt_state = tx.update(grads, opt_state, eqx.filter(model, eqx.is_array))
            return eqx.apply_updates(model, updates), opt_state, loss

        self.step = step

    def run(self, amount):
        """So many steps more."""
        model, opt_state = self.model, self.opt_state
        for _ in range(amount):
            model, opt_state, _ = self.step(model, opt_state, self.target)
        self.model, self.opt_state = jax.block_until_ready((model, opt_state))

    def scores(self):
        """The mean squared distance to the target."""
        return squared_distance(self.model)


def squared_distance(params):
    """In NumPy: how far the parameters still are from their target of ones."""
    return {"loss": float(np.mean([(np.asarray(leaf) - 1) ** 2 for leaf in jax.tree.leaves(params)]))}
