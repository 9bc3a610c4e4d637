"""Evaluation of the test images by each side, with a short last batch, as its documentation writes it."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

import fourbeat as fb
from benchmarks.peers.fourbeat_loop import Fourbeat
from benchmarks.peers.nnx_loop import NnxJit, loss_fn


class Evaluated:
    """A trained model that is evaluated: `learn` trains, `run` evaluates so many times."""

    def learn(self, amount):
        """Trains on the real batches, and evaluates once, which compiles."""
        super().run(amount)
        self.found = self.evaluate()

    def run(self, amount):
        """Evaluates all test images so many times."""
        for _ in range(amount):
            self.found = self.evaluate()

    def scores(self):
        """What its evaluation says, and how far that is from the scores counted in NumPy."""
        exact = super().scores()
        off = max(abs(self.found[name] - exact[name]) for name in exact)
        return {**self.found, "off": off}


class FourbeatEvaluator(Evaluated, Fourbeat):
    """`fb.evaluator`: one program, the short last batch padded with weight 0."""

    def __init__(self, settings):
        super().__init__(settings)
        self.size = settings["eval_batch_size"]
        test = fb.data.mnist()[1][: len(self.job.test[0])]
        self.test_batches = test.batches(self.size)
        self.evaluator = fb.evaluator(self.beats)

    def evaluate(self):
        """As the README writes it."""
        return self.evaluator(self.state, self.test_batches)


class BareEvaluation(FourbeatEvaluator):
    """The executable of fourbeat's evaluation step on one batch that stays on the device: the limit."""

    def run(self, amount):
        """Calls it as often as there are batches; the scores stay those of a real evaluation."""
        state = dataclasses.replace(self.state, opt_state=None, metrics=None)
        batch = jax.tree.map(jnp.array, dict(self.test_batches[0].materialize()))
        totals = self.state.metrics.reset()
        if not hasattr(self, "executable"):
            step = jax.jit(self.beats.eval_step, donate_argnums=2)
            self.executable = step.lower(state, batch, totals).compile()
        for _ in range(amount * len(self.test_batches)):
            totals = self.executable(state, batch, totals)
        jax.block_until_ready(totals)


class NnxEvaluation(Evaluated, NnxJit):
    """The tutorial's `eval_step` over NumPy batches; the short last one is a second program."""

    def __init__(self, settings):
        super().__init__(settings)
        self.size = settings["eval_batch_size"]
        self.eval_metrics = nnx.MultiMetric(accuracy=nnx.metrics.Accuracy(), loss=nnx.metrics.Average("loss"))

        @nnx.jit
        def eval_step(model, metrics, batch):
            loss, logits = loss_fn(model, batch)
            metrics.update(loss=loss, logits=logits, labels=batch["label"])

        self.eval_step = eval_step

    def evaluate(self):
        """Its mean loss is one of batch means, as in the tutorial."""
        images, labels = self.job.test
        self.model.eval()
        for start in range(0, len(images), self.size):
            examples = slice(start, start + self.size)
            batch = {"image": jnp.array(images[examples]), "label": jnp.array(labels[examples])}
            self.eval_step(self.model, self.eval_metrics, batch)
        found = {name: float(value) for name, value in self.eval_metrics.compute().items()}
        self.eval_metrics.reset()
        self.model.train()
        return found


def keras_evaluation(settings):
    """`model.evaluate`."""
    from benchmarks.peers.keras_fit import KerasFit

    class KerasEvaluation(Evaluated, KerasFit):
        def evaluate(self):
            size = settings["eval_batch_size"]
            loss, accuracy = self.model.evaluate(*self.job.test, batch_size=size, verbose=0)
            return {"loss": loss, "accuracy": accuracy}

    return KerasEvaluation(settings)


def torch_evaluation(settings):
    """The quickstart's `test` over a `DataLoader`, without gradients."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    from benchmarks.peers.torch_loop import Torch
    from benchmarks.peers.torch_models import tensors

    class TorchEvaluation(Evaluated, Torch):
        def evaluate(self):
            data = TensorDataset(*tensors(self.job, *self.job.test))
            loss, correct = 0.0, 0.0
            self.model.eval()
            with torch.no_grad():
                for x, y in DataLoader(data, batch_size=settings["eval_batch_size"]):
                    pred = self.model(x)
                    loss += self.loss_fn(pred, y).item() * len(x)
                    correct += (pred.argmax(1) == y).type(torch.float).sum().item()
            return {"loss": loss / len(data), "accuracy": correct / len(data)}

    return TorchEvaluation(settings)
