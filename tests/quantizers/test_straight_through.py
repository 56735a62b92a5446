"""The gradient estimator and the commitment loss, against loops and finite differences."""

import copy

import numpy as np
import pytest
import torch

from vqvideo.quantizers import QUANTIZERS, EMAQuantizer, VectorQuantizer, straight_through
from vqvideo.quantizers.straight_through import CommitmentLoss, StraightThrough
from vqvideo.testing.grids import GRIDS, find_differences

BOTH = [EMAQuantizer, VectorQuantizer]


def build_trained(build, rank=1, **options):
    torch.manual_seed(rank)
    quantizer = build(codebook_size=5, code_dim=3, **options).train()
    for _ in range(3):
        quantizer(torch.randn(2, quantizer.z_channels, *GRIDS[rank]))
    return quantizer


def make_pairs(rows=7, dim=3, dtype=torch.float64):
    draw = torch.Generator().manual_seed(rows)
    vectors = torch.randn(rows, dim, generator=draw, dtype=dtype)
    return vectors.requires_grad_(), torch.randn(rows, dim, generator=draw, dtype=dtype)


def compute_commitment(vectors, nearest, counted=None):
    return CommitmentLoss.apply(vectors, nearest.clone(), counted)  # which it gives back as z_q


MASKS = {
    "all": None,
    "some": torch.tensor([True, False, True, True, False, False, True]),
    "none": torch.zeros(7, dtype=torch.bool),
}


def compute_loss_by_loops(vectors, nearest, counted):
    squares = [
        (a - b) ** 2
        for i, (vector, entry) in enumerate(zip(vectors.tolist(), nearest.tolist(), strict=True))
        if counted is None or counted[i]
        for a, b in zip(vector, entry, strict=True)
    ]
    return sum(squares) / max(len(squares), 1)


def test_straight_through_gives_the_bits_of_one_and_the_gradient_of_the_other():
    z = torch.full((2, 3), 1e8, requires_grad=True)
    z_q = torch.rand(2, 3)
    out = StraightThrough.apply(z, z_q.clone())
    assert torch.equal(out, z_q)
    incoming = torch.randn(2, 3)
    assert torch.equal(torch.autograd.grad(out, z, incoming)[0], incoming)


@pytest.mark.parametrize("counted", MASKS)
def test_the_commitment_loss_is_the_mean_square_over_what_counts(counted):
    vectors, nearest = make_pairs()
    z_q, loss = compute_commitment(vectors, nearest, MASKS[counted])
    assert torch.equal(z_q, nearest)
    assert loss.item() == pytest.approx(compute_loss_by_loops(vectors, nearest, MASKS[counted]))


@pytest.mark.parametrize("counted", MASKS)
def test_the_gradient_of_the_commitment_loss_is_that_of_finite_differences(counted):
    vectors, nearest = make_pairs()
    loss = compute_commitment(vectors, nearest, MASKS[counted])[1]
    (gradient,) = torch.autograd.grad(loss, vectors)
    for row in range(7):
        for channel in range(3):
            moved = []
            for by in (-1e-5, 1e-5):
                other = vectors.detach().clone()
                other[row, channel] += by
                moved.append(compute_commitment(other, nearest, MASKS[counted])[1].item())
            slope = (moved[1] - moved[0]) / 2e-5
            assert gradient[row, channel].item() == pytest.approx(slope, abs=1e-8)


@pytest.mark.parametrize("counted", MASKS)
def test_the_gradients_of_z_q_and_of_the_loss_add_up(counted):
    vectors, nearest = make_pairs()
    z_q, loss = compute_commitment(vectors, nearest, MASKS[counted])
    incoming = torch.randn_like(z_q)
    (of_z_q,) = torch.autograd.grad(z_q, vectors, incoming, retain_graph=True)
    (of_loss,) = torch.autograd.grad(loss, vectors, retain_graph=True)
    assert torch.equal(of_z_q, incoming), "the gradient of z_q must pass where nothing counts too"
    (of_both,) = torch.autograd.grad((z_q * incoming).sum() + 0.25 * loss, vectors)
    torch.testing.assert_close(of_both, of_z_q + 0.25 * of_loss)


@pytest.mark.parametrize("rows_at_once", [1, 3, 7, 100])
def test_the_loss_is_the_same_where_no_gradient_is_asked_for(monkeypatch, rows_at_once):
    monkeypatch.setattr(straight_through, "MAX_CHUNK_ROWS", rows_at_once)
    vectors, nearest = make_pairs()
    for counted in MASKS.values():
        expected = compute_loss_by_loops(vectors, nearest, counted)
        z_q, loss = compute_commitment(vectors.detach(), nearest, counted)
        assert loss.item() == pytest.approx(expected)
        assert torch.equal(z_q, nearest)
        with torch.no_grad():
            assert compute_commitment(vectors, nearest, counted)[1].item() == pytest.approx(
                expected
            )


@pytest.mark.parametrize("needs_gradient", [False, True])
def test_the_loss_of_many_vectors_is_precise(needs_gradient):
    vectors, nearest = make_pairs(rows=40_001, dim=50, dtype=torch.float32)
    loss = compute_commitment(vectors.detach().requires_grad_(needs_gradient), nearest)[1].item()
    expected = np.square((vectors.detach() - nearest).double().numpy()).mean()
    assert loss == pytest.approx(expected, rel=1e-6)


