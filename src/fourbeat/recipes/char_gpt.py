"""A small GPT on the text of Python's own standard library: the whole loop in one file, to copy and own."""

import dataclasses
import hashlib
import sysconfig
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh

import fourbeat as fb
from fourbeat import runs
from fourbeat.recipes.bad_files import say_left_out
from fourbeat.recipes.text.generating import generate, windows_of
from fourbeat.recipes.text.gpt import GPT
from fourbeat.recipes.text_files import none_left, texts_of
from fourbeat.recipes.trained import load

START, UNKNOWN = 0, 1  # what comes before a file's first character, and every character not listed below
CHARACTERS = "\t\n" + "".join(map(chr, range(32, 127)))  # printable ASCII: tokens from 2 on
NUM_TOKENS = 2 + len(CHARACTERS)
HELD_OUT_ONE_IN = 20  # files, by the hash of their names
EVALUATED_ONE_IN = 10  # of the held-out windows, while it learns; all of them at the end
NOT_READ = {"site-packages", "dist-packages", "test", "tests", "idle_test"}


@dataclasses.dataclass(frozen=True)
class CharGPT:
    """Trains a small GPT, character by character, on Python's own standard library: minutes on two cores."""

    out: Path | None = None
    """The run's own directory; by default runs/char-gpt/<time>."""
    steps: Annotated[int, runs.at_least(1, below=2**31)] = 4_000
    """Training steps."""
    batch_size: Annotated[int, runs.at_least(1)] = 8
    """Windows of text in a batch."""
    accumulate: Annotated[int, runs.at_least(1)] = 2
    """Microbatches that a batch is cut into: the same update, in the memory of one of them."""
    context: Annotated[int, runs.at_least(1)] = 128
    """Characters in a window: how far back the model sees."""
    layers: Annotated[int, runs.at_least(1)] = 4
    """Transformer blocks."""
    width: Annotated[int, runs.at_least(1)] = 128
    """Numbers that stand for a character inside the model."""
    heads: Annotated[int, runs.at_least(1)] = 4
    """Attention heads; they share the width."""
    learning_rate: Annotated[float, runs.at_least(0)] = 3e-3
    """The peak of the learning rate: a tenth of the steps warm up to it, then a cosine falls to a tenth."""
    weight_decay: Annotated[float, runs.at_least(0)] = 0.1
    """Weight decay of AdamW."""
    clip_norm: Annotated[float, runs.above(0)] = 1.0
    """Clip gradients to this global norm."""
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    """The dtype that the layers compute in; parameters, losses and normalisation are float32 in any case."""
    seed: Annotated[int, runs.at_least(0, below=2**32)] = 0
    """Seed of the initial values, the order of the data and the samples."""
    text: str | None = None
    """Learn the files below this folder instead of Python's own library."""
    pattern: str = "*.py"
    """The names of the files to learn."""
    from_: Annotated[str | None, runs.flag_name("from")] = None
    """Go on from the weights of this run of char-gpt; the shape of the model is that run's."""
    lora: Annotated[int, runs.at_least(1)] | None = None
    """Train adapters of this rank beside the weights of --from, and leave these as they are."""
    prompt: str = "def "
    """The text that the samples continue."""
    sample_length: Annotated[int, runs.at_least(1)] = 240
    """Characters to draw for a sample."""
    temperature: Annotated[float, runs.at_least(0)] = 0.8
    """Temperature of the samples: the lower it is, the surer the characters are; 0 takes the likeliest."""
    top_k: Annotated[int, runs.at_least(1)] | None = None
    """Draw from so many of the likeliest characters alone."""
    top_p: Annotated[float, runs.above(0, at_most=1)] | None = None
    """Draw from the likeliest characters alone, as many as have this probability together."""
    stop: str | None = None
    """End a sample before this text."""
    eval_every: Annotated[int, runs.at_least(1)] = 500
    """Evaluate and draw a sample every so many steps."""
    log_every: Annotated[int, runs.at_least(1)] = 50
    """Log the loss of the batch every so many steps."""
    log: tuple[str, ...] = ()
    """Log there too: tensorboard, wandb, mlflow, trackio, or module:name of a callable of your own."""
    save_every: Annotated[int, runs.at_least(1)] = 500
    """Save a checkpoint every so many steps."""
    resume: str | None = None
    """Go on with a run: its directory, "best", or "latest": that of --out or else the newest one."""
    max_seconds: Annotated[float, runs.above(0)] | None = None
    """Save and stop after so much time; --resume goes on."""

    @property
    def exact_on_resume(self) -> frozenset[str]:
        """Flags that may change on resume, because training does not depend on them."""
        drawing = {"prompt", "sample_length", "temperature", "top_k", "top_p", "stop"}
        return frozenset({*drawing, "log", "log_every", "save_every"})


