"""Step-by-step evaluation of an embedding, a causal network and a head, as a prior has them.

Sampling step by step is a chain of small matrix products, and the overhead of the calls exceeds the
time of the computation. So for the convolutional network the horizontal stack, the head and the
choice of a code are also one compiled loop that samples up to a whole row (kernels.py), close to
the time needed to read the weights once. It shares its buffers with the state, so the two can
alternate: where the two highest scores are closer than the rounding error, the state decides.
"""

from __future__ import annotations

import importlib.util
from types import ModuleType
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqvideo.cond import Cond
from vqvideo.incremental.attention import AttentionState
from vqvideo.incremental.causal import CausalState
from vqvideo.nets.attention import AttentionNet
from vqvideo.nets.causal import CausalNet
from vqvideo.nets.head import CodeHead
from vqvideo.sampling import FusedSampler, SamplingParams

TIE_TOLERANCE = 1e-4  # difference of two scores at temperature 1
MIN_TEMPERATURE = 1e-30  # at this temperature only the highest score can win


class NetworkModel(Protocol):
    """Model that a `NetworkState` evaluates; see `vqvideo.priors.network.NetworkPrior`."""

    rank: int
    num_codebooks: int
    is_unbounded: bool
    embedding: nn.Embedding
    head: CodeHead
    net: nn.Module

    def embed(self, codes: Tensor) -> Tensor: ...

    def embed_cond(self, cond: Cond | None, batch: int, grid: tuple[int, ...]) -> Tensor | None: ...


class NetworkState:
    """Step-by-step evaluation without gradients; see `vqvideo.sampling.PriorState`.

    The state is kept outside the modules, so any number of samplers can share a model.
    """

    net: CausalState | AttentionState

    @torch.no_grad()
    def __init__(
        self, model: NetworkModel, batch: int, grid: tuple[int, ...], cond: Cond | None
    ) -> None:
        if len(grid) != model.rank:
            raise ValueError(f"grid must have {model.rank} axes, got {grid}")
        self.model, self.batch, self.inner_shape = model, batch, tuple(grid[1:])
        embedded_cond = model.embed_cond(cond, batch, grid)
        net = getattr(model.net, "_orig_mod", model.net)  # the wrapper by `torch.compile`
        num_steps = _count_cond_steps(cond, grid[0]) if model.is_unbounded else grid[0]
        if isinstance(net, CausalNet):
            self.net = CausalState(net, batch, self.inner_shape, embedded_cond, num_steps)
        elif isinstance(net, AttentionNet):
            self.net = AttentionState(net, batch, tuple(grid), embedded_cond, num_steps)
        else:
            raise TypeError(f"override init_state: {type(net).__name__} has no step-by-step state")
        self.head = IncrementalHead(model.head)
        self.embedding_weight = model.embedding.weight.detach()
        self.position_codes: list[Tensor] = []  # codes of the current position so far
        self.hidden: Tensor | None = None  # hidden features, given `position_codes`

    def logits(self) -> Tensor:
        head = self.head
        if self.hidden is None:
            self.hidden = head.compute_hidden(self.net.compute_features())
            for index, codes in enumerate(self.position_codes):
                self.hidden = head.add_code_embedding(self.hidden, index, codes)
        return head.logits(self.hidden, len(self.position_codes))

    def push(self, codes: Tensor) -> None:
        index = len(self.position_codes)
        self.position_codes.append(codes)
        if len(self.position_codes) < self.model.num_codebooks:
            if self.hidden is not None:
                self.hidden = self.head.add_code_embedding(self.hidden, index, codes)
            return
        if index == 0:
            self.net.push(self.embedding_weight.index_select(0, codes))
        else:
            self.net.push(self.model.embed(torch.stack(self.position_codes, dim=-1)).detach())
        self.position_codes, self.hidden = [], None

    @torch.no_grad()
    def prefill(self, codes: Tensor, num_positions: int) -> None:
        if num_positions:
            stacked = codes if self.model.num_codebooks > 1 else codes[..., None]
            self.net.prefill(self.model.embed(stacked), num_positions)

    @torch.no_grad()
    def set_condition(self, cond: Cond | None, num_steps: int) -> None:
        if not self.model.is_unbounded:
            raise ValueError(
                "this prior cannot continue beyond its grid (`Prior.is_unbounded` is false)"
            )
        embedded_cond = self.model.embed_cond(cond, self.batch, (num_steps, *self.inner_shape))
        self.net.set_condition(embedded_cond, _count_cond_steps(cond, num_steps))
        self.hidden = None

    def build_fused_sampler(self) -> FusedSampler:
        weight = self.embedding_weight
        if not isinstance(self.net, CausalState):
            raise ValueError("it supports convolutional priors only")
        if importlib.util.find_spec("numba") is None:
            raise ValueError("numba is not installed: pip install 'vqvideo[fast]'")
        if self.batch != 1:
            raise ValueError(f"it requires a batch of 1, got {self.batch}")
        if weight.device.type != "cpu" or weight.dtype != torch.float32:
            raise ValueError(
                f"it requires float32 on the CPU, got {weight.dtype} on {weight.device}"
            )
        if torch.is_autocast_enabled("cpu"):
            raise ValueError("it requires float32, but autocast is enabled")
        try:
            from vqvideo.incremental import kernels
        except (ImportError, RuntimeError) as cause:  # RuntimeError: no writable compilation cache
            raise ValueError(f"numba failed to import: {cause}") from cause
        return NumbaSampler(self, self.net, kernels)


