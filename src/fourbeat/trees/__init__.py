"""Trees of arrays: paths, buffers, keys, examples, interned values, traced programs."""
