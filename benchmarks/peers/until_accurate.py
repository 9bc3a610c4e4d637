"""Training until a test accuracy is reached: the clock runs while a side trains, not while it is scored."""

import time

from benchmarks.worker import load


class UntilAccurate:
    """Trains a fresh model in each round.

    Args:
      settings: with the job, `target`, `every` (steps between evaluations) and `most_steps`.
      factory: of the side, "module:name"; `options` of it.
      job: changes to the job.
      evaluations: changes to `every` and `most_steps`.
    """

    def __init__(self, settings, *, factory, options=None, job=None, evaluations=None):
        settings = {**settings, **(evaluations or {}), "job": {**settings["job"], **(job or {})}}
        self.settings = settings
        self.make = lambda: load(factory)(settings, **(options or {}))
        self.side, self.seconds = self.make(), 0.0

    def learn(self, amount):
        """So many steps of a model that is then thrown away."""
        self.side.run(amount)

    def scores(self):
        """Of the model as it is."""
        return self.side.scores()

    def run(self, amount):
        """Trains from the start until the target is reached; compiling, in the first step, is apart."""
        told = self.settings
        seconds, num_steps = 0.0, 0
        for _ in range(amount):
            self.side = self.make()
            self.side.run(1)
            num_steps = 1
            while True:
                steps = told["every"] - num_steps % told["every"]
                began = time.perf_counter()
                answer = self.side.run(steps)
                seconds += (answer or {}).get("seconds", time.perf_counter() - began)
                num_steps += steps
                accuracy = self.side.scores()["accuracy"]
                if accuracy >= told["target"]:
                    break
                if num_steps >= told["most_steps"]:
                    raise RuntimeError(f"{accuracy:.4f} after {num_steps} steps is below {told['target']}")
        return {"seconds": seconds, "facts": {"steps": num_steps}}
