"""Run a benchmark from a checkout: `python tools/benchmark.py NAME`; `--help` lists them."""

from benchmarks.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
