"""Several devices: a mesh, rules that say where each parameter lies, and what that costs in memory."""

from fourbeat.shard.creating import MemoryLimitError, WholeArrayWarning
from fourbeat.shard.laying_out import place
from fourbeat.shard.mesh import mesh
from fourbeat.shard.rows import WholeBatchWarning
from fourbeat.shard.rules import Rules, by_path, fsdp, metadata, replicated
from fourbeat.shard.table import table

__all__ = [
    "MemoryLimitError",
    "Rules",
    "WholeArrayWarning",
    "WholeBatchWarning",
    "by_path",
    "fsdp",
    "mesh",
    "metadata",
    "place",
    "replicated",
    "table",
]
