"""A VQ-VAE over codes as a prior: few latents for a grid, codes told them."""

from __future__ import annotations

import math

import pytest
import torch

import vqvideo
from vqvideo import Cond, testing
from vqvideo.priors import VQVAEPrior
from vqvideo.sampling import generate, select_method, stream
from vqvideo.training import TrainingConfig, train_prior

SMALL = {"width": 8, "num_layers": 2}


def build_small_prior(rank=2, codebook_size=5, strides=None, **options):
    return VQVAEPrior(
        rank=rank,
        codebook_size=codebook_size,
        strides=strides or ((1,) * rank,),
        width=8,
        quantizer={"codebook_size": 7, "code_dim": 3},
        bottom=SMALL,
        top=SMALL,
        **options,
    )


@pytest.mark.slow
@pytest.mark.parametrize("num_codebooks", [1, 2])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_it_keeps_the_laws_of_priors_with_latents(rank, num_codebooks):
    def build(*, rank, codebook_size, num_codebooks=1, cond=None):
        return build_small_prior(rank, codebook_size, num_codebooks=num_codebooks, cond=cond)

    testing.check_prior(build, rank, num_codebooks=num_codebooks)


def make_stripes(batch):
    """Grids 4x6 of which each row repeats one of four codes, the same row in all the grid: what
    the whole is like is in no code that stands right before another.
    """
    rows = torch.randint(4, (batch, 1, 1)).expand(-1, 4, 6)
    noise = torch.rand(batch, 4, 6) < 0.5
    return torch.where(noise, torch.randint(4, (batch, 4, 6)), rows)


@pytest.mark.slow
def test_global_latents_are_learnt_and_used():
    """Half of the codes are noise, half one code of the grid's own; the bottom prior sees only one
    position back, so it needs to be told which code that is.
    """
    torch.manual_seed(0)
    prior = VQVAEPrior(
        rank=2,
        codebook_size=4,
        strides=((4, 6),),
        width=16,
        quantizer={"codebook_size": 8, "code_dim": 4, "ema_decay": 0.9},
        bottom={"width": 16, "num_layers": 1, "first_kernel_size": 3},
        top=SMALL,
    )
    optimizer = torch.optim.Adam(prior.parameters(), lr=5e-3)
    for _ in range(250):
        optimizer.zero_grad()
        prior(make_stripes(32)).backward()
        optimizer.step()
    prior.eval()
    codes = make_stripes(64)
    latents = prior.encode_latents(codes)
    assert latents.shape == (64, 1, 1)
    assert len(latents.unique()) >= 4
    with torch.no_grad():
        told = prior._build_cond(prior.quantizer.decode(latents))
        other = Cond(local=told.local.roll(1, dims=0))
        right, wrong = (prior.bottom.log_prob(codes, cond).mean() for cond in (told, other))
        bound = prior.log_prob(codes).mean()
    assert right > wrong + 5  # nats for 24 codes
    exact = 0.625 * math.log(0.625) + 0.375 * math.log(0.125)  # of a code, the grid's own known
    assert bound > 24 * exact - math.log(4) - 2
    drawn = generate(prior, (4, 6), batch=64, seed=1)
    most = torch.stack([(drawn == code).flatten(1).sum(1) for code in range(4)]).amax(0)
    assert most.float().mean() > 13  # as grids of the data have; codes by themselves have 9.6


def test_levels_can_be_stacked():
    torch.manual_seed(0)
    above = {
        "name": "vqvae",
        "strides": ((2, 3),),
        "width": 8,
        "quantizer": {"codebook_size": 6, "code_dim": 3},
        "bottom": SMALL,
        "top": SMALL,
    }
    prior = VQVAEPrior(
        rank=2,
        codebook_size=5,
        strides=((2, 2),),
        width=8,
        quantizer={"codebook_size": 7, "code_dim": 3},
        bottom=SMALL,
        top=above,
    ).eval()
    codes = generate(prior, (4, 6), batch=2, seed=0)
    assert codes.shape == (2, 4, 6)
    assert prior.encode_latents(codes).shape == (2, 2, 3)
    assert prior.top.encode_latents(prior.encode_latents(codes)).shape == (2, 1, 1)
    told = prior._build_cond(prior.quantizer.decode(prior.encode_latents(codes)))
    nats = prior.bottom.log_prob(codes, told) + prior.top.log_prob(prior.encode_latents(codes))
    torch.testing.assert_close(prior.log_prob(codes), nats)
    assert select_method(prior, batch=2) == "cached"


