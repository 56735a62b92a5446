"""Entries that nobody wins any more come back as vectors of the step, and stay."""

import numpy as np
import pytest
import torch

from vqvideo.quantizers import EMAQuantizer, VectorQuantizer

BOTH = [EMAQuantizer, VectorQuantizer]


def make_clusters(number, dim, per_cluster, seed=0):
    """Vectors around `number` well separated centres, `[n, dim, 1]`."""
    draw = torch.Generator().manual_seed(seed)
    centres = 10 * torch.randn(number, dim, generator=draw)
    noise = 0.1 * torch.randn(per_cluster, number, dim, generator=draw)
    return (centres + noise).flatten(0, 1)[..., None]


def kill(quantizer, entries, far=1e3):
    """Put entries where nobody wins them, as if nobody had for long."""
    entries = torch.tensor(entries)
    quantizer.usage_ema[entries] = 0
    away = torch.full((len(entries), quantizer.code_dim), far)
    quantizer._replace_entries(entries, away, torch.full((len(entries),), 1e-3))


def build_initialized(build, z_e, **options):
    torch.manual_seed(0)
    quantizer = build(**{"codebook_size": 8, "code_dim": z_e.shape[1], **options}).train()
    quantizer(z_e)
    return quantizer


def is_among(entries, z_e):
    return (entries.detach()[:, None] == z_e.movedim(1, -1).flatten(0, -2)).all(2).any(1)


@pytest.mark.parametrize("build", BOTH)
def test_dead_codes_come_back_and_stay(build):
    """Elsewhere a revived entry is overwritten in the same step, or pulled back by old sums."""
    z_e = make_clusters(8, 4, per_cluster=40)
    quantizer = build_initialized(build, z_e[:8].repeat(20, 1, 1))
    kill(quantizer, [0, 1, 2, 3])
    for _ in range(150):
        quantizer(z_e)
        assert quantizer.codebook.detach().abs().max() < 100, "not revived, or pulled back"
    codes = quantizer.eval()(z_e).codes
    assert len(codes.unique()) == 8


@pytest.mark.parametrize("build", BOTH)
def test_a_replaced_entry_is_a_vector_of_its_step_and_no_other_entry_is_touched(build):
    z_e = make_clusters(8, 4, per_cluster=10)
    quantizer = build_initialized(build, z_e)
    kill(quantizer, [2, 5])
    before = quantizer.codebook.detach().clone()
    quantizer.auto_update = False
    now = z_e + 0.01
    quantizer(now[:50])
    quantizer(now[50:])
    quantizer.update_codebook()
    is_dead = torch.zeros(8, dtype=torch.bool).index_fill(0, torch.tensor([2, 5]), True)
    assert is_among(quantizer.codebook[is_dead], now).all()
    assert not torch.equal(quantizer.codebook[2], quantizer.codebook[5])
    moved = (quantizer.codebook.detach() - before)[~is_dead].abs().max()
    assert moved == 0 if build is VectorQuantizer else moved < 0.5


def test_a_replaced_entry_has_its_embed_sum_and_cluster_size_reset():
    z_e = make_clusters(4, 3, per_cluster=50)
    quantizer = build_initialized(EMAQuantizer, z_e, codebook_size=4)
    quantizer.usage_ema[2] = 0
    quantizer.codebook[2] = quantizer.embed_sum[2] = 1e6
    quantizer.cluster_size[2] = 123.0
    quantizer(z_e)
    assert is_among(quantizer.codebook[2:3], z_e).all()
    mean_load = 0.95 * (3 / 4) * 50 + 0.05 * 50
    torch.testing.assert_close(quantizer.usage_ema[2].item(), mean_load)
    torch.testing.assert_close(quantizer.cluster_size[2].item(), mean_load)
    torch.testing.assert_close(
        quantizer.embed_sum[2] / quantizer.cluster_size[2], quantizer.codebook[2]
    )


def test_a_replaced_entry_stays_where_it_is_in_the_next_step():
    """With sums of the old and counts of the new it would leap back in the step after."""
    z_e = make_clusters(8, 4, per_cluster=40)
    quantizer = build_initialized(EMAQuantizer, z_e)
    kill(quantizer, [6])
    quantizer(z_e)
    revived = quantizer.codebook[6].clone()
    quantizer(z_e)
    assert (quantizer.codebook[6] - revived).norm() < 1, "of about 10 between centres"


@pytest.mark.parametrize("build", BOTH)
def test_an_entry_is_dead_by_its_share_of_the_usage_not_by_a_count(build):
    """With fewer vectors than codes per step, an absolute threshold replaces half of them."""
    torch.manual_seed(0)
    z_e = torch.randn(1, 2, 64)
    quantizer = build_initialized(build, z_e, codebook_size=64)
    before = quantizer.codebook.detach().clone()
    quantizer(z_e[..., :32])  # half of the entries win nothing in this step
    assert torch.allclose(quantizer.codebook, before, atol=1e-2)


