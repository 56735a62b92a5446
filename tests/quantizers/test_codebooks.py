"""Codebooks against a second computation: updates, start, revival, the faults of others."""

import numpy as np
import pytest
import torch
from torch import nn

from vqvideo.quantizers import EMAQuantizer, VectorQuantizer, nearest_codes

GRIDS = {1: (11,), 2: (4, 5), 3: (3, 4, 5)}
BOTH = [EMAQuantizer, VectorQuantizer]


def clusters(number, dim, per_cluster, seed=0):
    """Vectors around `number` well separated centres, `[n, dim, 1]`."""
    draw = torch.Generator().manual_seed(seed)
    centres = 10 * torch.randn(number, dim, generator=draw)
    noise = 0.1 * torch.randn(per_cluster, number, dim, generator=draw)
    return (centres + noise).flatten(0, 1)[..., None], centres


@pytest.mark.parametrize("rank", GRIDS)
def test_the_moving_average_follows_equations_6_to_8(rank):
    torch.manual_seed(rank)
    quantizer = EMAQuantizer(codebook_size=6, code_dim=3, revive_below=0).train()
    batches = [torch.randn(4, 3, *GRIDS[rank]) for _ in range(5)]
    quantizer(batches[0])
    counts, sums = quantizer.counts.double().numpy(), quantizer.sums.double().numpy()
    for z_e in batches[1:]:
        codes = quantizer(z_e).codes.numpy()
        vectors = np.moveaxis(z_e.double().numpy(), 1, -1)
        for k in range(6):
            counts[k] = 0.99 * counts[k] + 0.01 * (codes == k).sum()
            sums[k] = 0.99 * sums[k] + 0.01 * vectors[codes == k].sum(axis=0)
        total = counts.sum()
        smooth = (counts + 1e-5) / (total + 6 * 1e-5) * total
        np.testing.assert_allclose(quantizer.codebook.numpy(), sums / smooth[:, None], rtol=1e-4)


@pytest.mark.parametrize("build", BOTH)
def test_the_first_training_batch_becomes_the_codebook(build):
    torch.manual_seed(0)
    z_e = torch.randn(2, 4, 30)
    quantizer = build(codebook_size=16, code_dim=4, auto_step=False).train()
    quantizer(z_e)
    vectors = z_e.movedim(1, -1).reshape(-1, 4)
    for entry in quantizer.codebook:
        assert (vectors - entry).abs().sum(dim=1).min() == 0, "an entry is no vector of the batch"
    assert len(quantizer.codebook.unique(dim=0)) == 16


@pytest.mark.parametrize("build", BOTH)
def test_fewer_vectors_than_codes_warns_and_says_what_to_do(build):
    quantizer = build(codebook_size=16, code_dim=4).train()
    with pytest.warns(UserWarning, match=r"6 vectors for 16 codes.*smaller codebook_size"):
        quantizer(torch.randn(2, 4, 3))


@pytest.mark.parametrize("build", BOTH)
def test_a_start_from_data_is_not_scaled_away_by_the_next_steps(build):
    """Elsewhere a start sets sums without counts and the entries shrink to a hundredth."""
    z_e, _ = clusters(8, 4, per_cluster=20)
    torch.manual_seed(0)
    quantizer = build(codebook_size=8, code_dim=4).train()
    quantizer(z_e)
    before = quantizer.codebook.detach().norm()
    for _ in range(20):
        quantizer(z_e)
    assert 0.8 < quantizer.codebook.detach().norm() / before < 1.25


@pytest.mark.parametrize("build", BOTH)
def test_dead_codes_come_back_and_stay(build):
    """Elsewhere a revived entry is overwritten in the same step, or pulled back by old sums."""
    z_e, _ = clusters(8, 4, per_cluster=40)
    torch.manual_seed(0)
    quantizer = build(codebook_size=8, code_dim=4).train()
    quantizer(z_e[:8].repeat(20, 1, 1))
    far = torch.full((4, 4), 1e3)
    quantizer._place(torch.arange(4), far, torch.tensor(1e-3))  # four entries nobody can win
    for _ in range(150):
        quantizer(z_e)
    codes = quantizer.eval()(z_e).codes
    assert len(codes.unique()) == 8
    assert quantizer.codebook.detach().abs().max() < 100


