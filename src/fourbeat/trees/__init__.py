"""Trees of arrays: paths, buffers, keys, rows, interned values, traced programs."""
