"""What the processes of a training run tell each other; alone, a process tells itself.

Whether there are others is asked at each call, so it never matters whether a model was built before
or after the process group.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def summed(x: Tensor) -> Tensor:
    """`x` added up over all processes."""
    if not are_several():
        return x
    total = x.clone()
    dist.all_reduce(total)
    return total


def gathered(rows: Tensor) -> Tensor:
    """The rows `[n, ...]` of all processes, in their order; n may differ between them."""
    if not are_several():
        return rows
    number = torch.tensor([len(rows)], device=rows.device)
    numbers = [torch.empty_like(number) for _ in range(dist.get_world_size())]
    dist.all_gather(numbers, number)
    most = int(torch.cat(numbers).max())
    padded = rows.new_zeros(most, *rows.shape[1:])
    padded[: len(rows)] = rows
    everyone = [torch.empty_like(padded) for _ in numbers]
    dist.all_gather(everyone, padded)
    return torch.cat([part[: int(n)] for part, n in zip(everyone, numbers, strict=True)])


def of_the_first(x: Tensor) -> Tensor:
    """`x` as the first process has it."""
    if are_several():
        x = x.contiguous()
        dist.broadcast(x, src=0)
    return x


def are_several() -> bool:
    """Whether other processes train the same model."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
