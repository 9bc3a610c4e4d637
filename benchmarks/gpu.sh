#!/usr/bin/env bash
# The table of the GPU in one call of at most ten minutes: `benchmarks/gpu.sh [--tiny] [--seconds S] [--results DIR]`.
# PYTHON names another interpreter, VENDOR a folder of packages that it lacks. Without a GPU it runs on the CPU.
set -euo pipefail
cd "$(dirname "$0")/.."
export PYTHONPATH="src:.${VENDOR:+:$VENDOR}${PYTHONPATH:+:$PYTHONPATH}"
export XLA_PYTHON_CLIENT_PREALLOCATE=false PYTHONUNBUFFERED=1
exec "${PYTHON:-python3}" -m benchmarks.gpu "$@"