def test_a_revived_entry_is_a_vector_of_the_batch_with_its_statistics_reset():
    z_e, _ = clusters(4, 3, per_cluster=50)
    torch.manual_seed(0)
    quantizer = EMAQuantizer(codebook_size=4, code_dim=3).train()
    quantizer(z_e)
    quantizer.load[2] = 0
    quantizer.codebook[2] = quantizer.sums[2] = 1e6
    quantizer(z_e)
    distance = (z_e[..., 0] - quantizer.codebook[2]).square().sum(dim=1).min()
    assert distance < 1e-9
    torch.testing.assert_close(quantizer.sums[2] / quantizer.counts[2], quantizer.codebook[2])


def test_an_entry_is_dead_by_its_share_of_the_load_not_by_a_count():
    """With fewer vectors than codes per step, an absolute threshold replaces half of them."""
    torch.manual_seed(0)
    quantizer = EMAQuantizer(codebook_size=64, code_dim=2).train()
    z_e = torch.randn(1, 2, 64)
    quantizer(z_e)
    before = quantizer.codebook.clone()
    quantizer(z_e[..., :32])  # half of the entries win nothing in this step
    assert torch.allclose(quantizer.codebook, before, atol=1e-2)


@pytest.mark.parametrize("build", BOTH)
def test_nothing_moves_before_step(build):
    torch.manual_seed(0)
    quantizer = build(codebook_size=5, code_dim=3, auto_step=False).train()
    quantizer(torch.randn(2, 3, 9))
    before = quantizer.codebook.detach().clone()
    load = quantizer.load.clone()
    for _ in range(3):
        quantizer(torch.randn(2, 3, 9))
    assert torch.equal(quantizer.codebook, before)
    assert torch.equal(quantizer.load, load)


def test_two_half_batches_and_one_step_are_one_whole_batch():
    torch.manual_seed(0)
    whole = EMAQuantizer(codebook_size=5, code_dim=3, auto_step=False, revive_below=0).train()
    whole(torch.randn(4, 3, 9))
    whole.step()
    halves = EMAQuantizer(codebook_size=5, code_dim=3, auto_step=False, revive_below=0).train()
    halves.load_state_dict(whole.state_dict())
    z_e = torch.randn(4, 3, 9)
    whole(z_e)
    halves(z_e[:2])
    halves(z_e[2:])
    whole.step()
    halves.step()
    torch.testing.assert_close(halves.state_dict(), whole.state_dict())


def test_the_gradient_codebook_gets_the_gradient_of_eq_3():
    torch.manual_seed(0)
    quantizer = VectorQuantizer(codebook_size=5, code_dim=3).train()
    quantizer(torch.randn(2, 3, 9))
    z_e = torch.randn(2, 3, 9)
    out = quantizer(z_e)
    out.codebook_loss.backward()
    expected = torch.zeros(5, 3)
    for code, vector in zip(out.codes.flatten(), z_e.movedim(1, -1).reshape(-1, 3), strict=True):
        expected[code] += 2 * (quantizer.codebook[code] - vector).detach() / z_e.numel()
    torch.testing.assert_close(quantizer.codebook.grad, expected)


def test_the_moving_average_codebook_has_no_parameter():
    assert not list(EMAQuantizer(codebook_size=4, code_dim=2).parameters())


@pytest.mark.parametrize("build", BOTH)
def test_masked_positions_count_in_no_loss_and_no_statistic(build):
    torch.manual_seed(0)
    masked = build(codebook_size=5, code_dim=3).train()
    masked(torch.randn(2, 3, 9))
    plain = build(codebook_size=5, code_dim=3).train()
    plain.load_state_dict(masked.state_dict())
    z_e = torch.randn(2, 3, 9)
    spoilt = z_e.clone()
    spoilt[:, :, 6:] = 100
    mask = torch.zeros(2, 9, dtype=torch.bool)
    mask[:, :6] = True
    torch.manual_seed(1)
    one = masked(spoilt, mask)
    torch.manual_seed(1)
    other = plain(z_e[:, :, :6])
    torch.testing.assert_close(one.commitment_loss, other.commitment_loss)
    torch.testing.assert_close(one.codebook_loss, other.codebook_loss)
    torch.testing.assert_close(one.perplexity, other.perplexity)
    torch.testing.assert_close(masked.state_dict(), plain.state_dict())


