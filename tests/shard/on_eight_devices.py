"""A program on eight devices of a CPU: trains kinds over meshes, and prints what tests look at, as JSON."""

import contextlib
import dataclasses
import gc
import json
import math
import re
import tempfile
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import NamedSharding

import fourbeat as fb
from fourbeat.compiling.compilation_monitor import CompilationMonitor
from fourbeat.shard.creating import creation
from tests.docs.blocks import ROOT, run_page
from tests.kinds import KINDS
from tests.oracles.metrics_by_others import ROWS, WAYS_TO_KEEP, examples

cross_entropy = optax.softmax_cross_entropy_with_integer_labels
MESHES = {
    "no mesh": lambda: None,
    "data=4": lambda: fb.mesh(data=4, devices=jax.devices()[:4]),
    "data=2, fsdp=4": lambda: fb.mesh(data=2, fsdp=4),
}
NUM_STEPS = 6


def batches_of(kind):
    """Six batches of 16 rows, some of weight 0; in the third, a number on one device is not finite."""
    batches = []
    for seed in range(NUM_STEPS):
        weight = np.random.RandomState(seed).uniform(0, 2, 16).astype(np.float32)
        weight[10:] = 0
        batches.append({**kind.batch(seed, 16), "weight": weight})
    if np.issubdtype(batches[2]["x"].dtype, np.floating):
        batches[2]["x"][9, 1] = np.nan
    return batches


def as_microbatches_of(num_shares, num_microbatches, batch):
    """The batch in the order in which one device gets the microbatches that a mesh makes of it."""
    order = np.arange(16).reshape(num_shares, num_microbatches, -1).swapaxes(0, 1).reshape(-1)
    return {name: column[order] for name, column in batch.items()}


def rules_of(mesh):
    return fb.shard.fsdp(min_size=1) if "fsdp" in mesh.shape else fb.shard.replicated()


def beats_of(kind, make_tx=optax.adamw, **options):
    schedule = optax.linear_schedule(0.01, 0.1, 5)

    def loss_fn(model, batch):
        losses, logits = kind.items(model, batch)
        return (losses if losses.ndim == 1 else losses.mean(1)), {"logits": logits}

    return fb.four_beats(
        loss_fn,
        make_tx(schedule),
        guard=fb.guard.skip(),
        ema=0.9,
        metrics=fb.metrics.Mean("loss"),
        schedule=schedule,
        predict=lambda model, batch: kind.items(model, batch)[1],
        **options,
    )


def trained(name, mesh_name, accumulate=1, steps_per_call=1, in_the_order_of_shares=1, is_judged=False):
    """One run over a mesh, and what is to be the same on every mesh."""
    kind, mesh = KINDS[name], MESHES[mesh_name]()
    # Adam would scale up a gradient that is 0 but for rounding, as that of a bias before batch statistics
    make_tx = optax.adamw if name == "dict" else lambda rate: optax.sgd(rate, momentum=0.9)
    beats = beats_of(kind, make_tx, accumulate=accumulate)
    placing = {} if mesh is None else {"mesh": mesh, "shard": rules_of(mesh)}
    state = beats.init(lambda: kind.make(0), **placing)
    places = places_of(state)
    step = fb.compile(beats.train_step, mesh=mesh)
    losses, rates, scores, live = [], [], [], []
    with CompilationMonitor() as underway:
        batches = [as_microbatches_of(in_the_order_of_shares, accumulate, each) for each in batches_of(kind)]
        for tick in fb.loop(batches, until=fb.at(steps=NUM_STEPS), steps_per_call=steps_per_call):
            state, logs = step(state, tick.batch)
            losses.append(float(logs["loss"]))
            rates.append(float(logs["learning_rate"]))
            if tick.step == 4:
                epoch, state = state.pop_metrics()
                scores.append(epoch["value"])
            if tick.step > 4:
                gc.collect()
                live.append(len(jax.live_arrays()))
        compilations = [step.num_compilations, [each for each, _ in underway.ended].count("train_step")]
    scores.append(state.pop_metrics()[0]["value"])
    judged = None
    if is_judged:
        seen = [kind.batch(seed, size) for seed, size in ((7, 16), (8, 16), (9, 5))]
        evaluate = fb.evaluator(beats)
        with CompilationMonitor() as underway:
            judged = {"score": evaluate(state, seen)["value"]}
            judged["compilations"] = [each for each, _ in underway.ended].count("eval_step")
        judged["predicted"] = listed(fb.predictor(beats)(state, seen))
    return {
        "judged": judged,
        "values": [listed(leaf) for leaf in jax.tree.leaves((state.params, state.opt_state, state.ema))],
        "losses": losses,
        "rates": rates,
        "scores": scores,
        "guard": [int(n) for n in (state.guard.num_bad, state.guard.step, state.num_updates)],
        "examples": state.guard.examples.tolist(),
        "devices": len(logs["loss"].sharding.device_set),
        "compilations": compilations,
        "stays": mesh is None or places == places_of(state),
        "live": live,
    }


