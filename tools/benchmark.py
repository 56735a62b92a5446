"""Run a benchmark from a checkout: `python tools/benchmark.py NAME`; `--help` lists them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # this checkout, not the one that is installed

from benchmarks.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