def test_no_vectors_have_no_loss_and_an_empty_gradient():
    vectors = torch.zeros(0, 3, requires_grad=True)
    z_q, loss = compute_commitment(vectors, torch.zeros(0, 3))
    (loss + z_q.sum()).backward()
    assert loss == 0
    assert vectors.grad.shape == (0, 3)


# -- in a quantizer -------------------------------------------------------------------------


@pytest.mark.parametrize("rank", GRIDS)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("build", BOTH)
def test_the_commitment_loss_pulls_z_e_to_its_entries_where_it_counts(build, masked, rank):
    quantizer = build_trained(build, rank)
    z_e = torch.randn(2, 3, *GRIDS[rank], requires_grad=True)
    mask = torch.rand(2, *GRIDS[rank]) < 0.6 if masked else None
    out = quantizer(z_e, mask)
    assert out.commitment_loss.item() > 0
    out.commitment_loss.backward()
    counts = torch.ones(2, *GRIDS[rank]) if mask is None else mask.float()
    expected = 2 * (z_e - out.z_q).detach() * counts[:, None] / (counts.sum() * 3)
    torch.testing.assert_close(z_e.grad, expected)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("rank", GRIDS)
@pytest.mark.parametrize("build", BOTH)
def test_the_gradient_of_z_q_reaches_z_e_unchanged_masked_or_not(build, rank, training):
    quantizer = build_trained(build, rank).train(training)
    mask = torch.rand(2, *GRIDS[rank]) < 0.6
    for given in (None, mask):
        z_e = torch.randn(2, 3, *GRIDS[rank], requires_grad=True)
        z_q = quantizer(z_e, given).z_q
        incoming = torch.randn_like(z_q)
        assert torch.equal(torch.autograd.grad(z_q, z_e, incoming)[0], incoming)


@pytest.mark.parametrize("build", BOTH)
def test_while_warming_up_the_gradient_passes_and_there_is_no_loss(build):
    torch.manual_seed(0)
    quantizer = build(codebook_size=5, code_dim=3, warmup_steps=3).train()
    z_e = torch.randn(2, 3, 9, requires_grad=True)
    out = quantizer(z_e)
    incoming = torch.randn_like(z_e)
    loss = out.commitment_loss + out.codebook_loss
    assert loss == 0
    ((out.z_q * incoming).sum() + loss).backward()
    assert torch.equal(z_e.grad, incoming)


def test_while_warming_up_the_gradient_codebook_has_a_gradient_of_zero():
    """None would stop `DistributedDataParallel`, which waits for every parameter's gradient."""
    torch.manual_seed(0)
    quantizer = VectorQuantizer(codebook_size=5, code_dim=3, warmup_steps=3).train()
    quantizer(torch.randn(2, 3, 9)).codebook_loss.backward()
    assert torch.equal(quantizer.codebook.grad, torch.zeros(5, 3))


def test_the_codebook_loss_reaches_no_encoder_and_the_commitment_loss_no_codebook():
    quantizer = build_trained(VectorQuantizer)
    z_e = torch.randn(2, 3, 9, requires_grad=True)
    out = quantizer(z_e)
    for loss, leaf in [(out.codebook_loss, z_e), (out.commitment_loss, quantizer.codebook)]:
        assert loss > 0
        assert torch.autograd.grad(loss, leaf, allow_unused=True, retain_graph=True)[0] is None
    (of_z_q,) = torch.autograd.grad(out.z_q.sum(), quantizer.codebook, allow_unused=True)
    assert of_z_q is None, "the reconstruction moves no codebook"


@pytest.mark.parametrize("build", BOTH)
def test_a_decoder_may_change_z_q_in_place(build):
    """As one that begins with `nn.ReLU(inplace=True)` does."""
    quantizer = build_trained(build)
    z_e = torch.randn(2, 3, 9, requires_grad=True)
    out = quantizer(z_e)
    kept = out.z_q.detach().clone()
    codebook = quantizer.codebook.detach().clone()
    (torch.relu_(out.z_q).sum() + out.commitment_loss).backward()
    expected = (kept > 0) + 2 * (z_e.detach() - kept) / z_e.numel()
    torch.testing.assert_close(z_e.grad, expected)
    assert torch.equal(quantizer.codebook, codebook)


@pytest.mark.slow
@pytest.mark.parametrize("warms_up", [False, True])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ema", {}),
        ("vector", {}),
        ("ema", {"z_channels": 5}),
        ("vector", {"cosine": True}),
        ("product", {}),
        ("residual", {}),
        ("residual", {"num_codebooks": 1}),
        ("product", {"num_codebooks": 1}),
        ("finite-scalar", {}),
    ],
)
def test_what_a_decoder_writes_into_z_q_reaches_no_codebook_and_no_z_e(name, options, warms_up):
    torch.manual_seed(0)
    quantizer = QUANTIZERS.build(name, options).train()
    z_e = torch.randn(30, quantizer.z_channels, 40)
    for _ in range(0 if warms_up else 3):
        quantizer(z_e)
    quantizer.auto_update = False
    channels_last = torch.randn(30, 40, quantizer.z_channels).movedim(-1, 1)
    for each in (z_e, z_e.clone().requires_grad_(), channels_last):
        before, kept = copy.deepcopy(quantizer.state_dict()), each.detach().clone()
        quantizer(each).z_q.zero_()
        assert torch.equal(each, kept)
        quantizer.eval()(each).z_q.zero_()
        quantizer.decode(quantizer(each).codes).detach().zero_()
        quantizer.train()
        assert torch.equal(each, kept)
        assert not find_differences(before, quantizer.state_dict())