def places_of(state):
    return [leaf.sharding for leaf in jax.tree.leaves(state)]


def listed(array):
    return np.asarray(array, np.float64).ravel().tolist()


def created():
    """A state that is made over eight devices, beside one that is made by hand on one."""

    class Wide(nnx.Module):
        def __init__(self, rngs):
            # in one program XLA joins a product of constants, and a product and a sum
            bias_init = lambda key, shape, dtype=None, *_, **__: 0.1 * jax.random.normal(key, shape) + 1.0
            kernel_init = nnx.initializers.normal(0.02)
            self.up = nnx.Linear(512, 1024, kernel_init=kernel_init, bias_init=bias_init, rngs=rngs)
            self.norm = nnx.BatchNorm(1024, rngs=rngs)
            self.down = nnx.Linear(1024, 8, kernel_init=nnx.initializers.xavier_normal(), rngs=rngs)

        def __call__(self, x):
            return self.down(self.norm(self.up(x)))

    beats = fb.four_beats(lambda model, batch: (model(batch["x"]) ** 2).mean(-1), optax.adamw(1e-3), ema=0.9)
    by_hand = beats.init(Wide(nnx.Rngs(0)))
    mesh = fb.mesh(fsdp=8)
    largest = []
    made = beats.init(lambda: Wide(nnx.Rngs(0)), mesh=mesh, shard=fb.shard.fsdp(min_size=1024))
    for array in jax.live_arrays():
        if isinstance(array.sharding, NamedSharding):
            largest += [shard.data.nbytes for shard in array.addressable_shards]
    same = [
        np.array_equal(np.asarray(one), np.asarray(other))
        for one, other in zip(jax.tree.leaves(made), jax.tree.leaves(by_hand), strict=True)
    ]
    moved = fb.shard.place(by_hand, mesh, fb.shard.fsdp(min_size=1024))
    state_bytes = [
        sum(shard.data.nbytes for leaf in jax.tree.leaves(made) for shard in leaf.addressable_shards[:1]),
        sum(leaf.nbytes for leaf in jax.tree.leaves(by_hand)),
    ]
    batch = {"x": np.ones((16, 512), np.float32)}
    needed = fb.shard.memory(beats, lambda: Wide(nnx.Rngs(0)), batch, mesh=mesh, rules=fb.shard.fsdp(1024))
    program, _, _ = creation(lambda: Wide(nnx.Rngs(0)), beats.init, mesh, fb.shard.fsdp(1024))
    analysis = program.memory_analysis()
    return {
        "of the program": analysis.temp_size_in_bytes + analysis.output_size_in_bytes,
        "same": all(same),
        "same static": made.static is by_hand.static,
        "largest": max(largest),
        "kernel bytes": 512 * 1024 * 4,
        "state bytes": state_bytes,
        "as one that was moved": places_of(made) == places_of(moved),
        "needed": [needed.state, needed.batch, needed.temporaries],
        "table": fb.shard.table(made),
    }


