"""How the learning rate goes over a run: a pure function of the step, so that nothing of it has to
be kept for a run to go on.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch

LAST = 0.05  # share of the learning rate at the end, where a schedule falls to one
SCHEDULES = ("linear", "cosine", "poly", "tanh", "step", "multistep", "wsd", "rsqrt", "constant")
MEASURED = ("plateau",)  # of timm's, those that wait for what a run measures


def check_schedule(name: str) -> None:
    """Raise `ValueError` for a schedule that there is not, or that no step decides alone."""
    if name in SCHEDULES:
        return
    known = ", ".join(SCHEDULES)
    if name in MEASURED:
        raise ValueError(
            f"the schedule {name!r} follows what a run measures, and a learning rate must follow "
            f"from the step alone, or a run could not go on as it was; take one of: {known}"
        )
    raise ValueError(f"there is no schedule {name!r}; known: {known}")


def share_of_rate(schedule: str, step: int, steps: int) -> float:
    """The share of the learning rate that is left at a step, from 1 to `steps`; no warm-up in it.

    >>> [round(share_of_rate("linear", step, 10), 3) for step in (1, 6, 10)]
    [1.0, 0.525, 0.145]
    >>> [round(share_of_rate("cosine", step, 10), 3) for step in (1, 6, 10)]
    [1.0, 0.525, 0.073]

    Raises:
        ValueError: the timm that is installed has no such schedule.
    """
    if schedule == "linear":
        return 1 - (1 - LAST) * (step - 1) / steps
    scheduler = _of_timm(schedule, steps)
    scheduler.step(step - 1)  # of timm's, none that is known here remembers the one before
    return float(scheduler.optimizer.param_groups[0]["lr"])


@lru_cache
def _of_timm(schedule: str, steps: int) -> Any:
    """The scheduler of timm, for an optimizer that moves nothing at a learning rate of 1.

    Its usual lengths are of 300 epochs; here they are shares of the run.
    """
    from timm.scheduler.scheduler_factory import create_scheduler_v2  # imports for a second

    falls_late = schedule in ("wsd", "rsqrt")  # over the last fifth
    options: dict[str, Any] = {
        "num_epochs": steps,
        "min_lr": LAST,
        "decay_epochs": max(1, round(steps * (0.2 if falls_late else 0.3))),
        "decay_milestones": [round(steps * share) for share in (0.3, 0.6, 0.9)],
        "decay_rate": 0.5 if schedule == "poly" else 0.1,  # of `poly` it is the power
    }
    if schedule == "rsqrt":  # steps until it stands at 1 / sqrt(2)
        options["stable_timescale"] = max(1, round(steps * 0.1))
    mover = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    try:
        scheduler, _ = create_scheduler_v2(mover, sched=schedule, **options)
    except TypeError:  # an option that came with it
        scheduler = None
    if scheduler is None:
        raise ValueError(
            f"the timm installed here has no schedule {schedule!r}; install a newer one"
        )
    return scheduler
