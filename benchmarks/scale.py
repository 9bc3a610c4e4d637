"""`python -m benchmarks.scale`: a GPT of 1 B and 7 B parameters over 8 to 512 devices, compiled and not run.

A child process plays the devices on the CPU, compiles each step for shapes alone, and reads memory, flops and
collectives out of the program. The tables beside the formulas go into docs/scale.md.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

import fourbeat as fb
from benchmarks import scale_page
from benchmarks.collectives import collectives, received_bytes
from benchmarks.scale_formulas import Size
from fourbeat.recipes import char_gpt
from fourbeat.recipes.text import gpt
from fourbeat.shard.memory_use import compiled_for_shapes

RESULTS = Path(__file__).parent / "results" / "scale" / "compiled.json"
SIZES = {"1 B": Size(layers=20, width=2048, heads=16), "7 B": Size(layers=35, width=4096, heads=32)}
ONE_BLOCK = Size(layers=1, width=2048, heads=16)
MESHES = {
    8: [{"data": 8}, {"fsdp": 8}, {"data": 2, "fsdp": 4}, {"fsdp": 4, "tensor": 2}],
    64: [{"fsdp": 64}, {"data": 8, "fsdp": 8}, {"fsdp": 16, "tensor": 4}],
    512: [{"data": 512}, {"fsdp": 512}, {"data": 8, "fsdp": 64}, {"fsdp": 64, "tensor": 8}],
}
SPLIT = {  # Shoeybi et al. 2019: the first of two layers by its outputs, the second by its inputs
    "blocks/*/query_key_value/kernel": ("fsdp", "tensor"),
    "blocks/*/mix/kernel": ("tensor", "fsdp"),
    "blocks/*/up/kernel": ("fsdp", "tensor"),
    "blocks/*/down/kernel": ("tensor", "fsdp"),
}


WHOLE = {
    "token/embedding": ()
}  # 99 rows divide by none of the axes, and split by features it would cost much


class Block(gpt.Block):
    """The recipe's, but with query, key and value of a head side by side, so that heads can be split."""

    def __call__(self, x, mask=None):
        """From and to shape (batch, length, width)."""
        by_head = self.query_key_value(self.norm1(x)).reshape(*x.shape[:2], self.heads, 3, -1)
        query, key, value = jnp.moveaxis(by_head, 3, 0)
        attended = jax.nn.dot_product_attention(query, key, value, mask=mask, is_causal=True)
        x = x + self.mix(attended.reshape(x.shape))
        return x + self.down(nnx.relu(self.up(self.norm2(x))) ** 2)


def make_model(size: Size, block: type[gpt.Block] = Block) -> gpt.GPT:
    """The GPT of the recipe, with blocks of another class."""
    rngs = nnx.Rngs(0)
    model = gpt.GPT(char_gpt.NUM_TOKENS, size.context, size.width, 0, size.heads, rngs=rngs)
    model.blocks = nnx.List([block(size.width, size.heads, rngs=rngs) for _ in range(size.layers)])
    return model


def compiled(
    size: Size,
    axes: dict[str, int],
    *,
    precision: str = "float32",
    block: type[gpt.Block] = Block,
    whole: Mapping[str, tuple] = WHOLE,
    devices: list[Any] | None = None,
) -> tuple[dict[str, Any], str]:
    """What the compiled step says of itself, and its HLO; each share of the rows has one window of text.

    Args:
      size: of the model.
      axes: of the mesh.
      precision: that the layers compute in.
      block: class of the blocks.
      whole: patterns of parameters that lie on every device.
      devices: default all there are.
    """
    mesh = fb.mesh(**axes, devices=devices)
    by_fsdp = fb.shard.fsdp() if axes.get("fsdp", 1) > 1 else fb.shard.replicated()
    rules = fb.shard.by_path({**whole, **(SPLIT if "tensor" in axes else {})}, otherwise=by_fsdp)
    rows = axes.get("data", 1) * axes.get("fsdp", 1)
    batch = {
        "text": jax.ShapeDtypeStruct((rows, size.context + 1), jnp.uint8),
        "weight": jax.ShapeDtypeStruct((rows, size.context), jnp.float32),
    }
    beats = char_gpt.make_beats(char_gpt.CharGPT(precision=precision, accumulate=1))
    began = time.perf_counter()
    step = compiled_for_shapes(beats, lambda: make_model(size, block), batch, mesh=mesh, rules=rules)
    found = collectives(hlo := step.compiled.as_text())
    return {
        "axes": axes,
        "size": dataclasses.asdict(size),
        "precision": precision,
        "note": "the recipe's own block" * (block is gpt.Block) + "the table too" * (not whole),
        "state": step.state_bytes,
        "batch": step.batch_bytes,
        "temporaries": int(step.compiled.memory_analysis().temp_size_in_bytes),
        "flops": step.compiled.cost_analysis()["flops"],
        "received": received_bytes(found),
        "collectives": len(found),
        "async": sum(each.is_async for each in found),
        "overlapped": sum(each.overlapped > 0 for each in found),
        "seconds": round(time.perf_counter() - began, 1),
    }, hlo