def check(config: CharGPT) -> None:
    """Raises a ValueError where flags cannot be, or do not fit each other."""
    runs.check_flags(config)
    for parts, whole in (("heads", "width"), ("accumulate", "batch_size")):
        num_parts, size = getattr(config, parts), getattr(config, whole)
        if size % num_parts:
            flag = whole.replace("_", "-")
            raise ValueError(f"--{parts} is {num_parts}, and cannot share out a --{flag} of {size} evenly.")
    if config.lora and config.from_ is None:
        raise ValueError("--lora trains adapters beside the weights of a run. Name the run: --from RUN.")
    if UNKNOWN in encode(config.stop or ""):
        raise ValueError(
            f"--stop is {config.stop!r}, and a character of it is never drawn: no text ends there."
        )


def encode(text: str) -> np.ndarray:
    """A token for each character: uint8."""
    tokens = np.full(128, UNKNOWN, np.uint8)
    tokens[[ord(character) for character in CHARACTERS]] = np.arange(2, NUM_TOKENS)
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    return tokens[np.minimum(codes, 127)]  # 127 is no printable character either


def decode(tokens: np.ndarray) -> str:
    """The text of tokens; what is unknown becomes the replacement character."""
    return "".join(["", "\N{REPLACEMENT CHARACTER}", *CHARACTERS][token] for token in tokens)


def read_files(
    config: CharGPT,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, str]]:
    """The tokens of each file to learn, and of each file held out, by name, sorted; and what is left out.

    What is no text is left out: what is not UTF-8, or has a byte of 0.

    Raises:
      ValueError: there are no such files.
    """
    folder = Path(config.text or sysconfig.get_paths()["stdlib"])
    found = [path for path in folder.rglob(config.pattern) if path.is_file()]
    texts, left_out = texts_of(
        path for path in sorted(found) if not NOT_READ & set(path.relative_to(folder).parts)
    )
    files = {path.relative_to(folder).as_posix(): path for path, text in texts.items() if text}
    learnt, held_out = {}, {}
    for name in sorted(files):
        number = int.from_bytes(hashlib.sha256(name.encode()).digest())
        part = held_out if number % HELD_OUT_ONE_IN == 0 else learnt
        part[name] = encode(files[name].read_text(encoding="utf-8"))
    if not (learnt and held_out):
        raise ValueError(
            f"{folder} has {len(learnt)} files {config.pattern} to learn and {len(held_out)} to hold out (1 "
            f"in {HELD_OUT_ONE_IN}, by their names), and both are needed. Name a folder with more of them, "
            "--text FOLDER, or other names of files, --pattern NAMES. A Python whose standard library is a "
            f"zip file has none{none_left(left_out)}."
        )
    return learnt, held_out, left_out


def check_characters(files: dict[str, np.ndarray]) -> None:
    """Says how many characters are read as UNKNOWN, where that is one in a thousand or more.

    Raises:
      ValueError: it is more than half of them.
    """
    share = np.mean(np.concatenate(list(files.values())) == UNKNOWN)
    said = f"{share:.1%} of the characters are none of the {len(CHARACTERS)} that the model knows"
    if share > 0.5:
        raise ValueError(
            f"{said}: tab, newline and printable ASCII. A perplexity of such text would mean nothing. Give "
            "other text, or change CHARACTERS in a file of your own: fourbeat new char-gpt train.py."
        )
    if share >= 0.001:
        runs.say(f"{said}: each is read as the same unknown one, which is never drawn")


