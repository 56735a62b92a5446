"""Importing the room is cheap."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.slow
def test_importing_media_loads_no_decoder() -> None:
    code = (
        "import sys, vqvideo.media; print([m for m in ('av', 'decord', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
