"""Quantizers one after the other, recomputed stage by stage in numpy."""

import copy
import itertools

import numpy as np
import pytest
import torch

from vqvideo.quantizers import EMAQuantizer, ResidualQuantizer, VectorQuantizer
from vqvideo.testing.grids import GRIDS

BOTH = [EMAQuantizer, VectorQuantizer]


def train(quantizer, rank=1, steps=6):
    torch.manual_seed(rank)
    for _ in range(steps):
        quantizer.train()(torch.randn(4, quantizer.z_channels, *GRIDS[rank]))
    return quantizer


def build_stages(build, number, **options):
    return [build(**{"codebook_size": 6, "code_dim": 3, **options}) for _ in range(number)]


def to_rows(z_e):
    return np.moveaxis(z_e.detach().double().numpy(), 1, -1).reshape(-1, z_e.shape[1])


def find_nearest(vectors, entries):
    return np.square(vectors[:, None] - entries[None]).sum(axis=2).argmin(axis=1)


@pytest.mark.parametrize("rank", GRIDS)
@pytest.mark.parametrize("build", BOTH)
def test_each_stage_takes_what_the_ones_before_left_over(build, rank):
    quantizer = train(ResidualQuantizer(build_stages(build, 3, dead_code_threshold=0)), rank)
    z_e = torch.randn(2, 3, *GRIDS[rank], requires_grad=True)
    books = [part.codebook.detach().double().numpy().copy() for part in quantizer.parts]
    before = copy.deepcopy(quantizer.state_dict())
    out = quantizer(z_e)
    rest, losses, perplexities = to_rows(z_e), [], []
    for stage, entries in enumerate(books):
        codes = find_nearest(rest, entries)
        np.testing.assert_array_equal(out.codes[..., stage].flatten(), codes)
        if build is EMAQuantizer:
            sums = np.zeros((6, 3))
            np.add.at(sums, codes, rest)
            expected = 0.99 * before[f"parts.{stage}.embed_sum"].numpy() + 0.01 * sums
            found = quantizer.parts[stage].embed_sum
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
        rest = rest - entries[codes]
        losses.append(np.square(rest).mean())
        shares = np.bincount(codes) / len(codes)
        perplexities.append(np.exp(-sum(s * np.log(s) for s in shares if s)))
    np.testing.assert_allclose(to_rows(out.z_q), to_rows(z_e) - rest, atol=1e-5)
    assert out.commitment_loss.item() == pytest.approx(sum(losses), rel=1e-5)
    assert out.codebook_loss.item() == pytest.approx(
        sum(losses) if build is VectorQuantizer else 0, rel=1e-5
    )
    assert out.perplexity.item() == pytest.approx(np.mean(perplexities), rel=1e-5)
    incoming = torch.randn_like(z_e)
    (outgoing,) = torch.autograd.grad(out.z_q, z_e, incoming, retain_graph=True)
    assert torch.equal(outgoing, incoming)


def test_the_gradients_of_a_residual_are_those_of_the_sum_of_its_losses():
    quantizer = train(ResidualQuantizer(build_stages(VectorQuantizer, 3)))
    z_e = torch.randn(2, 3, 9, requires_grad=True)
    out = quantizer(z_e)
    (out.commitment_loss + out.codebook_loss).backward()
    rest = z_e.detach().movedim(1, -1).reshape(-1, 3)
    of_z_e = torch.zeros_like(rest)
    for stage, part in enumerate(quantizer.parts):
        codes = out.codes[..., stage].flatten()
        rest = rest - part.codebook.detach()[codes]
        of_z_e += 2 * rest / rest.numel()
        expected = torch.zeros(6, 3).index_add(0, codes, -2 * rest / rest.numel())
        torch.testing.assert_close(part.codebook.grad, expected)
    torch.testing.assert_close(z_e.grad.movedim(1, -1).reshape(-1, 3), of_z_e)


@pytest.mark.parametrize("warmup_steps", [1, 2])
@pytest.mark.parametrize("build", BOTH)
def test_stages_are_initialized_one_after_the_other_and_z_e_passes_until_all_are(
    build, warmup_steps
):
    torch.manual_seed(0)
    quantizer = ResidualQuantizer(build_stages(build, 3, warmup_steps=warmup_steps)).train()
    for step in range(3 * warmup_steps):
        begun = step // warmup_steps
        assert [bool(p.initialized) for p in quantizer.parts] == [s < begun for s in range(3)]
        assert quantizer.is_warming_up
        z_e = torch.randn(4, 3, 9)
        rest = to_rows(z_e)
        for part in quantizer.parts[:begun]:
            entries = part.codebook.detach().double().numpy().copy()
            rest = rest - entries[find_nearest(rest, entries)]
        out = quantizer(z_e)
        torch.testing.assert_close(out.z_q, z_e, rtol=0, atol=1e-6)
        if begun == 0:
            assert torch.equal(out.z_q, z_e)
            assert out.commitment_loss == out.codebook_loss == 0
        if (step + 1) % warmup_steps == 0:
            entries = quantizer.parts[begun].codebook.detach().double().numpy()
            away = np.abs(entries[:, None] - rest[None]).max(axis=2).min(axis=1)
            assert away.max() < 1e-5, "a stage does not start from what is left over"
    assert not quantizer.is_warming_up
    out = quantizer(z_e)
    assert not torch.allclose(out.z_q, z_e, atol=1e-2)


@pytest.mark.parametrize("build", BOTH)
def test_more_stages_leave_a_smaller_error(build):
    torch.manual_seed(0)
    z_e = torch.randn(8, 3, 50)
    errors = []
    for number in range(1, 6):
        parts = build_stages(build, number, codebook_size=16, init="kmeans")
        quantizer = ResidualQuantizer(parts).train()
        for _ in range(number):
            quantizer(z_e)
        errors.append((quantizer.eval()(z_e).z_q - z_e).square().mean().item())
    assert all(after < 0.7 * before for before, after in itertools.pairwise(errors))
