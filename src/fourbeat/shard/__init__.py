"""Several devices: a mesh, rules that say where each parameter lies, and what that costs in memory."""

from fourbeat.shard.creating import MemoryLimitError
from fourbeat.shard.laying_out import place
from fourbeat.shard.layout_table import table
from fourbeat.shard.memory_use import Memory, memory
from fourbeat.shard.meshes import mesh
from fourbeat.shard.rows import WholeBatchWarning
from fourbeat.shard.rules import Rules, by_path, fsdp, metadata, replicated
from fourbeat.shard.whole_arrays import WholeArrayWarning

__all__ = [
    "Memory",
    "MemoryLimitError",
    "Rules",
    "WholeArrayWarning",
    "WholeBatchWarning",
    "by_path",
    "fsdp",
    "memory",
    "mesh",
    "metadata",
    "place",
    "replicated",
    "table",
]