@pytest.mark.parametrize("build", BOTH)
def test_the_search_is_float32_under_autocast(build):
    torch.manual_seed(0)
    quantizer = build(codebook_size=64, code_dim=8).train()
    z_e = torch.randn(4, 8, 40)
    quantizer(z_e)
    plain = quantizer.eval()(z_e)
    with torch.autocast("cpu", torch.bfloat16):
        cast = quantizer(z_e)
    assert torch.equal(cast.codes, plain.codes)
    assert cast.z_q.dtype == torch.float32


def test_ties_go_to_the_lowest_index():
    codebook = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    assert nearest_codes(torch.tensor([[0.9, 0.0], [0.0, 0.9]]), codebook).tolist() == [0, 1]


def test_the_search_is_right_far_from_the_origin_and_beside_a_stray_entry():
    draw = torch.Generator().manual_seed(0)
    codebook = torch.randn(64, 8, generator=draw) + 1000
    vectors = codebook[torch.arange(64)] + 0.01 * torch.randn(64, 8, generator=draw)
    assert torch.equal(nearest_codes(vectors, codebook), torch.arange(64))
    codebook[7] = 1e6
    others = torch.arange(64) != 7
    assert torch.equal(nearest_codes(vectors[others], codebook), torch.arange(64)[others])


@pytest.mark.parametrize("dtype", [torch.double, torch.bfloat16])
@pytest.mark.parametrize("build", BOTH)
def test_a_quantizer_in_another_precision_trains(build, dtype):
    torch.manual_seed(0)
    quantizer = build(codebook_size=5, code_dim=3).to(dtype).train()
    for _ in range(3):
        out = quantizer(torch.randn(2, 3, 9, dtype=dtype))
    assert out.z_q.dtype == dtype
    assert quantizer.codebook.isfinite().all()


def test_chunks_of_the_search_do_not_show(monkeypatch):
    torch.manual_seed(0)
    vectors, codebook = torch.randn(101, 6), torch.randn(33, 6)
    whole = nearest_codes(vectors, codebook)
    monkeypatch.setattr("vqvideo.quantizers.codebook.SCORES_AT_ONCE", 33 * 7)
    assert torch.equal(nearest_codes(vectors, codebook), whole)
    assert torch.equal(torch.cdist(vectors, codebook).argmin(dim=1), whole)


@pytest.mark.parametrize("build", BOTH)
def test_an_empty_batch_gives_empty_codes_and_moves_nothing(build):
    torch.manual_seed(0)
    quantizer = build(codebook_size=5, code_dim=3).train()
    quantizer(torch.randn(2, 3, 9))
    before = {name: value.clone() for name, value in quantizer.state_dict().items()}
    out = quantizer(torch.randn(0, 3, 9))
    assert out.codes.shape == (0, 9)
    assert out.commitment_loss == 0
    torch.testing.assert_close(quantizer.state_dict(), before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"codebook_size": 0}, "codebook_size and code_dim must be at least 1"),
        ({"revive_below": 1.0}, r"revive_below must lie in \[0, 1\)"),
    ],
)
@pytest.mark.parametrize("build", BOTH)
def test_impossible_options_are_refused(build, options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)


def test_a_decay_of_one_is_refused():
    with pytest.raises(ValueError, match=r"ema_decay must lie in \[0, 1\), got 1"):
        EMAQuantizer(ema_decay=1.0)


def test_wrong_channels_say_what_is_expected():
    with pytest.raises(ValueError, match=r"code_dim=3, \*grid\], got \[2, 4, 5\]"):
        VectorQuantizer(codebook_size=5, code_dim=3)(torch.randn(2, 4, 5))


def test_codes_outside_the_codebook_are_refused():
    with pytest.raises(ValueError, match=r"\[0, 5\), got values from 0 to 5"):
        VectorQuantizer(codebook_size=5, code_dim=3).decode(torch.tensor([[0, 5]]))


def test_a_codebook_learns_the_centres_of_clusters():
    z_e, centres = clusters(8, 4, per_cluster=100)
    torch.manual_seed(0)
    quantizer = EMAQuantizer(codebook_size=32, code_dim=4, ema_decay=0.9).train()
    for _ in range(100):
        quantizer(z_e)
    assert (
        torch.cdist(centres, quantizer.codebook).min(dim=1).values.max() < 0.3
    )  # of 10 between centres


def test_a_quantizer_is_a_module_whose_state_is_all_in_buffers():
    quantizer = EMAQuantizer(codebook_size=5, code_dim=3)
    assert isinstance(quantizer, nn.Module)
    assert set(quantizer.state_dict()) == {"load", "initialised", "codebook", "counts", "sums"}
