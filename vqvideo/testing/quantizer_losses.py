"""Laws of the training of a quantizer: its losses and its gradients."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vqvideo.quantizers import Quantized, Quantizer
from vqvideo.testing.quantizer_setup import Build, build_trained_quantizer, iter_modes

REFERENCE = "vqvideo.quantizers.Quantized"
MIN_GRADIENT = 1e-6  # relative to the incoming gradient; anything smaller counts as zero
Gradient = Tensor | None


def losses_and_perplexity_are_in_range(build: Build, rank: int) -> None:
    """Losses are finite, non-negative scalars, and the perplexity lies in [1, K]."""
    for quantizer, z_e, where in iter_modes(build, rank):
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
    """The gradient of z_q is copied to z_e unchanged (section 3.2 of the paper)."""
    for quantizer, z_e, where in iter_modes(build, rank):
        outgoing, incoming = _compute_input_gradient(quantizer, z_e, where)
        error = incoming if outgoing is None else outgoing - incoming
        assert not error.any(), (
            f"{where}: the straight-through gradient is not the identity: the gradients of z_e "
            f"and z_q differ by up to {error.abs().max().item():.1e}"
        )


def gradient_reaches_z_e(build: Build, rank: int) -> None:
    """Every channel of z_e gets a nonzero gradient from z_q, and all gradients are finite."""
    for quantizer, z_e, where in iter_modes(build, rank):
        outgoing, incoming = _compute_input_gradient(quantizer, z_e, where)
        assert outgoing is not None and outgoing.isfinite().all(), (
            f"{where}: no finite gradient reaches z_e"
        )
        peaks = outgoing.movedim(1, 0).flatten(1).abs().amax(dim=1) / incoming.abs().max()
        zero = torch.nonzero(peaks < MIN_GRADIENT).flatten()
        assert not len(zero), f"{where}: channels {zero.tolist()} of z_e get no gradient"


def losses_match_equation_3(build: Build, rank: int) -> None:
    """The commitment loss is the mean of (z_e - z_q)^2; the codebook loss is the same or zero."""
    for quantizer, z_e, where in iter_modes(build, rank):
        out = quantizer(z_e)
        expected = (z_e - out.z_q).double().square().mean().item()
        assert abs(out.commitment_loss.item() - expected) < 1e-4 * max(expected, 1), (
            f"{where}: the commitment loss is {out.commitment_loss.item():.5f}, "
            f"but the mean square of z_e - z_q is {expected:.5f}"
        )
        loss = out.codebook_loss.item()
        assert loss == 0 or abs(loss - expected) < 1e-4 * max(expected, 1), (
            f"{where}: the codebook loss must be 0 or {expected:.5f}, got {loss:.5f}"
        )


def training_reaches_z_e_and_every_parameter(build: Build, rank: int) -> None:
    """In training, the commitment loss gives z_e a gradient and the codebook loss gives one to the
    entries, unless the loss is zero. Every trainable parameter gets a gradient from z_q or a loss.
    """
    quantizer, z_e, out = _forward_training(build, rank)
    parameters = _get_trainable_parameters(quantizer)
    commitment = _compute_gradients(out.commitment_loss, [z_e, *parameters.values()])
    codebook = _compute_gradients(out.codebook_loss, [z_e, *parameters.values()])
    downstream = _compute_gradients(out.z_q.square().sum(), [z_e, *parameters.values()])
    assert out.commitment_loss == 0 or _is_nonzero(commitment[0]), (
        f"rank {rank}: the commitment loss is {out.commitment_loss.item():.5f} and gives z_e no "
        f"gradient, so training cannot lower it"
    )
    assert out.codebook_loss == 0 or any(map(_is_nonzero, codebook[1:])), (
        f"rank {rank}: the codebook loss is {out.codebook_loss.item():.5f} and gives no entry a "
        f"gradient, so training cannot lower it"
    )
    for index, name in enumerate(parameters, 1):
        assert any(_is_nonzero(each[index]) for each in (commitment, codebook, downstream)), (
            f"rank {rank}: {name} is trainable but gets no gradient"
        )


def each_loss_stops_the_other_gradient(build: Build, rank: int) -> None:
    """The commitment loss gives a gradient to z_e only, the one of (z_e - sg[e])^2, and the
    codebook loss to the entries only: the stop-gradients of eq. 3.
    """
    quantizer, z_e, out = _forward_training(build, rank)
    parameters = list(_get_trainable_parameters(quantizer).values())
    z_e_grad, *entry_grads = _compute_gradients(out.commitment_loss, [z_e, *parameters])
    expected = 2 * (z_e - out.z_q).detach() / z_e.numel()
    error = expected if z_e_grad is None else z_e_grad - expected
    assert error.abs().max() < 1e-4 * expected.abs().max(), (
        f"rank {rank}: the gradient of the commitment loss in z_e differs from the gradient of "
        f"(z_e - sg[e])^2 by up to {error.abs().max().item():.1e}"
    )
    assert not any(map(_is_nonzero, entry_grads)), (
        f"rank {rank}: the commitment loss gives entries a gradient; only z_e may get one"
    )
    assert not _is_nonzero(_compute_gradients(out.codebook_loss, [z_e])[0]), (
        f"rank {rank}: the codebook loss gives z_e a gradient; only entries may get one"
    )


def _forward_training(build: Build, rank: int) -> tuple[Quantizer, Tensor, Quantized]:
    """Return a quantizer in training mode, z_e that requires gradients, and the output for it."""
    quantizer, z_e = build_trained_quantizer(build, rank)
    quantizer.train().auto_update = False
    return quantizer, z_e.requires_grad_(), quantizer(z_e)


def _get_trainable_parameters(quantizer: Quantizer) -> dict[str, nn.Parameter]:
    return {name: param for name, param in quantizer.named_parameters() if param.requires_grad}


def _compute_gradients(loss: Tensor, inputs: Sequence[Tensor]) -> Sequence[Gradient]:
    """Return the gradient of a loss for each input, None if it does not depend on the input."""
    if not loss.requires_grad:
        return [None] * len(inputs)
    return torch.autograd.grad(loss, inputs, retain_graph=True, allow_unused=True)


def _is_nonzero(gradient: Gradient) -> bool:
    return gradient is not None and bool(gradient.any())


def _compute_input_gradient(
    quantizer: Quantizer, z_e: Tensor, where: str
) -> tuple[Gradient, Tensor]:
    """Return the gradient of z_e, and the random gradient passed to z_q."""
    z_e = z_e.clone().requires_grad_()
    z_q = quantizer(z_e).z_q
    incoming = torch.randn_like(z_q)
    assert z_q.requires_grad, f"{where}: no finite gradient reaches z_e"
    (outgoing,) = torch.autograd.grad(z_q, z_e, incoming, allow_unused=True)
    return outgoing, incoming
