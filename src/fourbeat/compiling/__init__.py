"""Steps compiled into programs, one step or a block of them a call."""

from fourbeat.compiling.blocks import Block
from fourbeat.compiling.compile import CompiledStep, compile
from fourbeat.compiling.options import eigen_convolutions
from fourbeat.compiling.recompilation import RecompilationError, RecompilationWarning

__all__ = [
    "Block",
    "CompiledStep",
    "RecompilationError",
    "RecompilationWarning",
    "compile",
    "eigen_convolutions",
]
