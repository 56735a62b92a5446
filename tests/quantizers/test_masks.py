"""Positions under a false mask count nowhere: not in a loss, not in a start, not in a codebook."""

import copy

import numpy as np
import pytest
import torch

from vqvideo.quantizers import QUANTIZERS, EMAQuantizer, VectorQuantizer
from vqvideo.testing.grids import GRIDS, assert_equal, find_differences

BOTH = [EMAQuantizer, VectorQuantizer]
SMALL = {"codebook_size": 5, "code_dim": 3}
KINDS = {
    "ema": ("ema", SMALL),
    "ema kmeans": ("ema", {**SMALL, "init": "kmeans"}),
    "vector": ("vector", SMALL),
    "vector projected": ("vector", {**SMALL, "z_channels": 6}),
    "ema cosine": ("ema", {**SMALL, "cosine": True}),
    "product": ("product", {"part": SMALL}),
    "residual": ("residual", {"part": SMALL}),
    "finite-scalar": ("finite-scalar", {"levels": (3, 4, 5)}),
}


def build_quantizer(name, seed=0):
    torch.manual_seed(seed)
    return QUANTIZERS.build(*KINDS[name]).train()


def make_masked(items, grid, seed=0):
    """A mask with gaps, of which each item has another number; the last item is all gap."""
    draw = torch.Generator().manual_seed(seed)
    share = torch.linspace(0.9, 0.0, items).view(-1, *[1] * len(grid))
    return torch.rand(items, *grid, generator=draw) < share


@pytest.mark.slow
@pytest.mark.parametrize("rank", GRIDS)
@pytest.mark.parametrize("name", KINDS)
def test_what_stands_in_the_gaps_never_shows(name, rank):
    """From the start of the codebook on, over several steps."""
    one = build_quantizer(name)
    other = copy.deepcopy(one)
    for step in range(5):
        z_e = torch.randn(4, one.z_channels, *GRIDS[rank])
        mask = make_masked(4, GRIDS[rank], seed=step)
        spoilt = torch.where(mask[:, None], z_e, 5 * z_e + 100)
        mine, theirs = one(z_e, mask), other(spoilt, mask)
        assert torch.equal(mine.codes[mask], theirs.codes[mask])
        for scalar in ("commitment_loss", "codebook_loss", "perplexity"):
            torch.testing.assert_close(getattr(mine, scalar), getattr(theirs, scalar))
        assert_equal(one, other, f"at step {step} what stands in the gaps changes")


@pytest.mark.parametrize("name", KINDS)
def test_a_mask_of_all_true_is_no_mask(name):
    one = build_quantizer(name)
    other = copy.deepcopy(one)
    for _ in range(4):
        z_e = torch.randn(4, one.z_channels, 4, 5)
        mine, theirs = one(z_e), other(z_e, torch.ones(4, 4, 5, dtype=torch.bool))
        torch.testing.assert_close(mine, theirs)
        for mine, theirs in zip(one.buffers(), other.buffers(), strict=True):
            torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("build", BOTH)
def test_masked_positions_count_in_no_loss_and_no_statistic(build):
    """A crop of the batch gives what the mask of that crop gives."""
    torch.manual_seed(0)
    masked = build(**SMALL, dead_code_threshold=0).train()
    masked(torch.randn(2, 3, 9))
    plain = copy.deepcopy(masked)
    z_e = torch.randn(2, 3, 9)
    spoilt = z_e.clone()
    spoilt[:, :, 6:] = 100
    mask = torch.zeros(2, 9, dtype=torch.bool)
    mask[:, :6] = True
    one, other = masked(spoilt, mask), plain(z_e[:, :, :6])
    torch.testing.assert_close(one.commitment_loss, other.commitment_loss)
    torch.testing.assert_close(one.codebook_loss, other.codebook_loss)
    torch.testing.assert_close(one.perplexity, other.perplexity)
    torch.testing.assert_close(masked.state_dict(), plain.state_dict())


