"""Laws of training a whole model: whom its losses teach."""

from __future__ import annotations

import copy

import torch

from vqvideo.testing.model_setup import Case

READ = "vqvideo.vqvae.VQVAE"


def training_reaches_every_parameter(case: Case) -> None:
    """A step of training gives a finite gradient to every parameter that is to be trained: by the
    loss of the first stage, and by that of the prior.
    """
    generator, x = copy.deepcopy(case.generator), case.x
    codes = generator.vqvae.encode(x)
    generator.train()
    torch.manual_seed(0)
    first = generator.vqvae.loss(x, cond=generator.for_decoder(case.cond)).total
    second = case._replace(generator=generator).prior(codes, generator.for_prior(case.cond))
    assert first.isfinite() and second.isfinite(), (
        f"the loss is {first.item()} for the first stage and {second.item()} for the prior"
    )
    (first + second).backward()
    trained = {n: p for n, p in generator.named_parameters() if p.requires_grad}
    unreached = [name for name, p in trained.items() if p.grad is None]
    assert not unreached, f"{len(unreached)} parameters get no gradient: {_some(unreached)}"
    spoilt = [n for n, p in trained.items() if p.grad is not None and not p.grad.isfinite().all()]
    assert not spoilt, (
        f"{len(spoilt)} parameters get a gradient with NaN or infinity: {_some(spoilt)}"
    )


def reconstruction_and_commitment_teach_the_encoder(case: Case) -> None:
    """In training the reconstruction term gives z_e, and so the encoder, a gradient through codes
    and decoder; and so does the commitment loss, unless it is zero.
    """
    vqvae = copy.deepcopy(case.generator.vqvae).train()
    z_e = vqvae.z_e(case.x).detach().requires_grad_()
    quantized = vqvae.quantizer(z_e)
    parameters = vqvae.parameters_of(quantized.z_q, case.generator.for_decoder(case.cond))
    nats = -vqvae.likelihood.log_prob(parameters, case.x).mean()
    for name, loss in (("reconstruction", nats), ("commitment", quantized.commitment_loss)):
        if name == "commitment" and loss == 0:
            continue
        gradient = None
        if loss.requires_grad:
            (gradient,) = torch.autograd.grad(loss, z_e, retain_graph=True, allow_unused=True)
        assert gradient is not None and gradient.any(), (
            f"the {name} loss is {loss.item():.4g} in training and gives the encoder no gradient"
        )


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
