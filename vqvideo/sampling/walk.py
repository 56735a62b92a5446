"""The one loop over positions, and the other one, over passes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from vqvideo.sampling.choice import POSITIONS_AT_ONCE, GumbelNoise, Sampling
from vqvideo.sampling.states import Drawer, PriorState

Method = Literal["auto", "fused", "cached", "full", "fixed_point"]
Progress = Callable[[int, int], None]


def drawer_of(state: PriorState, method: Method, sampling: Sampling) -> Drawer | None:
    """What draws the codes by itself, where the method asks for it or leaves it open."""
    if method not in ("auto", "fused"):
        return None
    try:
        if sampling.top_k is not None or sampling.top_p not in (None, 1):
            raise ValueError("it knows no top_k and no top_p")
        return state.fused()
    except ValueError as error:
        if method == "auto":
            return None
        raise ValueError(f"there is no fused step here: {error}; use method='auto'") from error


class Task(NamedTuple):
    """Codes to fill in: `codes` `[b, *shape]`, of which those under `fixed` `[n]` stay. If there is
    a `log_prob` `[b]`, that of the codes drawn is added to it.
    """

    sampling: Sampling
    codes: Tensor
    fixed: Tensor
    noise: GumbelNoise
    report: Progress
    log_prob: Tensor | None = None

    def add_log_prob(self, logits: Tensor, codes: Tensor) -> None:
        """Of codes `[b, ...]` under logits `[b, ..., K]`, as they were before any filter."""
        if self.log_prob is not None:
            nats = logits.double().log_softmax(dim=-1).gather(-1, codes[..., None])
            self.log_prob.add_(nats.flatten(1).sum(dim=1).to(self.log_prob.device))


def walk(task: Task, state: PriorState, drawer: Drawer | None, num_codebooks: int) -> Tensor:
    """Code by code; those at the start that are known at once, those at the end never."""
    flat, fixed = task.codes.flatten(1), task.fixed.tolist()
    total, last = len(fixed), _last_free(fixed)
    positions = (fixed.index(False) if last else 0) // num_codebooks
    index = positions * num_codebooks
    if positions:
        state.prefill(task.codes, positions)
        task.noise.skip(index)
        task.report(index, total)
    while index < last:
        if drawer and not fixed[index]:
            window = fixed[index : min(last, index + POSITIONS_AT_ONCE)]
            noise = task.noise.ahead(window.index(True) if True in window else len(window))
            drawn = drawer.draw(noise[:, 0], task.sampling, flat[0, index : index + len(noise)])
            index += drawn
            task.noise.skip(drawn)
            task.report(index, total)
            if drawn:
                continue
        codes = flat.select(1, index)
        if not fixed[index]:
            logits = state.logits()
            codes.copy_(task.sampling.choose(logits, task.noise.next()))
            task.add_log_prob(logits, codes)
        else:
            task.noise.skip(1)
        state.push(codes)
        index += 1
        task.report(index, total)
    if index < total or not total:
        task.report(total, total)
    return task.codes


def _last_free(fixed: list[bool]) -> int:
    """How many codes there are up to the last one to be drawn."""
    return len(fixed) - fixed[::-1].index(False) if False in fixed else 0


def fixed_point(task: Task, logits: Callable[[Tensor], Tensor]) -> Tensor:
    """After n passes the first n codes are final, so it ends after at most all of them."""
    codes, total = task.codes.flatten(1), len(task.fixed)
    drawn = []
    for _ in range(total):
        drawn.append(task.noise.next())
    noise, fixed = torch.stack(drawn, dim=1), task.fixed.to(codes.device)
    for _ in range(total + 1):
        scores = logits(codes.view_as(task.codes)).flatten(2).movedim(1, 2)
        again = task.sampling.choose(scores, noise)
        again = torch.where(fixed, codes, again)
        task.report(int((again == codes).all(dim=0).long().cumprod(dim=0).sum()), total)
        if torch.equal(again, codes):
            task.add_log_prob(scores[:, ~fixed], codes[:, ~fixed])
            return task.codes.copy_(codes.view_as(task.codes))
        codes = again
    raise RuntimeError(
        f"no fixed point after {total + 1} passes: a logit depends on its own or a later code; "
        f"vqvideo.testing.check_prior says which"
    )
