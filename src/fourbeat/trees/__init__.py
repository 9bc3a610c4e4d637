"""Trees of arrays: paths, buffers, keys, examples, arguments, interned values, traced programs."""
