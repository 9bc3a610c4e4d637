"""Steps compiled into programs, one step or a block of them a call."""

from fourbeat.compiling.blocks import Block
from fourbeat.compiling.compiled_step import CompiledStep, compile
from fourbeat.compiling.recompilation import RecompilationError, RecompilationWarning
from fourbeat.compiling.xla_options import eigen_convolutions

__all__ = [
    "Block",
    "CompiledStep",
    "RecompilationError",
    "RecompilationWarning",
    "compile",
    "eigen_convolutions",
]
