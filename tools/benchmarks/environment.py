"""The environment of benchmarks that measure themselves in a process of their own."""

from __future__ import annotations

import os
from pathlib import Path

TOOLS_DIR = Path(__file__).parents[1]


def build_environment(**variables: str) -> dict[str, str]:
    """Return the variables of this process with `variables` added, such that
    `python -m benchmarks.NAME` finds its module and measures the `vqvideo` of this checkout.
    """
    paths = [str(TOOLS_DIR), str(TOOLS_DIR.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **variables}
