"""The hazard table: functions whose meaning changes under jit.

A row gives `(function, arguments, look)`, built anew each time: `look()` reads what the function leaves
behind. `expected` lists `(kind, path, before, after)`. The line that does it ends in `# here`.
"""

from tests.purity.impure_code import (
    arguments,
    attributes,
    containers,
    iterators,
    leaks,
    names,
    readings,
)

HAZARDS = [
    *attributes.HAZARDS,
    *containers.HAZARDS,
    *names.HAZARDS,
    *iterators.HAZARDS,
    *leaks.HAZARDS,
    *arguments.HAZARDS,
    *readings.HAZARDS,
]
