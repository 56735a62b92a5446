"""What a figure depends on besides our code."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from typing import Any

import torch

from vqvideo.version import __version__

MACHINE = ("python", "cpu", "threads", "thp_mem_alloc_enable", "load_average")


def setting(*packages: str) -> dict[str, Any]:
    """Versions (None for a package that is not installed), processor and settings."""
    # A torch that cannot tell what the processor is leaves it to Python.
    processor: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return {
        "vqvideo": __version__,
        "torch": torch.__version__,
        **{package.replace("-", "_"): _version(package) for package in packages},
        "python": platform.python_version(),
        "cpu": processor.get("cpu_name") or platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "thp_mem_alloc_enable": os.environ.get("THP_MEM_ALLOC_ENABLE"),
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def as_line(setting: dict[str, Any]) -> str:
    """A setting as one line of text."""
    packages = [name for name in setting if name not in MACHINE]
    versions = [f"{name.replace('_', '-')} {setting[name] or '(none)'}" for name in packages]
    huge, load = setting["thp_mem_alloc_enable"], setting["load_average"]
    return ", ".join(
        [
            *versions,
            f"Python {setting['python']}",
            setting["cpu"],
            f"{setting['threads']} threads",
            f"THP_MEM_ALLOC_ENABLE {'unset' if huge is None else huge}",
            f"load average before {'-' if load is None else format(load, '.2f')}",
        ]
    )


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
