"""fourbeat's recipe of a small GPT, trained with accumulation on a few modules of the standard library."""

import sysconfig
from pathlib import Path

import jax

import fourbeat as fb
from fourbeat.recipes import char_gpt

LEARNT, HELD_OUT = ("argparse.py", "inspect.py", "typing.py"), ("dataclasses.py",)


def windows(names, context):
    """The texts of these modules in windows."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    files = {name: char_gpt.encode((folder / name).read_text(encoding="utf-8")) for name in names}
    return char_gpt.make_windows(files, context)


class FourbeatGPT:
    """The recipe's step over shuffled windows.

    Args:
      settings: with `gpt`, flags of the recipe.
      accumulate: microbatches of a step.
    """

    def __init__(self, settings, *, accumulate=1):
        config = char_gpt.CharGPT(**settings["gpt"], accumulate=accumulate)
        data = windows(LEARNT, config.context)
        self.batches = data.batches(config.batch_size, shuffle=True, seed=0, remainder="drop")
        self.held_out = windows(HELD_OUT, config.context)[:128].batches(config.batch_size)
        beats = char_gpt.make_beats(config)
        self.state = char_gpt.make_state(config, beats)
        self.step, self.evaluate = fb.compile(beats.train_step), fb.evaluator(beats)

    def run(self, amount):
        """Goes on from `state.step`."""
        state, step = self.state, self.step
        until = fb.at(steps=int(state.step) + amount)
        for tick in fb.loop(self.batches, start=state.step, until=until):
            state, _ = step(state, tick.batch)
        self.state = jax.block_until_ready(state)

    def scores(self):
        """Loss of the held-out module."""
        return {"loss": self.evaluate(self.state, self.held_out)["loss"]}