def restored():
    """A run over one mesh that goes on over others, and a run that was never stopped."""
    kind = KINDS["dict"]
    beats = beats_of(kind)
    make = lambda: {"w": 0.1 * jax.random.normal(jax.random.key(0), (8, 2)), "b": jnp.zeros(2)}
    batches = [
        {**kind.batch(seed, 16), "x": np.random.RandomState(seed).normal(size=(16, 8)).astype(np.float32)}
        for seed in range(4)
    ]
    mesh, rules = fb.mesh(fsdp=8), fb.shard.fsdp(min_size=1)
    other = beats.init(make, key=1)
    step = fb.compile(beats.train_step, mesh=mesh)
    state = beats.init(make, mesh=mesh, shard=rules)
    with fb.testing.no_host_reads() as reads:
        for batch in batches[:2]:
            state, _ = step(state, batch)
    seen = {"reads": len(reads)}
    saved = jax.device_get(jax.tree.leaves(state))
    with tempfile.TemporaryDirectory() as folder, fb.Checkpoints(folder) as checkpoints:
        checkpoints.save(2, state)
        for batch in batches[2:]:
            state, _ = step(state, batch)
        for name, over in {
            "fsdp=8": {"mesh": mesh, "shard": rules},
            "data=2, fsdp=2": {"mesh": fb.mesh(data=2, fsdp=2, devices=jax.devices()[:4]), "shard": rules},
            "no mesh": {},
        }.items():
            like = fb.shard.place(other, over["mesh"], over["shard"]) if over else other
            found = checkpoints.restore(like)
            same = [
                np.array_equal(one, other)
                for one, other in zip(jax.device_get(jax.tree.leaves(found)), saved, strict=True)
            ]
            seen[name] = {"same": all(same), "stays": places_of(found) == places_of(like)}
            if name == "fsdp=8":
                for batch in batches[2:]:
                    found, _ = step(found, batch)
                ends = zip(*(jax.device_get(jax.tree.leaves(each)) for each in (found, state)), strict=True)
                seen[name]["ends"] = all(np.array_equal(one, other) for one, other in ends)
    return seen


def told_by_the_model():
    """Where the parameters of a model lie that says so itself."""

    class Said(nnx.Module):
        def __init__(self, rngs):
            kernel_init = nnx.with_partitioning(nnx.initializers.lecun_normal(), (None, "tensor"))
            self.up = nnx.Linear(4, 8, kernel_init=kernel_init, rngs=rngs)
            self.down = nnx.Linear(8, 2, rngs=rngs)

        def __call__(self, x):
            return self.down(self.up(x)).sum(-1)

    mesh = fb.mesh(data=4, tensor=2)
    beats = fb.four_beats(lambda model, batch: model(batch["x"]), optax.adam(1e-3))
    tables = []
    for rules in (
        fb.shard.metadata(),
        fb.shard.by_path({"up/*": fb.shard.metadata(), "down/kernel": ("tensor",)}),
    ):
        state = beats.init(lambda: Said(nnx.Rngs(0)), mesh=mesh, shard=rules)
        tables.append(fb.shard.table(state).splitlines())
    return tables


class Block(nnx.Module):
    """Attention over eight heads and an MLP, without biases, after an embedding and before a head."""

    def __init__(self, rngs):
        linear = lambda width_in, width_out: nnx.Linear(width_in, width_out, use_bias=False, rngs=rngs)
        self.embed = nnx.Embed(64, 32, rngs=rngs)
        self.query, self.key, self.value, self.out = (linear(32, 32) for _ in range(4))
        self.up, self.down, self.head = linear(32, 128), linear(128, 32), linear(32, 64)

    def __call__(self, tokens):
        x = self.embed(tokens)
        query, key, value = (
            each(x).reshape(*x.shape[:2], 8, 4) for each in (self.query, self.key, self.value)
        )
        x = x + self.out(jax.nn.dot_product_attention(query, key, value, is_causal=True).reshape(x.shape))
        return self.head(x + self.down(nnx.gelu(self.up(x))))


class Normed(nnx.Module):
    """A layer, batch statistics and a head: no row of a batch is alone."""

    def __init__(self, rngs):
        self.up, self.down = nnx.Linear(3, 8, use_bias=False, rngs=rngs), nnx.Linear(8, 2, rngs=rngs)
        self.norm = nnx.BatchNorm(8, rngs=rngs)

    def __call__(self, x):
        return self.down(nnx.relu(self.norm(self.up(x))))


