"""PyTorch on the card: eager, `torch.compile`, and the whole step captured in a CUDA graph.

https://docs.pytorch.org/docs/stable/notes/cuda.html#whole-network-capture
"""

import contextlib
import time

import torch
from torch import nn

from benchmarks.jobs import EPSILON, WEIGHT_DECAY, from_settings
from benchmarks.peers.torch_models import make_model, tensors


class Eager:
    """The training loop of the quickstart over data that lies on the card."""

    capturable = False

    def __init__(self, settings):
        self.device = "cuda" if torch.cuda.is_available() else "cpu"

    def learn(self, told):
        """Makes the model, runs its first step, trains, and scores it."""
        self.job = job = from_settings(told, batch_size=told["batch_size"])
        tf32 = told["precision"] == "tensorfloat32"
        torch.set_float32_matmul_precision("high" if tf32 else "highest")
        torch.backends.cudnn.allow_tf32 = tf32
        self.half = told["precision"] == "bfloat16"
        self.model = make_model(job).to(self.device)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(),
            lr=job.learning_rate,
            eps=EPSILON,
            weight_decay=WEIGHT_DECAY,
            **({"capturable": True} if self.capturable else {}),
        )
        self.loss_fn = nn.CrossEntropyLoss()
        self.inputs, self.labels = (part.to(self.device) for part in tensors(job, *job.train))
        self.num_steps = 0
        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        began = time.perf_counter()
        self.step = self.prepared()
        self.run({"steps": 1})
        first_s = time.perf_counter() - began
        self.run({"steps": told["steps"] - 1})
        peak = torch.cuda.max_memory_allocated() if self.device == "cuda" else 0
        scores = job.scores(self.logits)
        return {"first_s": first_s, "scores": scores, "facts": {}, "card_memory_bytes": peak}

    def run(self, told):
        """So many steps more, in the order of the job; the data is on the card before the clock starts."""
        steps = range(self.num_steps, self.num_steps + told["steps"])
        self.num_steps += told["steps"]
        examples = [torch.from_numpy(self.job.examples(step)).to(self.device) for step in steps]
        self.finish()
        began = time.perf_counter()
        for chosen in examples:
            self.step(self.inputs[chosen], self.labels[chosen])
        self.finish()
        return {"seconds": time.perf_counter() - began}

    def prepared(self):
        """What is called with inputs and labels."""
        return self.train_step

    def train_step(self, x, y):
        """Forward, backward, update."""
        with self.autocast():
            loss = self.loss_fn(self.model(x), y)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def autocast(self):
        """The documented way to bfloat16."""
        if not self.half:
            return contextlib.nullcontext()
        return torch.autocast(self.device, dtype=torch.bfloat16)

    def finish(self):
        """Waits for the card."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    def logits(self, inputs):
        """Without gradients, in float32."""
        with torch.no_grad():
            return self.model(tensors(self.job, inputs).to(self.device)).cpu().numpy()


class Compiled(Eager):
    """The same with the model through `torch.compile`."""

    def prepared(self):
        """A step that calls the compiled model."""
        torch.compiler.reset()
        model = torch.compile(self.model)

        def step(x, y):
            with self.autocast():
                loss = self.loss_fn(model(x), y)
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad()

        return step


class Graphs(Eager):
    """The whole step in one CUDA graph that is replayed."""

    capturable = True

    def __init__(self, settings):
        super().__init__(settings)
        if self.device != "cuda":
            raise ModuleNotFoundError("CUDA graphs need a GPU")

    def prepared(self):
        """Warms up in a side stream, captures, and replays over inputs that stay where they are."""
        shape = (self.job.batch_size, *self.inputs.shape[1:])
        x = self.inputs[: shape[0]].clone()
        y = self.labels[: shape[0]].clone()
        weights = {name: value.clone() for name, value in self.model.state_dict().items()}
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self.optimizer.zero_grad(set_to_none=True)
                with self.autocast():
                    loss = self.loss_fn(self.model(x), y)
                loss.backward()
                self.optimizer.step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.cuda.graph(graph):
            with self.autocast():
                loss = self.loss_fn(self.model(x), y)
            loss.backward()
            self.optimizer.step()
        with torch.no_grad():  # what the warm-up has learnt is undone, in place
            self.model.load_state_dict(weights)
            for state in self.optimizer.state.values():
                for value in state.values():
                    value.zero_()

        def step(inputs, labels):
            x.copy_(inputs)
            y.copy_(labels)
            graph.replay()

        self.graph = graph
        return step