def make_windows(files: dict[str, np.ndarray], context: int) -> fb.data.Arrays:
    """Each file cut into windows: a window's token i + 1 is to be predicted from its tokens up to i.

    Every character is predicted once, the first of a file from START. The last window of a file is filled
    up with tokens of weight 0.

    Returns:
      Columns `text`, uint8 of shape (windows, context + 1), and `weight`, float32 (windows, context).
    """
    windows, weights = [], []
    for tokens in files.values():
        num_windows = -(-len(tokens) // context)
        padded = np.full(num_windows * context + 1, START, np.uint8)
        padded[1 : len(tokens) + 1] = tokens
        windows.append(np.lib.stride_tricks.sliding_window_view(padded, context + 1)[::context])
        weights.append((np.arange(num_windows * context) < len(tokens)).reshape(num_windows, context))
    return fb.data.Arrays(text=np.concatenate(windows), weight=np.concatenate(weights))


def make_batches(config: CharGPT) -> tuple[fb.data.Batches, fb.data.Batches, fb.data.Batches]:
    """Batches to train on, to evaluate on as it learns, and of all that is held out."""
    *files, left_out = read_files(config)
    check_characters(files[0] | files[1])
    say_left_out(left_out)
    learnt, held_out = (make_windows(each, config.context) for each in files)
    return (
        learnt.batches(config.batch_size, shuffle=True, seed=config.seed),
        held_out[::EVALUATED_ONE_IN].batches(config.batch_size),
        held_out.batches(config.batch_size),
    )


def loss_fn(model, batch):
    """Cross-entropy of each character; `batch["weight"]` has a weight for each of them."""
    text = batch["text"].astype(jnp.int32)
    logits = model(text[:, :-1])
    return optax.softmax_cross_entropy_with_integer_labels(logits, text[:, 1:])


def sample(config: CharGPT, model, batch):
    """Goes on with the texts that `prompted` made a batch of: tokens, (texts, sample_length)."""
    return generate(
        model,
        batch,
        num_tokens=config.sample_length,
        num_special=2,
        temperature=config.temperature,
        top_k=config.top_k,
        top_p=config.top_p,
        stop=encode(config.stop or ""),
    )


def prompted(config: CharGPT, texts: Sequence[str]) -> dict:
    """What `sample` continues: the end of each text, read as the beginning of a file."""
    seen = [np.append([START], encode(text)) for text in texts]
    return windows_of(seen, config.context, seed=config.seed)


def text_of(config: CharGPT, tokens) -> str:
    """What was drawn, up to the text that ends it."""
    text = decode(np.asarray(tokens))
    return text.partition(config.stop)[0] if config.stop else text


def make_metrics() -> fb.metrics.Collection:
    """What is measured."""
    return fb.metrics.Collection(loss=fb.metrics.Mean("loss"), perplexity=fb.metrics.Perplexity("loss"))


def make_beats(config: CharGPT) -> fb.Beats:
    """Forward, loss, gradient, update, as the flags ask for."""
    warmup = max(config.steps // 10, 1)
    peak, steps = config.learning_rate, max(config.steps, warmup + 1)
    schedule = optax.warmup_cosine_decay_schedule(0.0, peak, warmup, steps, end_value=peak / 10)
    return fb.four_beats(
        loss_fn,
        optax.chain(
            optax.clip_by_global_norm(config.clip_norm),
            optax.adamw(schedule, b2=0.99, weight_decay=config.weight_decay),
        ),
        metrics=make_metrics(),
        predict=partial(sample, config),
        wrt=nnx.LoRAParam if config.lora else None,
        accumulate=config.accumulate,
        precision=config.precision,
        schedule=schedule,  # for logs["learning_rate"]
    )


def make_state(config: CharGPT, beats: fb.Beats, mesh: Mesh | None = None) -> fb.TrainState:
    """The state that training begins with; without the weights of --from."""
    rngs = nnx.Rngs(config.seed)
    model = GPT(NUM_TOKENS, config.context, config.width, config.layers, config.heads, rngs=rngs)
    return start(config, beats, model, mesh)


def start(config: CharGPT, beats: fb.Beats, model: GPT, mesh: Mesh | None = None) -> fb.TrainState:
    """The state that training begins with, from a model."""
    if config.lora:
        model = fb.models.add_lora(model, config.lora, key=config.seed)
    return beats.init(model, key=config.seed, mesh=mesh)


def shaped(config: CharGPT) -> CharGPT:
    """The flags, with the model's shape of the run that --from names.

    Raises:
      ValueError: there is no such run, or a flag asks for another shape.
    """
    if config.from_ is None or (config.resume and not Path(config.from_).exists()):
        return config  # a run that goes on has its shape, and its weights, in its own directory
    run = runs.Run.read(config.from_)
    if run.record.recipe != "char-gpt":
        raise ValueError(
            f"--from {config.from_}: {run.name} is a run of {run.record.recipe}; give one of char-gpt."
        )
    shape = {name: run.record.flags[name] for name in ("context", "layers", "width", "heads")}
    for name, number in shape.items():
        if getattr(config, name) not in (number, getattr(CharGPT, name)):
            raise ValueError(
                f"--{name} is {getattr(config, name)}, and that of {run.name} is {number}: a model keeps "
                f"its shape. Leave --{name} out."
            )
    return dataclasses.replace(config, from_=run.name, **shape)


def tuned_from(config: CharGPT, beats: fb.Beats, mesh: Mesh | None = None) -> fb.TrainState:
    """The state that training begins with, from the best weights of the run that --from names."""
    trained = load(runs.Run.read(config.from_ or "").path, "best", mode="min")
    model = trained.state.model
    return start(config, beats, fb.models.merge_lora(model) if trained.config.lora else model, mesh)


def open_run(config: CharGPT) -> runs.RunDirectory:
    """The run's directory: a new one, or that of the run to go on with."""
    return runs.RunDirectory.open(
        "char-gpt",
        config,
        exact=config.exact_on_resume,
        command="fourbeat train char-gpt",
        score="eval_loss",
        mode="min",
    )


def train(config: CharGPT) -> fb.TrainState:
    """Trains, prints, writes the run directory; returns the final state."""
    config = shaped(config)
    check(config)
    train_batches, valid_batches, held_out_batches = make_batches(config)
    beats = make_beats(config)
    mesh = runs.training_mesh(config.batch_size, num_microbatches=config.accumulate)  # of all processes
    step, evaluate = fb.compile(beats.train_step, mesh=mesh), fb.evaluator(beats)
    draw, prompt = jax.jit(beats.predict_step), prompted(config, [config.prompt])
    log, save = fb.every(steps=config.log_every), fb.every(steps=config.save_every)
    look = fb.every(steps=config.eval_every) | fb.at(steps=config.steps)

    with open_run(config) as run:
        takes_weights = run.saved_step is None and config.from_ is not None
        state = run.restore((tuned_from if takes_weights else make_state)(config, beats, mesh))
        run.show_model(state)
        if takes_weights:
            before = evaluate(state, held_out_batches)
            run.log(0, {"before": before})
            runs.say(f"from {config.from_}", runs.in_words("held out", before))
        loop = run.loop(train_batches, start=state.step, marks=[log, look], save=save)
        for tick in (bar := fb.progress(loop)):
            state, logs = step(state, tick.batch)
            if log in tick:
                run.log(tick.step, {"batch": {"loss": logs["loss"]}})
            if look in tick:
                scores = evaluate(state, loop.interruptible(valid_batches))
                if not loop.unfinished:
                    seen, state = state.pop_metrics()
                    text = config.prompt + text_of(config, draw(state, prompt)[0])
                    run.log(tick.step, {"train": seen, "eval": scores, "sample": {"text": text}})
                    bar.show(train_loss=seen["loss"], eval_loss=scores["loss"])
                    runs.say_scores(tick.step, train=seen, eval=scores)
                    print(text, end="\n\n")
            run.save(tick, state)
        if run.is_complete:
            report(config, run, beats, state, held_out_batches)
    return state


def report(
    config: CharGPT,
    run: runs.RunDirectory,
    beats: fb.Beats,
    state: fb.TrainState,
    held_out_batches: fb.data.Batches,
) -> None:
    """Scores all held-out files; prints, plots, and marks the run as finished."""
    result = fb.evaluator(beats)(state, held_out_batches)
    before = next((line for line in run.history() if "before_loss" in line), None)
    if before is not None:
        runs.say(runs.in_words("held out before", {name: before[f"before_{name}"] for name in result}))
    last_step = int(state.step)
    run.log(last_step, {"test": result})
    run.figure(last_step, "curves", runs.figures.curves(run.history()))
    if config.lora:
        fb.models.save_lora(run.path / "adapters.safetensors", state.model)
    run.finish(result)
    runs.show_end(run, "evaluate", "predict", group="held out")