def gradients():
    """Gradients over meshes beside those of one device, with the collectives of each compiled program."""
    split = {**dict.fromkeys(("query/kernel", "key/kernel", "value/kernel", "up/kernel"), (None, "tensor"))}
    split |= dict.fromkeys(("out/kernel", "down/kernel"), ("tensor",))
    random = np.random.RandomState(0)
    tokens = {name: random.randint(0, 64, (64, 16)).astype(np.int32) for name in "xy"}
    vectors = {"x": random.normal(size=(64, 3)).astype(np.float32), "y": random.randint(0, 2, 64)}
    vectors["weight"] = random.uniform(0, 2, 64).astype(np.float32)
    vectors["weight"][3:21] = 0
    linear = {"w": random.normal(size=(3, 2)).astype(np.float32), "b": np.zeros(2, np.float32)}
    of_tokens = (lambda model, batch: cross_entropy(model(batch["x"]), batch["y"]).mean(-1), tokens)
    of_linear = (
        lambda model, batch: cross_entropy(batch["x"] @ model["w"] + model["b"], batch["y"]),
        vectors,
    )
    of_normed = (lambda model, batch: cross_entropy(model(batch["x"]), batch["y"]), vectors)
    kinds = {"block": (Block(nnx.Rngs(0)), *of_tokens), "linear": (linear, *of_linear)}
    kinds["normed"] = (Normed(nnx.Rngs(0)), *of_normed)
    fewer = lambda **sizes: fb.mesh(**sizes, devices=jax.devices()[: math.prod(sizes.values())])
    programs = {
        "block over one device": (None, None, 1),
        "block over data=8 in 4 microbatches": (fb.mesh(data=8), None, 4),
        "block over fsdp=8": (fb.mesh(fsdp=8), fb.shard.fsdp(min_size=1), 1),
        "block over sequence=8": (fb.mesh(sequence=8), None, 1),
        "block over tensor=8": (fb.mesh(tensor=8), fb.shard.by_path(split), 1),
        "linear over one device": (None, None, 1),
        "linear over data=2 in 4 microbatches": (fewer(data=2), None, 4),
        "linear over data=4 in 4 microbatches": (fewer(data=4), None, 4),
        "linear over data=2, fsdp=2 in 4 microbatches": (
            fewer(data=2, fsdp=2), fb.shard.by_path({"w": (None, "fsdp")}), 4
        ),
        "normed over data=2 in 4 microbatches": (fewer(data=2), None, 4),
    }  # fmt: skip
    states, seen = {}, {}
    for name, (mesh, rules, accumulate) in programs.items():
        model, loss_fn, batch = kinds[name.split(" ")[0]]
        beats = fb.four_beats(loss_fn, optax.sgd(0.1), accumulate=accumulate)
        state = states.setdefault(id(model), beats.init(model))
        state = state if mesh is None else fb.shard.place(state, mesh, rules)
        step = fb.compile(
            lambda state, batch, of=beats: (state, of.gradient(state, batch)), mesh=mesh, donate=False
        )
        program = step.lower(state, batch).compile()
        args = (state, batch) if mesh is None else (state, {}, batch)  # the inputs of a step come second
        grads, out = program(*args)[1]
        found = re.findall(rf"= (.*) ({COLLECTIVES})(?:-start)?\((.*)", program.as_text())
        seen[name] = {
            "flops": program.cost_analysis()["flops"],
            "loss": float(out.loss),
            "gradient": [listed(leaf) for leaf in jax.tree.leaves(grads)],
            "collectives": [each for _, each, _ in found],
            # where it stands, and how many numbers it has
            "reduced": [
                ["in the loop" if "/while/" in rest else "once", numbers_in(shapes)]
                for shapes, each, rest in found
                if each in ("all-reduce", "reduce-scatter")
            ],
        }
    return seen


COLLECTIVES = "all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute"


def numbers_in(shapes):
    """The numbers in the arrays of such a text as "(f32[3,2]{1,0}, f32[])"."""
    found = re.findall(r"\w+\[([\d,]*)\]", shapes)
    return sum(math.prod(int(length) for length in shape.split(",") if length) for shape in found)


