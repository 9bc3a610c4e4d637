"""A real notebook in one kernel: the widget, Ctrl-C with and without a stop signal, what is displayed."""

import asyncio
import re

import nbformat
import pytest
from nbclient import NotebookClient

WHOLE = "print(tick.step >= 30, tick.step == int(state.step), float(state.params['w'][0]))"
CELLS = {
    "setup": """
import numpy as np, optax
from flax import nnx
import fourbeat as fb

class Scale(nnx.Module):
    def __init__(self):
        self.w = nnx.Param(np.ones(3, np.float32))

def loss_fn(model, batch):
    return ((model.w * batch["x"] - 1) ** 2).mean(axis=-1)

metrics = fb.metrics.Collection(loss=fb.metrics.Mean("loss"))
beats = fb.four_beats(loss_fn, optax.sgd(0.01), metrics=metrics)
state, step = beats.init(Scale()), fb.compile(beats.train_step)
batches, log = fb.data.Arrays(x=np.ones((8, 1), np.float32)).batches(4), fb.every(steps=5)
""",
    "progress": """
bar = fb.progress(fb.loop(batches, until=fb.at(steps=20), marks=[log]))
for tick in bar:
    state, logs = step(state, tick.batch)
    if log in tick:
        bar.show(loss=logs["loss"])
""",
    "stop signal": """
ticks = fb.loop(batches, start=state.step, until=fb.stop_signal())
for tick in fb.progress(ticks):
    state, logs = step(state, tick.batch)
    if tick.step == 30:
        print("interrupt me")
print("ended", ticks.interrupted)
""",
    "after stop signal": WHOLE,
    "no stop signal": """
begin = int(state.step) + 10
for tick in fb.loop(batches, start=state.step, until=fb.at(epochs=10**9)):
    state, logs = step(state, tick.batch)
    if tick.step == begin:
        print("interrupt me")
""",
    "after no stop signal": WHOLE,
    "bare": "state",
    "display": "nnx.display(state)",
}  # fmt: skip


class Interrupting(NotebookClient):
    """Sends a real SIGINT to the kernel when a cell asks for it; counts the widget's updates."""

    num_updates = 0

    def process_message(self, msg, cell, cell_index):
        self.num_updates += msg["msg_type"] == "update_display_data"
        if msg["msg_type"] == "stream" and "interrupt me" in msg["content"]["text"]:
            self.interrupting = asyncio.create_task(self.km.interrupt_kernel())
        return super().process_message(msg, cell, cell_index)


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """The outputs of each cell by name, and how often the widgets were drawn anew."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in CELLS.values()])
    notebook.cells[list(CELLS).index("no stop signal")].metadata["tags"] = ["raises-exception"]
    folder = tmp_path_factory.mktemp("notebook")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IPYTHONDIR", str(folder))  # nothing of the user's
        client = Interrupting(notebook, timeout=300, startup_timeout=300)
        client.execute(cwd=str(folder))
    return dict(zip(CELLS, (cell.outputs for cell in notebook.cells), strict=True)), client.num_updates


def printed(outputs):
    return "".join(output.text for output in outputs if output.output_type == "stream")


def test_the_progress_is_one_output_that_stays_with_where_the_loop_ended(executed):
    outputs, num_updates = executed
    (widget,) = outputs["progress"]
    assert widget.output_type == "display_data"
    assert num_updates >= 1
    assert 'value="20" max="20"' in widget.data["text/html"]
    assert re.fullmatch(
        r"step 20/20   0:\d\d in all   .* steps/s   .* examples/s   loss 0\.0000",
        widget.data["text/plain"],
    )


def test_ctrl_c_under_a_stop_signal_ends_the_loop_and_keeps_the_state(executed):
    outputs, _ = executed
    assert printed(outputs["stop signal"]) == "interrupt me\nended True\n"
    assert printed(outputs["after stop signal"]) == "True True 1.0\n"


def test_ctrl_c_without_one_raises_and_keeps_the_state(executed):
    outputs, _ = executed
    assert [output.ename for output in outputs["no stop signal"] if output.output_type == "error"] == [
        "KeyboardInterrupt"
    ]
    assert printed(outputs["after no stop signal"]) == "True True 1.0\n"


def test_a_state_is_one_line_and_under_treescope_a_tree(executed):
    outputs, _ = executed
    (bare,) = outputs["bare"]
    assert re.fullmatch(
        r"TrainState\(step=\d+, 3 parameters in 1 arrays, with metrics\)", bare.data["text/plain"]
    )
    assert any("treescope" in output.data["text/html"] for output in outputs["display"])