def test_what_it_cannot_do_is_refused_with_the_reason():
    prior = build_small_prior().eval()
    codes = torch.zeros(1, 2, 3, dtype=torch.long)
    with pytest.raises(ValueError, match="known codes are not supported by a prior with latents"):
        generate(prior, (2, 3), known=codes, mask=torch.ones(2, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match="log_prob is not supported by a prior with latents"):
        generate(prior, (2, 3), log_prob=torch.zeros(1, dtype=torch.float64))
    with pytest.raises(ValueError, match="samples latents for a whole grid"):
        stream(prior, (3,))
    with pytest.raises(ValueError, match="supports only class and speaker conditions"):
        build_small_prior(cond={"num_actions": 3})
    with pytest.raises(ValueError, match=r"divi"):
        build_small_prior(strides=((2, 2),)).log_prob(torch.zeros(1, 3, 4, dtype=torch.long))


@pytest.mark.slow
def test_training_moves_the_codebook_of_the_latents_once_a_step(tmp_path):
    """Micro-batches of a step are one batch to it, as to a first stage."""
    torch.manual_seed(0)
    changes = {
        "sample_shape": (16, 16),
        "encoder": {"width": 8, "num_blocks": 1},
        "decoder": {"width": 8, "num_blocks": 1},
        "quantizer": {"codebook_size": 16, "code_dim": 4, "init": "data", "warmup_steps": 1},
        "prior": {
            "name": "vqvae",
            "strides": ((2, 2), (2, 2)),
            "width": 8,
            "quantizer": {"codebook_size": 4, "code_dim": 3, "warmup_steps": 1},
            "bottom": SMALL,
            "top": SMALL,
        },
    }
    codes = [{"codes": each} for each in torch.randint(16, (12, 4, 4))]
    options = {"steps": 3, "eval_every": 3, "precision": "fp32"}
    states = []
    for batch_size, accumulate in ((4, 1), (2, 2)):
        torch.manual_seed(0)
        generator = vqvideo.build("image", **changes)
        latents = generator.prior.quantizer
        before = {name: value.clone() for name, value in latents.state_dict().items()}
        config = TrainingConfig(
            batch_size=batch_size, gradient_accumulation_steps=accumulate, **options
        )
        figures = train_prior(generator, codes, codes, tmp_path / str(batch_size), config)
        assert latents.auto_update
        assert any(not torch.equal(before[name], v) for name, v in latents.state_dict().items())
        assert math.isfinite(figures["nats_per_code"])
        states.append(latents.state_dict())
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-3, atol=1e-4)
    loaded = vqvideo.load(tmp_path / "4")
    assert isinstance(loaded.prior, VQVAEPrior)
    assert loaded.sample(num_samples=2).shape == (2, 3, 16, 16)


@pytest.mark.filterwarnings("ignore:the codebook is initialized from a step")
def test_only_forward_teaches_the_codebook():
    torch.manual_seed(0)
    prior = build_small_prior().train()
    codes = torch.randint(5, (2, 3, 4))
    before = {name: value.clone() for name, value in prior.quantizer.state_dict().items()}
    prior.encode_latents(codes), prior.log_prob(codes), prior.logits(codes)
    for name, value in prior.quantizer.state_dict().items():
        assert torch.equal(value, before[name]), name
    prior(codes)
    assert any(not torch.equal(v, before[n]) for n, v in prior.quantizer.state_dict().items())