def members():
    """Members spread over eight devices, beside the same ones one after the other on one device."""
    kind, beats = KINDS["dict"], beats_of(KINDS["dict"])
    over = {"seed": list(range(8))}
    of_mesh, of_one = fb.replicas(beats, 8, over=over), fb.replicas(beats, 8, over=over, vmapped=False)
    mesh = fb.mesh(replicas=8)
    state, alone = of_mesh.init(kind.make, mesh=mesh), of_one.init(kind.make)
    step, step_alone = fb.compile(of_mesh.train_step, mesh=mesh), fb.compile(of_one.train_step)
    places, batches = places_of(state), batches_of(kind)[:4]
    text = step.lower(state, batches[0]).compile().as_text()
    with CompilationMonitor() as underway:
        for batch in batches:
            state, logs = step(state, batch)
            alone, _ = step_alone(alone, batch)
        state = state.stop([False] * 7 + [True])
        state, logs = step(state, batches[3])
        compiled = [each for each, _ in underway.ended].count("train_step") - 1  # and the one of one device
    alone, _ = step_alone(alone.stop([False] * 7 + [True]), batches[3])
    evaluate, predict = fb.evaluator(of_mesh), fb.predictor(of_mesh)
    seen = [kind.batch(seed, size) for seed, size in ((7, 16), (9, 5))]
    values = lambda state: [
        [listed(leaf) for leaf in jax.tree.leaves((m.params, m.opt_state, m.ema))] for m in state.members
    ]
    return {
        "collectives": re.findall(r" (all-\w+|reduce-scatter|collective-permute)(?:-start)?\(", text),
        "compilations": [step.num_compilations, compiled],
        "stays": places == places_of(state),
        "kernel": [
            state.held.params["w"].sharding.shard_shape((8, 3, 2)),
            len(logs["loss"].sharding.device_set),
        ],
        "values": [values(state), values(alone)],
        "scores": [
            listed(evaluate(state, seen)["value"]),
            listed(fb.evaluator(of_one)(alone, seen)["value"]),
        ],
        "predicted": [listed(predict(state, seen)), listed(fb.predictor(of_one)(alone, seen))],
        "steps": [int(member.step) for member in state.members],
    }


def members_in_microbatches():
    """Parameters of two members over four devices, each with its rows on two, and of the same on one."""
    kind, found = KINDS["dict"], []
    mesh = fb.mesh(replicas=2, data=2, devices=jax.devices()[:4])
    for over in (None, mesh):
        beats = fb.four_beats(lambda m, batch: kind.items(m, batch)[0], optax.sgd(0.1), accumulate=2)
        of = fb.replicas(beats, 2, over={"seed": [0, 1]}, vmapped=False)
        state = of.init(kind.make, **({} if over is None else {"mesh": over}))
        state, _ = fb.compile(of.train_step, mesh=over)(state, kind.batch(0, 16))
        found.append([listed(leaf) for m in state.members for leaf in jax.tree.leaves(m.params)])
    return found


def recompiled():
    """What a step without a mesh says of arrays that lie elsewhere in its next call."""
    mesh = fb.mesh(data=8)
    over = NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    beats = fb.four_beats(
        lambda model, batch: batch["x"] @ model["w"], optax.adam(1e-3), metrics=fb.metrics.Mean("loss")
    )
    state = fb.shard.place(beats.init({"w": jnp.ones(8)}), mesh)
    state = dataclasses.replace(state, params=jax.device_put(state.params, over))
    batch = jax.device_put({"x": np.ones((16, 8), np.float32)}, over)
    step = fb.compile(beats.train_step)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            state, _ = step(state, batch)
        state = dataclasses.replace(state, metrics=state.metrics.reset())
        for _ in range(2):
            state, _ = step(state, batch)
    return {"texts": [str(each.message) for each in caught], "compilations": step.num_compilations}


