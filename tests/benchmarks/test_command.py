"""`python tools/benchmark.py`: each benchmark has a test that runs its command at tiny size."""

import os
import re
import subprocess
import sys
from pathlib import Path

from benchmarks.cli import BENCHMARKS

TESTS = Path(__file__).parent
ROOT = TESTS.parents[1]


def test_every_benchmark_is_run_by_a_test():
    text = "".join(path.read_text() for path in TESTS.glob("test_*.py"))
    assert set(BENCHMARKS) <= set(re.findall(r'\["([a-z]+)", ', text))


def test_the_benchmarks_run_from_a_checkout_on_the_path_in_any_folder(tmp_path):
    script = [sys.executable, str(ROOT / "tools" / "benchmark.py"), "--help"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(script, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert set(BENCHMARKS) <= set(done.stdout.split())
