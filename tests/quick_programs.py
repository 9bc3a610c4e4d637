"""How processes compile in which neither the speed of the programs nor their last bits are looked at."""

import os

# LLVM spends no time on making the programs fast, and XLA writes each of them without MLIR
FLAGS = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"


def flags(*, devices):
    """The variable XLA_FLAGS of such a process with so many devices on its CPU."""
    return f"{os.environ.get('XLA_FLAGS', '')} {FLAGS} --xla_force_host_platform_device_count={devices}"