def scored():
    """A metric of each way to keep what was seen, over 75 examples on a mesh of eight devices."""
    columns = fb.data.Arrays(**examples(75))
    beats = fb.four_beats(lambda model, batch: batch["loss"] * model["w"], optax.sgd(0.1))
    evaluate = fb.evaluator(
        beats, fb.metrics.Collection(**{name: ROWS[name].metric for name in WAYS_TO_KEEP})
    )
    state = beats.init(lambda: {"w": jnp.ones(())}, mesh=fb.mesh(data=8))
    return {name: np.asarray(score).tolist() for name, score in evaluate(state, columns.batches(16)).items()}


def given():
    """The logs and parameters of steps with inputs, a weight and a value of aux, with and without a mesh."""

    def loss_fn(model, batch, *, teacher, temperature):
        logits = (batch["x"] @ model["w"] + model["b"]) / temperature
        wanted = batch["x"] @ teacher["w"] / temperature
        return ((logits - wanted) ** 2).sum(-1), {"gap": jnp.abs(logits - wanted)}

    beats = fb.four_beats(loss_fn, optax.sgd(0.1), accumulate=2, logs=("loss", "gap"))
    kind, batches = KINDS["dict"], batches_of(KINDS["dict"])
    seen = []
    for mesh in (None, fb.mesh(data=4, devices=jax.devices()[:4])):
        state, teacher = beats.init(kind.make(0), mesh=mesh), kind.make(1)
        step = fb.compile(beats.train_step, mesh=mesh, on_recompile="raise")
        for temperature, batch in zip((1.0, 2.0), batches[:2], strict=True):
            batch = batch if mesh is not None else as_microbatches_of(4, 2, batch)
            state, logs = step(state, batch, teacher=teacher, temperature=temperature)
        seen.append([*map(float, logs.values()), *map(listed, jax.tree.leaves(state.params))])
    needed = step.memory(state, batches[0], teacher=teacher, temperature=1.0)
    return {"seen": seen, "memory": [needed.state, needed.batch, str(needed).splitlines()[0]]}


