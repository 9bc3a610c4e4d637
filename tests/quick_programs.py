"""How the tests compile: the laws are the same, and XLA takes less time."""

import importlib.metadata
import os

# Without this XLA writes each fused loop by MLIR, which takes a third of the time of compiling. Later
# versions know no other way.
_IS_KNOWN = importlib.metadata.version("jaxlib").startswith("0.10.")
WITHOUT_MLIR = "--xla_cpu_use_fusion_emitters=false" if _IS_KNOWN else ""


def flags(*, devices):
    """The variable XLA_FLAGS of a process with so many devices on its CPU, whose speed nothing looks at."""
    given = os.environ.get("XLA_FLAGS", "").replace(WITHOUT_MLIR, "")
    quick = f"{WITHOUT_MLIR} --xla_backend_optimization_level=0"  # LLVM spends no time on fast programs
    return f"{given} {quick} --xla_force_host_platform_device_count={devices}".strip()