def child(name: str, num_devices: int) -> None:
    """Prints a line of JSON for each mesh of so many devices."""
    for axes in MESHES[num_devices]:
        print(json.dumps(compiled(SIZES[name], axes)[0]), flush=True)
        if axes == {"fsdp": 4, "tensor": 2} and name == "1 B":
            print(json.dumps(compiled(SIZES[name], axes, block=gpt.Block)[0]), flush=True)
        if axes == {"fsdp": 8} and name == "1 B":
            print(json.dumps(compiled(SIZES[name], axes, whole={})[0]), flush=True)


def tpu_child(names: list[str]) -> None:
    """Prints a line of JSON for one block over each slice of TPUs, compiled by libtpu on this machine."""
    from jax.experimental import topologies

    for name in names:
        devices = list(topologies.get_topology_desc(platform="tpu", topology_name=name).devices)
        row, _ = compiled(ONE_BLOCK, {"fsdp": len(devices)}, precision="bfloat16", devices=devices)
        print(json.dumps({**row, "topology": name}), flush=True)


def in_a_child(arguments: list[str], environment: dict[str, str], limit_s: float) -> list[dict[str, Any]]:
    """The lines that a process of this module prints."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.scale", *arguments],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "JAX_PLATFORMS": "cpu", "JAX_ENABLE_COMPILATION_CACHE": "0", **environment},
        stdout=subprocess.PIPE,
        text=True,
        timeout=limit_s,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def main(arguments: list[str] | None = None) -> None:
    """Compiles, and writes the results and the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__.split("\n")[0])
    parser.add_argument("--devices", type=int, nargs="*", choices=list(MESHES), default=list(MESHES))
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument(
        "--tpu", metavar="SLICE", nargs="+", help="one block for a TPU too, such as v5p:2x2x2"
    )
    parser.add_argument("--limit-s", type=float, default=1800, help="longest time of a child process")
    parser.add_argument("--page-only", action="store_true", help="write the page from the results there are")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--tpu-child", nargs="+", help=argparse.SUPPRESS)
    flags = parser.parse_args(arguments)
    if flags.child:
        return child(flags.child[0], int(flags.child[1]))
    if flags.tpu_child:
        return tpu_child(flags.tpu_child)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    runs: dict[str, tuple[list[str], dict[str, str]]] = {}
    if not flags.page_only:
        for name in flags.sizes:
            for number in flags.devices:
                xla_flags = f"--xla_force_host_platform_device_count={number}"
                runs[f"{name}, {number} devices"] = ["--child", name, str(number)], {"XLA_FLAGS": xla_flags}
        if flags.tpu:
            # what libtpu would ask a machine with a TPU
            alone = {"TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost", "TPU_WORKER_ID": "0"}
            runs["tpu"] = ["--tpu-child", *flags.tpu], alone
    for name, (command, environment) in runs.items():
        rows = in_a_child(command, environment, flags.limit_s)
        results[name] = {"jax": jax.__version__, "rows": rows}
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        RESULTS.write_text(json.dumps(dict(sorted(results.items())), indent=1) + "\n")
        print(f"{name}: {sum(row['seconds'] for row in rows):.0f} s", flush=True)
    scale_page.write(results)
    print(scale_page.tables(results)["compiled"])


if __name__ == "__main__":
    main()
