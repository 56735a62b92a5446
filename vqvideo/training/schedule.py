"""Learning rate schedules: pure functions of the step, so that resuming needs no saved state."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch

MIN_LR_RATIO = 0.05  # final share of the learning rate, for schedules that decay to a minimum
SCHEDULES = ("linear", "cosine", "poly", "tanh", "step", "multistep", "wsd", "rsqrt", "constant")
METRIC_SCHEDULES = ("plateau",)  # timm schedules that depend on validation metrics


def check_schedule(name: str) -> None:
    """Raise `ValueError` if the schedule is unknown or depends on more than the step."""
    if name in SCHEDULES:
        return
    known = ", ".join(SCHEDULES)
    if name in METRIC_SCHEDULES:
        raise ValueError(
            f"the schedule {name!r} depends on validation metrics, but the learning rate must "
            f"depend on the step alone, so that a run resumes exactly; choose one of: {known}"
        )
    raise ValueError(f"unknown schedule {name!r}; known: {known}")


def get_lr_factor(schedule: str, step: int, steps: int) -> float:
    """Return the factor of the learning rate at a step, 1 to `steps`, without warm-up.

    >>> [round(get_lr_factor("linear", step, 10), 3) for step in (1, 6, 10)]
    [1.0, 0.525, 0.145]
    >>> [round(get_lr_factor("cosine", step, 10), 3) for step in (1, 6, 10)]
    [1.0, 0.525, 0.073]

    Raises:
        ValueError: the installed timm has no such schedule.
    """
    if schedule == "linear":
        return 1 - (1 - MIN_LR_RATIO) * (step - 1) / steps
    scheduler = _create_timm_scheduler(schedule, steps)
    scheduler.step(step - 1)  # stateless for all of SCHEDULES
    return float(scheduler.optimizer.param_groups[0]["lr"])


@lru_cache
def _create_timm_scheduler(schedule: str, steps: int) -> Any:
    """Create a timm scheduler with a dummy optimizer, whose learning rate is 1.

    Decay and milestones are fractions of the run; timm's defaults assume 300 epochs.
    """
    from timm.scheduler.scheduler_factory import create_scheduler_v2  # slow import (about 1 s)

    decays_late = schedule in ("wsd", "rsqrt")  # decays over the last fifth
    options: dict[str, Any] = {
        "num_epochs": steps,
        "min_lr": MIN_LR_RATIO,
        "decay_epochs": max(1, round(steps * (0.2 if decays_late else 0.3))),
        "decay_milestones": [round(steps * share) for share in (0.3, 0.6, 0.9)],
        "decay_rate": 0.5 if schedule == "poly" else 0.1,  # for `poly` it is the power
    }
    if schedule == "rsqrt":  # steps until the factor is 1 / sqrt(2)
        options["stable_timescale"] = max(1, round(steps * 0.1))
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    try:
        scheduler, _ = create_scheduler_v2(optimizer, sched=schedule, **options)
    except TypeError:  # an older timm without an option of the schedule
        scheduler = None
    if scheduler is None:
        raise ValueError(
            f"the installed timm has no schedule {schedule!r}; install a newer version"
        )
    return scheduler