@pytest.mark.parametrize("build", BOTH)
def test_exactly_the_entries_below_the_share_of_the_mean_usage_are_replaced(build):
    z_e = make_clusters(8, 4, per_cluster=10)
    quantizer = build_initialized(build, z_e, dead_code_threshold=0.25)
    quantizer.usage_ema.copy_(torch.tensor([40.0, 0.5, 10, 2, 2.5, 3, 4, 18]))
    before = quantizer.codebook.detach().clone()
    codes = quantizer(z_e[:1]).codes.item()
    share = 0.05 / 8  # one vector for eight entries: the load looks eight times as far back
    load = (1 - share) * np.array([40.0, 0.5, 10, 2, 2.5, 3, 4, 18])
    load[codes] += share
    dead = load < 0.25 * load.mean()
    assert 0 < dead.sum() < 8
    jumped = (quantizer.codebook.detach() - before).abs().sum(dim=1) > 1e-6
    replaced = is_among(quantizer.codebook, z_e[:1]) & jumped
    assert replaced.sum() == 1, "one vector revives one entry"
    assert replaced.nonzero().item() == dead.nonzero()[0][0]
    alive = torch.from_numpy(~dead)
    torch.testing.assert_close(
        quantizer.usage_ema[alive].double().numpy(), load[~dead], rtol=1e-5, atol=0
    )


@pytest.mark.parametrize("build", BOTH)
def test_an_entry_that_wins_no_more_is_replaced_after_77_steps(build):
    """0.95^77 is the first power below 0.02; revival must be quicker than the codebook."""
    z_e = make_clusters(8, 4, per_cluster=40)
    quantizer = build_initialized(build, z_e)
    with torch.no_grad():
        quantizer.codebook[3] = 1e3
        if build is EMAQuantizer:
            quantizer.embed_sum[3] = 1e3 * quantizer.cluster_size[3]
    steps = 0
    while quantizer.codebook[3].detach().abs().max() > 100 and steps < 200:
        quantizer(z_e)
        steps += 1
    assert steps == 77


@pytest.mark.parametrize("build", BOTH)
def test_no_entry_is_replaced_when_the_threshold_is_zero(build):
    z_e = make_clusters(8, 4, per_cluster=10)
    quantizer = build_initialized(build, z_e, dead_code_threshold=0)
    kill(quantizer, [2, 5])
    for _ in range(100):
        quantizer(z_e)
    assert not is_among(quantizer.codebook[[2, 5]], z_e).any()
    assert (quantizer.usage_ema[[2, 5]] == 0).all()
    if build is VectorQuantizer:
        assert (quantizer.codebook[[2, 5]] == 1e3).all()


@pytest.mark.parametrize("build", BOTH)
def test_no_entry_is_replaced_in_evaluation(build):
    z_e = make_clusters(8, 4, per_cluster=10)
    quantizer = build_initialized(build, z_e)
    kill(quantizer, [2, 5])
    quantizer.eval()
    for _ in range(3):
        quantizer(z_e)
        quantizer.update_codebook()
    assert (quantizer.codebook[[2, 5]] == 1e3).all()


@pytest.mark.parametrize("build", BOTH)
def test_with_fewer_vectors_than_dead_entries_the_first_come_back_first(build):
    z_e = make_clusters(8, 4, per_cluster=10)
    quantizer = build_initialized(build, z_e)
    kill(quantizer, [1, 3, 5, 7])
    quantizer(z_e[:3])
    assert is_among(quantizer.codebook[[1, 3, 5]], z_e[:3]).all()
    assert (quantizer.usage_ema[[1, 3, 5]] > 1).all()
    assert quantizer.usage_ema[7] == 0
    quantizer(z_e[3:])
    assert is_among(quantizer.codebook[[7]], z_e[3:]).all()


@pytest.mark.parametrize("build", BOTH)
def test_masked_vectors_replace_no_entry(build):
    z_e = make_clusters(8, 4, per_cluster=10).view(8, 10, 4).movedim(2, 1)
    quantizer = build_initialized(build, z_e)
    kill(quantizer, list(range(1, 8)))
    mask = torch.zeros(8, 10, dtype=torch.bool)
    mask[2, 3] = mask[6, :4] = True
    quantizer(torch.where(mask[:, None], z_e, z_e + 0.5), mask)
    counted = z_e.movedim(1, -1)[mask].T[None]
    assert is_among(quantizer.codebook[1:6], counted).all()
    assert not is_among(quantizer.codebook[6:], z_e).any()


@pytest.mark.slow
@pytest.mark.parametrize("vectors_per_code", [1, 1 / 16, 1 / 64])
def test_codes_that_win_little_because_all_do_are_not_dead(vectors_per_code):
    """With a window of some steps, an entry that is hit every 64th counts as dead by chance."""
    torch.manual_seed(0)
    number = 256
    clusters = 10 * torch.randn(number, 8)
    quantizer = EMAQuantizer(codebook_size=number, code_dim=8).train()
    quantizer(clusters.T[None])
    for _ in range(400):
        hit = torch.randint(number, (int(number * vectors_per_code),))
        quantizer((clusters[hit] + 0.01 * torch.randn(len(hit), 8)).T[None])
    codes = quantizer.eval()(clusters.T[None]).codes
    assert len(codes.unique()) == number


def test_an_entry_that_wins_nothing_stays_where_it_is():
    """With N smoothed and m not, it would run into the origin."""
    torch.manual_seed(0)
    quantizer = EMAQuantizer(
        codebook_size=16, code_dim=3, ema_decay=0.5, dead_code_threshold=0
    ).train()
    z_e = 10 + torch.randn(1, 3, 16)
    quantizer(z_e)
    before = quantizer.codebook.clone()
    for _ in range(60):
        quantizer(z_e[..., :4])
    torch.testing.assert_close(quantizer.codebook, before, rtol=1e-4, atol=1e-3)
