"""Laws of training a whole model: which parameters its losses reach."""

from __future__ import annotations

import copy

import torch

from vqvideo.testing.model_setup import ModelCase

REFERENCE = "vqvideo.vqvae.VQVAE"


def training_reaches_every_parameter(case: ModelCase) -> None:
    """In a training step, every trainable parameter gets a finite gradient from the loss of the
    first stage or the loss of the prior.
    """
    generator, x = copy.deepcopy(case.generator), case.x
    codes = generator.vqvae.encode(x)
    generator.train()
    torch.manual_seed(0)
    first = generator.vqvae.loss(x, cond=generator.select_decoder_cond(case.cond)).total
    second = case._replace(generator=generator).prior(codes, generator.select_prior_cond(case.cond))
    assert first.isfinite() and second.isfinite(), (
        f"the loss is {first.item()} for the first stage and {second.item()} for the prior"
    )
    (first + second).backward()
    trained = {n: p for n, p in generator.named_parameters() if p.requires_grad}
    missing = [name for name, p in trained.items() if p.grad is None]
    assert not missing, f"{len(missing)} parameters get no gradient: {_format_names(missing)}"
    invalid = [n for n, p in trained.items() if p.grad is not None and not p.grad.isfinite().all()]
    assert not invalid, (
        f"{len(invalid)} parameters get a gradient with NaN or infinity: {_format_names(invalid)}"
    )


def reconstruction_and_commitment_teach_the_encoder(case: ModelCase) -> None:
    """In training, the reconstruction term gives z_e, and so the encoder, a gradient through the
    decoder and the codes. The commitment loss does so too, unless it is zero.
    """
    vqvae = copy.deepcopy(case.generator.vqvae).train()
    z_e = vqvae.compute_z_e(case.x).detach().requires_grad_()
    quantized = vqvae.quantizer(z_e)
    parameters = vqvae.predict_parameters(
        quantized.z_q, case.generator.select_decoder_cond(case.cond)
    )
    nll = -vqvae.likelihood.log_prob(parameters, case.x).mean()
    for name, loss in (("reconstruction", nll), ("commitment", quantized.commitment_loss)):
        if name == "commitment" and loss == 0:
            continue
        gradient = None
        if loss.requires_grad:
            (gradient,) = torch.autograd.grad(loss, z_e, retain_graph=True, allow_unused=True)
        assert gradient is not None and gradient.any(), (
            f"the {name} loss is {loss.item():.4g} in training and gives the encoder no gradient"
        )


def _format_names(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
