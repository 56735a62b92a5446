"""Muon: momentum with orthogonalized updates for matrices and kernels, AdamW for the rest.

Source: Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks"; the scale of
an update follows Liu et al. 2025, arXiv 2502.16982. timm's and torch's Muon orthogonalize in
bfloat16 on every processor. A CPU without bfloat16 instructions emulates it, which took a hundred
times as long as the rest of a training step; here such a CPU uses float32.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

MIN_SIZE, MAX_ASPECT_RATIO = 4, 128  # of a matrix; others are updated by AdamW
EPS = 1e-7
COEFFICIENTS = (  # of x -> a x + b x^3 + c x^5 on the singular values, one row per iteration
    (4.0848, -6.8946, 2.9270),
    (3.9505, -6.3029, 2.6377),
    (3.7418, -5.5913, 2.3037),
    (2.8769, -3.1427, 1.2046),
    (2.8366, -3.0525, 1.2012),
)


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov momentum; parameters that are not matrices are updated by AdamW.

    A kernel `[out, in, *sizes]` counts as the matrix `[out, in * sizes]`. Matrices of the same
    shape are orthogonalized together.

    Args:
        params: parameters, or groups of them; a group with `use_adamw=True` is updated by AdamW.
        lr: learning rate; a matrix moves by about 0.2 `lr` per entry and step, like with AdamW, so
            rates are comparable.
        weight_decay: decoupled weight decay.
        momentum: decay of the averaged gradient of a matrix, in [0, 1).
        betas: decays of the averages of AdamW.
        dtype: dtype in which matrices are orthogonalized.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 3e-3,
        *,
        weight_decay: float = 0.0,
        momentum: float = 0.9,
        betas: tuple[float, float] = (0.9, 0.95),
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.dtype = dtype
        options = {"weight_decay": weight_decay, "momentum": momentum, "betas": betas}
        super().__init__(params, {"lr": lr, "use_adamw": False, **options})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Update all parameters that have a gradient."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            matrices: dict[tuple[torch.Size, torch.device], list[Tensor]] = defaultdict(list)
            others = []
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                if group["use_adamw"] or not is_matrix(parameter):
                    others.append(parameter)
                else:
                    shape = parameter.flatten(1).shape
                    matrices[shape, parameter.device].append(parameter)
            for parameters in matrices.values():
                self._update_matrices(parameters, group)
            self._update_others(others, group)
        return loss

    def _update_matrices(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        """Update matrices of one shape."""
        updates = []
        for parameter in parameters:
            state, grad = self.state[parameter], parameter.grad
            assert grad is not None
            if not state:
                state["momentum_buffer"] = torch.zeros_like(grad)
            average = state["momentum_buffer"].lerp_(grad, 1 - group["momentum"])
            updates.append(grad.lerp(average, group["momentum"]).flatten(1))
        rows, columns = updates[0].shape
        scale = 0.2 * max(rows, columns) ** 0.5
        for parameter, update in zip(
            parameters, orthogonalize(torch.stack(updates), self.dtype), strict=True
        ):
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
            parameter.add_(update.view(parameter.shape), alpha=-group["lr"] * scale)

    def _update_others(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter] = {
                    "step": torch.zeros(()),
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.zeros_like(parameter),
                }
        states = [self.state[parameter] for parameter in parameters]
        adamw(
            parameters,
            [parameter.grad for parameter in parameters if parameter.grad is not None],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=1e-8,
            maximize=False,
        )


def is_matrix(parameter: Tensor) -> bool:
    """Return whether Muon orthogonalizes the updates of a parameter.

    Vectors, kernels of depthwise convolutions and very flat matrices are updated by AdamW.
    """
    if parameter.ndim < 2 or 1 in parameter.shape[:2]:
        return False
    small, large = sorted(parameter.flatten(1).shape)
    return small >= MIN_SIZE and large <= MAX_ASPECT_RATIO * small


def orthogonalize(matrices: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the nearest matrices with orthonormal rows or columns, approximately.

    Newton-Schulz iterations move all singular values close to 1 without a decomposition.

    Args:
        matrices: `[n, rows, columns]`.
        dtype: dtype of the computation.

    Returns:
        `[n, rows, columns]` in the dtype of the input.
    """
    is_tall = matrices.shape[1] > matrices.shape[2]
    x = (matrices.mT if is_tall else matrices).to(dtype)
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=EPS)
    for a, b, c in COEFFICIENTS:
        gram = x @ x.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return (x.mT if is_tall else x).to(matrices.dtype)
