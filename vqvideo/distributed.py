"""Collective operations between the processes of a training run; no-ops in a single process.

Every call checks for a process group, so a model may be built before or after it is initialized.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


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
