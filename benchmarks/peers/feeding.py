"""Small steps fed from the host, and a small model judged: by fourbeat, and by a loop written by hand.

The model is a softmax regression on batches of 32 x 784 floats, so that what is measured is mostly the
feeding.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import fourbeat as fb
from benchmarks.peers.cpu_time import in_cpu_time

BATCH_SIZE, NUM_FEATURES, NUM_CLASSES, NUM_FUSED = 32, 784, 10, 16
LEARNING_RATE = 0.01


def items(w, batch):
    """The loss of each example."""
    return optax.softmax_cross_entropy_with_integer_labels(batch["x"] @ w, batch["y"])


def train_step(w, batch):
    """A step of gradient descent."""
    columns = batch if isinstance(batch, dict) else batch.materialize()
    return w - LEARNING_RATE * jax.grad(lambda w: items(w, columns).mean())(w)


class Fed:
    """What both kinds of sides have: data, and CPU time as their seconds.

    Args:
      settings: with `num_batches`.
      way: the name of a method.
    """

    def __init__(self, settings, *, way):
        num = settings["num_batches"] * BATCH_SIZE
        random = np.random.RandomState(0)
        self.x = random.standard_normal((num, NUM_FEATURES)).astype(np.float32)
        self.y = random.randint(0, NUM_CLASSES, num).astype(np.int32)
        self.order = random.permutation(np.arange(num, dtype=np.int32)).reshape(-1, BATCH_SIZE)
        self.data = fb.data.Arrays(x=self.x, y=self.y)
        self.w = jnp.asarray(random.standard_normal((NUM_FEATURES, NUM_CLASSES)).astype(np.float32) / 100)
        self.way = getattr(self, way)

    @in_cpu_time
    def run(self, amount):
        """So many steps, or evaluations."""
        self.found = jax.block_until_ready(self.way(amount))


class Feeding(Fed):
    """Steps from the initial values on; each way ends with the same parameters."""

    def __init__(self, settings, *, way):
        super().__init__(settings, way=way)
        self.listed = [{"x": self.x[index], "y": self.y[index]} for index in self.order]
        self.step = jax.jit(train_step)
        self.block_step = fb.compile(lambda w, batch: (train_step(w, batch), {}), donate=False)
        self.scan = jax.jit(
            lambda w, batches: jax.lax.scan(lambda w, batch: (train_step(w, batch), None), w, batches)[0]
        )
        order = _InOrder(self.order)
        self.batches = self.data.batches(BATCH_SIZE, order=order, remainder="drop", resident=False)

    def made(self, amount):
        """A generator as one writes it: each batch is gathered when it is asked for."""
        for number in range(amount):
            index = self.order[number % len(self.order)]
            yield {"x": self.x[index], "y": self.y[index]}

    def scores(self):
        """How far the parameters are from those of the loop by hand."""
        found = self.way(20)
        return {"off": float(jnp.abs(found - self.by_hand(self.made(20))).max())}

    def by_hand(self, batches):
        """NumPy arrays straight into the compiled step."""
        w = self.w
        for batch in batches:
            w = self.step(w, batch)
        return w

    def looped(self, batches, amount):
        """`fb.loop`."""
        w = self.w
        for tick in fb.loop(batches, until=fb.at(steps=amount)):
            w = self.step(w, tick.batch)
        return w

    def gathered(self, amount):
        return self.looped(self.batches, amount)

    def gathered_by_hand(self, amount):
        return self.by_hand(self.made(amount))

    def generated(self, amount):
        return self.looped(self.made(amount), amount)

    def list_of_dicts(self, amount):
        return self.looped(self.listed, amount)

    def list_by_hand(self, amount):
        return self.by_hand(self.listed[number % len(self.listed)] for number in range(amount))

    def list_copied_by_hand(self, amount):
        listed = (self.listed[number % len(self.listed)] for number in range(amount))
        return self.by_hand({name: np.array(column) for name, column in batch.items()} for batch in listed)

    def blocks(self, amount):
        w = self.w
        for tick in fb.loop(self.made(amount), until=fb.at(steps=amount), steps_per_call=NUM_FUSED):
            w, _ = self.block_step(w, tick.batch)
        return w

    def blocks_by_hand(self, amount):
        w, held = self.w, []
        for number, batch in enumerate(self.made(amount), 1):
            held.append(batch)
            if len(held) == NUM_FUSED or number == amount:
                w, held = self.scan(w, {name: np.stack([each[name] for each in held]) for name in batch}), []
        return w


class _InOrder:
    """The order of the data that the loops by hand take too."""

    def __init__(self, order):
        self._order = order

    def of(self, num_examples, batch_size, *, shuffle, seed, remainder):
        return fb.data.order.Drawn(num_examples, batch_size, remainder, lambda epoch: self._order.reshape(-1))


class Judging(Fed):
    """Scores, or logits, of all batches, the last of them short."""

    def __init__(self, settings, *, way):
        super().__init__(settings, way=way)
        self.num = len(self.x) - BATCH_SIZE // 4
        self.x[self.num :] = 0
        beats = fb.four_beats(
            lambda model, batch: items(model["w"], batch),
            optax.sgd(LEARNING_RATE),
            predict=lambda model, batch: batch["x"] @ model["w"],
        )
        self.state, data = beats.init({"w": self.w}), self.data[: self.num]
        self.resident, self.host = data.batches(BATCH_SIZE), data.batches(BATCH_SIZE, resident=False)
        self.evaluate, self.predict = fb.evaluator(beats), fb.predictor(beats)
        self.index = np.arange(len(self.x), dtype=np.int32).reshape(-1, BATCH_SIZE)
        self.weight = (self.index < self.num).astype(np.float32)
        self.on_device = jnp.asarray(self.x), jnp.asarray(self.y)
        self.scan = jax.jit(self._scanned)
        self.count = jax.jit(_counted)
        self.forward = jax.jit(lambda w, x: x @ w)

    def _scanned(self, w, columns, index, weight):
        def one(sums, each):
            index, weight = each
            return _counted(w, sums, columns[0][index], columns[1][index], weight), None

        zero = jnp.float32(0)
        (loss, total), _ = jax.lax.scan(one, (zero, zero), (index, weight))
        return loss / total

    def scores(self):
        """How far the score is from that of NumPy, or the logits."""
        logits = self.x[: self.num].astype(np.float64) @ np.asarray(self.w, np.float64)
        found = np.asarray(self.way(1))
        if found.ndim:
            return {"off": float(np.abs(found - logits).max())}
        loss = np.log(np.exp(logits).sum(1)) - logits[np.arange(self.num), self.y[: self.num]]
        return {"off": float(abs(found - loss.mean()))}

    def scored_on_device(self, amount):
        return [self.evaluate(self.state, self.resident)["loss"] for _ in range(amount)][-1]

    def scored_on_device_by_hand(self, amount):
        scan = lambda: float(self.scan(self.w, self.on_device, self.index, self.weight))
        return [scan() for _ in range(amount)][-1]

    def scored_from_host(self, amount):
        return [self.evaluate(self.state, self.host)["loss"] for _ in range(amount)][-1]

    def scored_from_host_by_hand(self, amount):
        for _ in range(amount):
            sums = jnp.float32(0), jnp.float32(0)
            for index, weight in zip(self.index, self.weight, strict=True):
                sums = self.count(self.w, sums, self.x[index], self.y[index], weight)
            loss = float(sums[0] / sums[1])
        return loss

    def predicted(self, amount):
        return [self.predict(self.state, self.host) for _ in range(amount)][-1]

    def predicted_by_hand(self, amount):
        for _ in range(amount):
            parts = [self.forward(self.w, self.x[index]) for index in self.index]
            logits = np.concatenate([np.asarray(part) for part in parts])[: self.num]
        return logits


def _counted(w, sums, x, y, weight):
    loss = items(w, {"x": x, "y": y})
    return sums[0] + (loss * weight).sum(), sums[1] + weight.sum()