def _count_cond_steps(cond: Cond | None, num_steps: int) -> int | None:
    """Return the number of steps for which a condition holds; None means for all."""
    varies = cond is not None and (cond.actions is not None or cond.local is not None)
    return num_steps if varies else None


class IncrementalHead:
    """`CodeHead` for one position at a time, with the weights stored transposed for `addmm`."""

    def __init__(self, head: CodeHead) -> None:
        norm, _, linear = head.hidden
        assert isinstance(norm, nn.LayerNorm)
        self.norm = norm.normalized_shape, norm.weight.detach(), norm.bias.detach(), norm.eps
        self.hidden_weight, self.hidden_bias = _transpose_weight(linear)
        self.code_embeddings = [table.weight.detach() for table in head.code_embeddings]  # type: ignore[operator]
        self.out, self.out_bias = zip(*map(_transpose_weight, head.out), strict=True)

    def compute_hidden(self, features: Tensor) -> Tensor:
        """Return the output of `CodeHead.hidden` for features `[b, width]`."""
        normed = F.layer_norm(features, *self.norm)
        return torch.addmm(self.hidden_bias, normed.relu_(), self.hidden_weight)

    def add_code_embedding(self, hidden: Tensor, index: int, codes: Tensor) -> Tensor:
        """Condition the hidden features on the codes of codebook `index`."""
        return hidden + self.code_embeddings[index].index_select(0, codes)

    def logits(self, hidden: Tensor, index: int) -> Tensor:
        """Return the logits `[b, K]` of codebook `index`, given conditioned hidden features."""
        return torch.addmm(self.out_bias[index], hidden.relu(), self.out[index])


def _transpose_weight(linear: nn.Module) -> tuple[Tensor, Tensor]:
    assert isinstance(linear, nn.Linear)
    return linear.weight.T.detach().contiguous(), linear.bias.detach()


class NumbaSampler:
    """Sampler of codes in one compiled loop; see `vqvideo.sampling.FusedSampler`.

    Args:
        state: state on the CPU, in float32, with a batch of 1.
        net: its network, whose vertical stack is replaced by a compiled one.
        kernels: the module kernels.py, which can be imported only with numba.
    """

    def __init__(self, state: NetworkState, net: CausalState, kernels: ModuleType) -> None:
        self.state, self.net, self.kernels = state, net, kernels
        self.name: str = kernels.SAMPLER_NAME
        head, stack = state.head, net.horizontal
        if net.vertical is not None:
            net.vertical = kernels.FusedVerticalStack(net.vertical)
        _, scale, shift, eps = head.norm
        tables = head.code_embeddings
        embeddings = torch.stack(tables) if tables else scale.new_zeros(0, 1, len(scale))
        to_numpy = kernels.to_numpy
        self.history = to_numpy(stack.history[:, :, 0])
        weights = stack.first_weight, stack.left_weights, stack.self_weights, stack.out_weights
        radii = stack.first_kernel_radius, stack.kernel_radius
        self.weights = (*map(to_numpy, weights), np.array(stack.dilations), *radii)
        out = embeddings, torch.stack(head.out), torch.stack(head.out_bias), state.embedding_weight
        hidden = head.hidden_weight, head.hidden_bias
        norm = to_numpy(scale), to_numpy(shift), np.float32(eps)
        self.head = (*norm, *map(to_numpy, (*hidden, *out)))

    def sample(self, noise: Tensor, sampling: SamplingParams, codes: Tensor) -> int:
        """Sample codes into `codes` `[n]`, given noise `[n, K]`; return the number sampled.

        Sampling stops at the end of the row and before a position with a tie, which the
        step-by-step state must resolve.
        """
        net, num_codebooks = self.net, self.state.model.num_codebooks
        if self.state.position_codes:
            return 0  # within a position
        max_positions = min(len(codes) // num_codebooks, net.flush())
        stack, is_greedy = net.horizontal, sampling.temperature == 0
        inverse_temperature = 1.0 if is_greedy else 1 / max(sampling.temperature, MIN_TEMPERATURE)
        num_positions: int = self.kernels.sample_codes(
            self.history,
            stack.get_slot(net.column),
            self.kernels.to_numpy(stack.row_biases[:, :, 0]),
            net.column - stack.row_biases_start,
            self.weights,
            self.head,
            noise.numpy(),
            np.float32(inverse_temperature),
            np.float32(0 if is_greedy else 1),
            np.float32(TIE_TOLERANCE * max(1.0, inverse_temperature)),
            codes[: max_positions * num_codebooks].numpy(),
        )
        if num_positions:
            self.state.hidden = None
            net.advance(num_positions)
        return num_positions * num_codebooks
