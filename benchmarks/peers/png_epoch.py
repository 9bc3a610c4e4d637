"""mnist-cnn out of PNG files: how much of an epoch the loop waits for its data, and what decoding costs."""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

import fourbeat as fb
from benchmarks.peers.fourbeat_loop import Fourbeat
from benchmarks.peers.scratch import scratch_folder
from fourbeat.data.mnist_digits import image_to_float


class PngEpoch(Fourbeat):
    """The loop of mnist-cnn with the Eigen convolutions of the recipe, over some of its images as files.

    Args:
      settings: with the job and `num_images`.
      workers: threads that read ahead.
    """

    def __init__(self, settings, *, workers):
        from PIL import Image

        super().__init__(settings, eigen=True)
        train = fb.data.mnist()[0][: settings["num_images"]].columns
        folder = scratch_folder(self)
        for number, (image, label) in enumerate(zip(train["image"], train["label"], strict=True)):
            (folder / str(label)).mkdir(exist_ok=True)
            Image.fromarray(np.asarray(image)[..., 0]).save(folder / str(label) / f"{number:05d}.png")
        self.batches = (
            fb.data.folder(folder)
            .map(image_to_float)
            .batches(self.job.batch_size, shuffle=True, seed=self.job.seed, remainder="drop", workers=workers)
        )

    def run(self, amount):
        """So many epochs; the share of the time spent waiting for data goes with them."""
        steps = amount * len(self.batches)
        start = int(self.state.step)
        loop = fb.loop(self.batches, start=start, until=fb.at(steps=start + steps))
        began, began_cpu_s = time.perf_counter(), time.process_time()
        for tick in loop:
            self.state, logs = self.step(self.state, tick.batch)
        float(logs["loss"])
        took_s = time.perf_counter() - began
        self.facts |= {
            "percent of the time waiting for data": 100 * loop.data_wait_s / took_s,
            "CPU seconds of an epoch": (time.process_time() - began_cpu_s) / amount,
        }
        return {"facts": self.facts}


class InMemory(PngEpoch):
    """The same steps over the same images, decoded beforehand and gathered on the host."""

    def __init__(self, settings):
        super().__init__(settings, workers=0)
        columns = fb.data.mnist()[0][: settings["num_images"]].columns
        self.batches = (
            fb.data.Arrays(**columns)
            .map(image_to_float)
            .batches(self.job.batch_size, shuffle=True, seed=self.job.seed, remainder="drop", resident=False)
        )


class Decoding(PngEpoch):
    """The same files decoded by two threads, and no step."""

    def __init__(self, settings):
        super().__init__(settings, workers=0)

    def run(self, amount):
        """So many epochs."""
        began_cpu_s = time.process_time()
        with ThreadPoolExecutor(2) as pool:
            for _ in pool.map(self.batches.read, range(amount * len(self.batches))):
                pass
        self.facts |= {"CPU seconds of an epoch": (time.process_time() - began_cpu_s) / amount}
        return {"facts": self.facts}

    def learn(self, amount):
        """One epoch of steps, so that there are scores; decoding learns nothing."""
        return super().run(amount)
