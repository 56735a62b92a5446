"""Versions and machine settings that results depend on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from typing import Any

import torch

from vqvideo.version import __version__

MACHINE_KEYS = ("python", "cpu", "threads", "thp_mem_alloc_enable", "load_average")


def collect_environment(*packages: str) -> dict[str, Any]:
    """Return versions (None for a missing package), the processor and its settings."""
    # A torch without `get_capabilities` leaves the processor's name to Python.
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return {
        "vqvideo": __version__,
        "torch": torch.__version__,
        **{package.replace("-", "_"): _get_version(package) for package in packages},
        "python": platform.python_version(),
        "cpu": capabilities.get("cpu_name") or platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "thp_mem_alloc_enable": os.environ.get("THP_MEM_ALLOC_ENABLE"),
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def format_environment(environment: dict[str, Any]) -> str:
    """Format an environment as one line of text."""
    packages = [name for name in environment if name not in MACHINE_KEYS]
    versions = [f"{name.replace('_', '-')} {environment[name] or '(none)'}" for name in packages]
    huge_pages, load = environment["thp_mem_alloc_enable"], environment["load_average"]
    return ", ".join(
        [
            *versions,
            f"Python {environment['python']}",
            environment["cpu"],
            f"{environment['threads']} threads",
            f"THP_MEM_ALLOC_ENABLE {'unset' if huge_pages is None else huge_pages}",
            f"load average before {'-' if load is None else format(load, '.2f')}",
        ]
    )


def _get_version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
