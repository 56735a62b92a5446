"""Collective operations between the processes of a training run; no-ops in a single process.

Every call checks for a process group, so a model may be built before or after it is initialized.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor

if TYPE_CHECKING:
    from accelerate import PartialState


def all_reduce_sum(x: Tensor) -> Tensor:
    """Return the sum of `x` over all processes."""
    if not is_distributed():
        return x
    total = x.clone()
    dist.all_reduce(total)
    return total


def all_gather_rows(rows: Tensor) -> Tensor:
    """Return the rows `[n, ...]` of all processes, in rank order; n may differ between them."""
    if not is_distributed():
        return rows
    length = torch.tensor([len(rows)], device=rows.device)
    lengths = [torch.empty_like(length) for _ in range(dist.get_world_size())]
    dist.all_gather(lengths, length)
    max_length = int(torch.cat(lengths).max())
    padded = rows.new_zeros(max_length, *rows.shape[1:])
    padded[: len(rows)] = rows
    gathered = [torch.empty_like(padded) for _ in lengths]
    dist.all_gather(gathered, padded)
    return torch.cat([part[: int(n)] for part, n in zip(gathered, lengths, strict=True)])


def broadcast_from_main(x: Tensor) -> Tensor:
    """Return the `x` of the main process."""
    if is_distributed():
        x = x.contiguous()
        dist.broadcast(x, src=0)
    return x


def is_distributed() -> bool:
    """Return whether several processes train the same model."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def join_processes() -> PartialState:
    """Return accelerate's state of this process, in the process group that a launcher started.

    Without GPUs, the processes of torchrun join with gloo, as those of accelerate's launcher
    for CPUs do; accelerate alone would take each of them for the only one.

    Raises:
        RuntimeError: the group has another number of processes than the launcher started.
    """
    from accelerate import PartialState  # importing it takes a second
    from accelerate.utils import parse_flag_from_env

    is_launched = "LOCAL_RANK" in os.environ
    num_processes = int(os.environ.get("WORLD_SIZE", "1")) if is_launched else 1
    use_cpu = parse_flag_from_env("ACCELERATE_USE_CPU")
    if num_processes > 1 and not use_cpu and _has_no_collectives():
        os.environ["ACCELERATE_USE_CPU"] = "true"  # also read by `accelerate.Accelerator`
        use_cpu = True
    state = PartialState(cpu=use_cpu)
    if is_launched and state.num_processes != num_processes:
        raise RuntimeError(
            f"the launcher started {num_processes} processes (WORLD_SIZE), but this process is in "
            f"a group of {state.num_processes}; start them with torchrun or accelerate launch"
        )
    return state


def _has_no_collectives() -> bool:
    """Return whether this machine has no accelerator whose processes can communicate."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return accelerator is None or accelerator.type in ("cpu", "mps")