def told():
    """What errors and warnings say, by what was done."""
    kind = KINDS["dict"]
    beats, mesh = beats_of(kind), fb.mesh(data=8)
    state = beats.init(lambda: kind.make(0), mesh=mesh)
    step = fb.compile(beats.train_step, mesh=mesh)
    texts = {}

    def note(what, act):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                act()
            except (TypeError, ValueError) as error:
                texts[what] = f"{type(error).__name__}: {error}"
                return
        texts[what] = "; ".join(f"{each.category.__name__}: {each.message}" for each in caught) or "nothing"

    def init(rules, mesh=mesh, make=lambda: kind.make(0)):
        return beats.init(make, mesh=mesh, shard=rules)

    note("on one device", lambda: step(beats.init(kind.make(0)), kind.batch(0, 16)))
    note("rows", lambda: step(state, kind.batch(0, 30)))
    note("few rows", lambda: step(state, kind.batch(0, 3)))
    unlike = {"a": np.ones(4), "b": np.ones(5)}
    note("no common axis", lambda: fb.compile(lambda state, batch: (state, {}), mesh=mesh)(state, unlike))
    as_it_is = lambda state, batch: (state, {})
    graphs = {"nodes": np.ones((9, 3)), "edges": np.ones((20, 2)), "weight": np.ones(8)}
    note("most has no rows", lambda: fb.compile(as_it_is, mesh=mesh)(init(None), graphs))
    idle = fb.mesh(data=4, tensor=2)
    of_idle = init(None, idle)
    note("idle axis", lambda: fb.compile(as_it_is, mesh=idle, donate=False)(of_idle, kind.batch(0, 16)))
    over_idle = NamedSharding(idle, jax.sharding.PartitionSpec("data", "tensor"))
    in_parts = lambda x: jax.shard_map(
        lambda x: x, mesh=idle, in_specs=over_idle.spec, out_specs=over_idle.spec
    )(x)
    for what, split in {
        "an axis in a constraint": lambda x: jax.lax.with_sharding_constraint(x, over_idle),
        "an axis in a shard_map": in_parts,
    }.items():
        use = lambda state, batch, split=split: (state, split(jnp.stack([batch["x"]] * 2, 1)))
        note(what, lambda use=use: fb.compile(use, mesh=idle, donate=False)(of_idle, kind.batch(0, 16)))
    sequence = fb.mesh(data=4, sequence=2)
    of_sequence, other = init(None, sequence), init(None)
    note("no sequence", lambda: fb.compile(as_it_is, mesh=sequence)(of_sequence, kind.batch(0, 16)))
    with jax.set_mesh(jax.make_mesh((8,), ("data",), (jax.sharding.AxisType.Explicit,))):
        note("explicit axes", lambda: fb.compile(as_it_is, mesh=mesh)(other, kind.batch(0, 16)))
    note("pattern", lambda: init(fb.shard.by_path({"wheel": ("data",)})))
    note("dimension", lambda: init(fb.shard.by_path({"w": (None, "data")})))
    note("axis", lambda: init(fb.shard.by_path({"w": ("tensor",)})))
    note("entries", lambda: init(fb.shard.by_path({"b": (None, "data")})))
    note("spec", lambda: fb.shard.by_path({"b": "data"}))
    note("no fsdp", lambda: init(fb.shard.fsdp()))
    note("metadata", lambda: init(fb.shard.metadata()))
    six = fb.replicas(beats, 6, over={"seed": range(6)})
    note("members", lambda: six.init(kind.make, mesh=fb.mesh(replicas=8)))
    note("sizes", lambda: fb.mesh(data=3))
    note("size", lambda: fb.mesh(data=0))
    note("two open", lambda: fb.mesh(data=-1, fsdp=-1))
    note("open", lambda: fb.mesh(data=-1, fsdp=3))
    note("names", lambda: fb.compile(beats.train_step, mesh=jax.make_mesh((2, 4), ("x", "y"))))
    note("no mesh", lambda: fb.compile(beats.train_step, mesh=8))
    note("rules alone", lambda: beats.init(kind.make(0), shard=fb.shard.fsdp()))
    note("a class", lambda: init(None, make=Block))
    note("compiled", lambda: init(None, make=jax.jit(lambda: kind.make(0))))
    note("needs a seed", lambda: init(None, make=kind.make))
    large = jnp.ones((512, 1024))
    note("closed over", lambda: init(None, make=lambda: {"w": 2 * large}))
    note("memory", lambda: init(None, make=lambda: {"w": jnp.ones((2**15, 2**25))}))

    over = fb.mesh(fsdp=8)
    make = lambda: {"w": jnp.ones((8, 2)), "b": jnp.ones(2)}
    split = beats.init(make, mesh=over, shard=fb.shard.fsdp(min_size=1))
    split_step = fb.compile(beats.train_step, mesh=over)
    batch = {"x": np.ones((8, 8), np.float32), "label": np.zeros(8, np.int32)}
    split, _ = split_step(split, batch)
    whole = fb.shard.place(split.params, over)
    note("moved", lambda: split_step(dataclasses.replace(split, params=whole), batch))
    note("replaced", lambda: split_step(split.replace(params=jax.device_get(whole)), batch))
    return texts


def main():
    runs = {}
    for mesh_name in ("no mesh", "data=2, fsdp=4"):
        runs[f"dict over {mesh_name}"] = trained("dict", mesh_name, is_judged=True)
    runs["dict over data=2, fsdp=4, in blocks of 2"] = trained("dict", "data=2, fsdp=4", steps_per_call=2)
    name = "cnn in microbatches over"
    runs[f"{name} no mesh"] = trained("cnn", "no mesh", accumulate=2, in_the_order_of_shares=4)
    runs[f"{name} data=4"] = trained("cnn", "data=4", accumulate=2)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        run_page(ROOT / "docs" / "devices.md")
    return {
        "runs": runs,
        "created": created(),
        "restored": restored(),
        "told by the model": told_by_the_model(),
        "gradients": gradients(),
        "members": members(),
        "members in microbatches": members_in_microbatches(),
        "recompiled": recompiled(),
        "given": given(),
        "scored": scored(),
        "told": told(),
    }


if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=fb.beats.PaddingInStatisticsWarning)
    print(json.dumps(main()))