@pytest.mark.parametrize("rank", GRIDS)
@pytest.mark.parametrize("build", BOTH)
def test_losses_and_statistics_are_those_of_the_counted_vectors_one_by_one(build, rank):
    torch.manual_seed(rank)
    quantizer = build(**SMALL, dead_code_threshold=0).train()
    quantizer(torch.randn(3, 3, *GRIDS[rank]))
    usage_ema, entries = quantizer.usage_ema.clone(), quantizer.codebook.detach().clone()
    z_e = torch.randn(3, 3, *GRIDS[rank])
    mask = make_masked(3, GRIDS[rank])
    out = quantizer(z_e, mask)
    squares, counts = [], np.zeros(5)
    for place in torch.nonzero(mask).tolist():
        item, *position = place
        vector = z_e[(item, slice(None), *position)]
        code = int((entries - vector).square().sum(dim=1).argmin())
        assert out.codes[tuple(place)] == code
        squares += (entries[code] - vector).square().tolist()
        counts[code] += 1
    assert out.commitment_loss.item() == pytest.approx(np.mean(squares), rel=1e-5)
    if build is VectorQuantizer:
        assert out.codebook_loss.item() == pytest.approx(np.mean(squares), rel=1e-5)
    np.testing.assert_allclose(
        quantizer.usage_ema, 0.95 * usage_ema.numpy() + 0.05 * counts, rtol=1e-5
    )


@pytest.mark.parametrize("build", BOTH)
def test_a_codebook_is_initialized_from_unmasked_vectors_of_all_items(build):
    torch.manual_seed(0)
    z_e = torch.randn(4, 3, 30)
    mask = make_masked(4, (30,))
    quantizer = build(codebook_size=int(mask.sum()), code_dim=3).train()
    quantizer(z_e, mask)
    entries, counted = quantizer.codebook.detach(), z_e.movedim(1, -1)[mask]
    assert {tuple(e) for e in entries.tolist()} == {tuple(v) for v in counted.tolist()}


@pytest.mark.parametrize("name", KINDS)
def test_a_batch_of_which_nothing_counts_moves_nothing_and_costs_nothing(name):
    quantizer = build_quantizer(name)
    for _ in range(4):
        quantizer(torch.randn(4, quantizer.z_channels, 9))
    before = copy.deepcopy(quantizer.state_dict())
    z_e = torch.randn(4, quantizer.z_channels, 9, requires_grad=True)
    out = quantizer(z_e, torch.zeros(4, 9, dtype=torch.bool))
    assert out.commitment_loss == out.codebook_loss == 0
    assert out.perplexity == 1
    assert not find_differences(before, quantizer.state_dict())
    (out.z_q.sum() + out.commitment_loss + out.codebook_loss).backward()
    assert z_e.grad.isfinite().all()


@pytest.mark.parametrize("name", KINDS)
def test_masked_positions_are_still_quantized(name):
    quantizer = build_quantizer(name)
    for _ in range(4):
        quantizer(torch.randn(4, quantizer.z_channels, 9))
    quantizer.eval()
    z_e = torch.randn(4, quantizer.z_channels, 9)
    out = quantizer(z_e, make_masked(4, (9,)))
    assert torch.equal(out.z_q, quantizer(z_e).z_q)
    assert torch.equal(out.z_q, quantizer.decode(out.codes))


def test_nan_under_a_false_mask_is_nobodys_business():
    torch.manual_seed(0)
    quantizer = EMAQuantizer(codebook_size=5, code_dim=3).train()
    quantizer(torch.randn(2, 3, 9))
    z_e, mask = torch.randn(2, 3, 9), torch.ones(2, 9, dtype=torch.bool)
    mask[1, 4:] = False
    z_e[1, :, 4:] = float("nan")
    out = quantizer(z_e, mask)
    assert out.commitment_loss.isfinite()
    assert quantizer.codebook.isfinite().all()
    z_e[0, 2, 3] = float("inf")
    with pytest.raises(ValueError, match=r"holds 1 values.*\[0, 2, 3\]"):
        quantizer(z_e, mask)
