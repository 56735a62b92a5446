"""Laws of what a quantizer is trained by: its losses, and where gradients go."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vqvideo.quantizers import Quantized, Quantizer
from vqvideo.testing.quantizer_setup import Build, in_both_modes, trained_quantizer

READ = "vqvideo.quantizers.Quantized"
FAINT = 1e-6  # a gradient below this share of what is passed back is none
Gradient = Tensor | None


def losses_and_perplexity_are_in_range(build: Build, rank: int) -> None:
    """Losses are finite scalars of at least 0, the perplexity lies in [1, K]."""
    for quantizer, z_e, where in in_both_modes(build, rank):
        out = quantizer(z_e)
        for name in ("commitment_loss", "codebook_loss"):
            loss = getattr(out, name)
            assert loss.shape == () and loss >= 0 and loss.isfinite(), (
                f"{where}: the {name} is {loss}"
            )
        perplexity = out.perplexity.item()
        assert 1 - 1e-4 <= perplexity <= quantizer.codebook_size + 1e-4, (
            f"{where}: a perplexity of {perplexity:.3f} lies outside [1, K], K = "
            f"{quantizer.codebook_size}"
        )


def gradient_passes_straight_through(build: Build, rank: int) -> None:
    """The gradient that reaches z_q reaches z_e unchanged (section 3.2 of the paper)."""
    for quantizer, z_e, where in in_both_modes(build, rank):
        outgoing, incoming = _gradient(quantizer, z_e, where)
        apart = incoming if outgoing is None else outgoing - incoming
        assert not apart.any(), (
            f"{where}: the straight-through gradient is not the identity: z_e gets what z_q got "
            f"changed by up to {apart.abs().max().item():.1e}"
        )


def gradient_reaches_z_e(build: Build, rank: int) -> None:
    """Every channel of z_e gets some gradient from z_q, and all of it is finite."""
    for quantizer, z_e, where in in_both_modes(build, rank):
        outgoing, incoming = _gradient(quantizer, z_e, where)
        assert outgoing is not None and outgoing.isfinite().all(), (
            f"{where}: no finite gradient reaches z_e"
        )
        most = outgoing.movedim(1, 0).flatten(1).abs().amax(dim=1) / incoming.abs().max()
        deaf = torch.nonzero(most < FAINT).flatten()
        assert not len(deaf), f"{where}: channels {deaf.tolist()} of z_e get no gradient"


def losses_are_those_of_equation_3(build: Build, rank: int) -> None:
    """The commitment loss is the mean of (z_e - z_q)^2, the codebook loss the same or zero."""
    for quantizer, z_e, where in in_both_modes(build, rank):
        out = quantizer(z_e)
        expected = (z_e - out.z_q).double().square().mean().item()
        assert abs(out.commitment_loss.item() - expected) < 1e-4 * max(expected, 1), (
            f"{where}: the commitment loss is {out.commitment_loss.item():.5f}, "
            f"the mean square of z_e - z_q {expected:.5f}"
        )
        loss = out.codebook_loss.item()
        assert loss == 0 or abs(loss - expected) < 1e-4 * max(expected, 1), (
            f"{where}: the codebook loss is {loss:.5f}, neither 0 nor {expected:.5f}"
        )


def training_moves_all_that_it_should(build: Build, rank: int) -> None:
    """In training the commitment loss gives z_e a gradient and the codebook loss the entries,
    unless they are zero; every parameter that is to be trained gets one from z_q or from a loss.
    """
    quantizer, z_e, out = _in_training(build, rank)
    trained = _trained(quantizer)
    commitment = _gradients(out.commitment_loss, [z_e, *trained.values()])
    codebook = _gradients(out.codebook_loss, [z_e, *trained.values()])
    passed_on = _gradients(out.z_q.square().sum(), [z_e, *trained.values()])
    assert out.commitment_loss == 0 or _moves(commitment[0]), (
        f"rank {rank}: the commitment loss is {out.commitment_loss.item():.5f} and gives z_e no "
        f"gradient: training cannot lower it"
    )
    assert out.codebook_loss == 0 or any(map(_moves, codebook[1:])), (
        f"rank {rank}: the codebook loss is {out.codebook_loss.item():.5f} and gives no entry a "
        f"gradient: training cannot lower it"
    )
    for number, name in enumerate(trained, 1):
        assert any(_moves(each[number]) for each in (commitment, codebook, passed_on)), (
            f"rank {rank}: {name} is to be trained and gets no gradient"
        )


def each_loss_stops_the_other_gradient(build: Build, rank: int) -> None:
    """The commitment loss moves z_e alone, by the gradient of (z_e - sg[e])^2, the codebook loss
    the entries alone: the stop-gradients of eq. 3.
    """
    quantizer, z_e, out = _in_training(build, rank)
    trained = list(_trained(quantizer).values())
    to_z_e, *to_entries = _gradients(out.commitment_loss, [z_e, *trained])
    expected = 2 * (z_e - out.z_q).detach() / z_e.numel()
    apart = expected if to_z_e is None else to_z_e - expected
    assert apart.abs().max() < 1e-4 * expected.abs().max(), (
        f"rank {rank}: the commitment loss gives z_e another gradient than that of "
        f"(z_e - sg[e])^2, by up to {apart.abs().max().item():.1e}"
    )
    assert not any(map(_moves, to_entries)), (
        f"rank {rank}: the commitment loss moves entries; it must move z_e alone"
    )
    assert not _moves(_gradients(out.codebook_loss, [z_e])[0]), (
        f"rank {rank}: the codebook loss moves z_e; it must move entries alone"
    )


def _in_training(build: Build, rank: int) -> tuple[Quantizer, Tensor, Quantized]:
    """A quantizer in training, z_e that takes a gradient, and what it makes of it."""
    quantizer, z_e = trained_quantizer(build, rank)
    quantizer.train().auto_step = False
    return quantizer, z_e.requires_grad_(), quantizer(z_e)


def _trained(quantizer: Quantizer) -> dict[str, nn.Parameter]:
    return {name: each for name, each in quantizer.named_parameters() if each.requires_grad}


def _gradients(loss: Tensor, to: Sequence[Tensor]) -> Sequence[Gradient]:
    """None where there is none."""
    if not loss.requires_grad:
        return [None] * len(to)
    return torch.autograd.grad(loss, to, retain_graph=True, allow_unused=True)


def _moves(gradient: Gradient) -> bool:
    return gradient is not None and bool(gradient.any())


def _gradient(quantizer: Quantizer, z_e: Tensor, where: str) -> tuple[Gradient, Tensor]:
    """The gradient of z_e, and the one that z_q got."""
    z_e = z_e.clone().requires_grad_()
    z_q = quantizer(z_e).z_q
    incoming = torch.randn_like(z_q)
    assert z_q.requires_grad, f"{where}: no finite gradient reaches z_e"
    (outgoing,) = torch.autograd.grad(z_q, z_e, incoming, allow_unused=True)
    return outgoing, incoming
