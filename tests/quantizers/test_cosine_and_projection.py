"""Codebooks in another space: directions, or fewer channels than z_e has."""

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vqvideo.quantizers import EMAQuantizer, VectorQuantizer
from vqvideo.testing.grids import GRIDS, find_differences

BOTH = [EMAQuantizer, VectorQuantizer]


def build_trained(build, rank=1, **options):
    torch.manual_seed(rank)
    quantizer = build(**{"codebook_size": 6, "code_dim": 3, **options}).train()
    for _ in range(4):
        quantizer(torch.randn(3, quantizer.z_channels, *GRIDS[rank]))
    return quantizer


def to_rows(z_e):
    return np.moveaxis(z_e.detach().double().numpy(), 1, -1).reshape(-1, z_e.shape[1])


def normalize_rows(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


# -- cosine ---------------------------------------------------------------------------------


@pytest.mark.parametrize("rank", GRIDS)
@pytest.mark.parametrize("build", BOTH)
def test_the_smallest_angle_decides(build, rank):
    quantizer = build_trained(build, rank, cosine=True)
    with torch.no_grad():
        quantizer.codebook *= torch.logspace(-2, 2, 6)[:, None]
    entries = quantizer.codebook.detach().double().numpy()
    z_e = torch.randn(2, 3, *GRIDS[rank]) * torch.logspace(-1, 1, GRIDS[rank][-1])
    out = quantizer.eval()(z_e)
    for vector, code, z_q in zip(
        to_rows(z_e), out.codes.flatten().tolist(), to_rows(out.z_q), strict=True
    ):
        angles = [
            math.acos(np.clip(vector @ e / np.linalg.norm(vector) / np.linalg.norm(e), -1, 1))
            for e in entries
        ]
        assert angles[code] < min(angles) + 1e-5
        np.testing.assert_allclose(z_q, normalize_rows(entries[code]), atol=1e-6)


@pytest.mark.parametrize("build", BOTH)
def test_neither_the_length_of_z_e_nor_of_an_entry_matters(build):
    quantizer = build_trained(build, cosine=True).eval()
    z_e = torch.randn(2, 3, 9)
    expected = quantizer(z_e)
    with torch.no_grad():
        quantizer.codebook *= 2.0 ** torch.arange(-3, 3)[:, None]
    torch.testing.assert_close(quantizer(8 * z_e), expected, rtol=0, atol=0)


@pytest.mark.parametrize("build", BOTH)
def test_losses_are_taken_between_directions(build):
    quantizer = build_trained(build, cosine=True)
    entries = quantizer.codebook.detach().double().numpy()
    z_e = torch.randn(2, 3, 9, requires_grad=True)
    out = quantizer(z_e)
    chosen = normalize_rows(entries)[out.codes.flatten()]
    expected = np.square(normalize_rows(to_rows(z_e)) - chosen).mean()
    assert out.commitment_loss.item() == pytest.approx(expected, rel=1e-5)
    if build is VectorQuantizer:
        assert out.codebook_loss.item() == pytest.approx(expected, rel=1e-5)
    (gradient,) = torch.autograd.grad(out.commitment_loss, z_e)
    plain = z_e.detach().double().requires_grad_()
    book = torch.from_numpy(chosen)
    loss = (F.normalize(plain.movedim(1, -1).reshape(-1, 3)) - book).square().mean()
    expected = torch.autograd.grad(loss, plain)[0].float()
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-6)


def test_the_moving_average_is_that_of_directions():
    quantizer = build_trained(EMAQuantizer, cosine=True, dead_code_threshold=0)
    cluster_size, sums = (
        quantizer.cluster_size.double().numpy(),
        quantizer.embed_sum.double().numpy(),
    )
    for _ in range(4):
        z_e = torch.randn(3, 3, 11)
        directions = normalize_rows(to_rows(z_e))
        codes = (directions @ normalize_rows(quantizer.codebook.double().numpy()).T).argmax(axis=1)
        quantizer(z_e)
        for k in range(6):
            cluster_size[k] = 0.99 * cluster_size[k] + 0.01 * (codes == k).sum()
            sums[k] = 0.99 * sums[k] + 0.01 * directions[codes == k].sum(axis=0)
        np.testing.assert_allclose(quantizer.codebook, sums / cluster_size[:, None], rtol=1e-3)


@pytest.mark.parametrize("build", BOTH)
def test_a_cosine_codebook_is_initialized_from_directions_and_passes_them_while_warming_up(build):
    torch.manual_seed(0)
    z_e = torch.randn(2, 3, 9) * 50
    quantizer = build(codebook_size=6, code_dim=3, cosine=True).train()
    out = quantizer(z_e)
    np.testing.assert_allclose(to_rows(out.z_q), normalize_rows(to_rows(z_e)), atol=1e-6)
    near = np.abs(quantizer.codebook.detach().numpy()[:, None] - normalize_rows(to_rows(z_e))).max(
        axis=2
    )
    assert (near.min(axis=1) < 1e-6).all()


@pytest.mark.parametrize("build", BOTH)
def test_a_vector_of_length_zero_does_no_harm(build):
    quantizer = build_trained(build, cosine=True)
    z_e = torch.randn(2, 3, 9)
    z_e[0, :, 0] = 0
    z_e.requires_grad_()
    out = quantizer(z_e)
    (out.z_q.sum() + out.commitment_loss + out.codebook_loss).backward()
    assert out.z_q.isfinite().all()
    assert z_e.grad.isfinite().all()
    assert quantizer.codebook.isfinite().all()


# -- projection -----------------------------------------------------------------------------


@pytest.mark.parametrize("code_dim", [2, 8])
@pytest.mark.parametrize("rank", GRIDS)
@pytest.mark.parametrize("build", BOTH)
def test_codes_are_those_of_the_projected_vectors_and_decode_gives_z_q(build, rank, code_dim):
    quantizer = build_trained(build, rank, code_dim=code_dim, z_channels=5).eval()
    z_e = torch.randn(2, 5, *GRIDS[rank])
    out = quantizer(z_e)
    inward, outward = quantizer.project_in.double(), quantizer.project_out.double()
    low = to_rows(z_e) @ inward.weight.detach().numpy().T + inward.bias.detach().numpy()
    entries = quantizer.codebook.detach().double().numpy()
    distances = np.square(low[:, None] - entries[None]).sum(axis=2)
    codes = out.codes.flatten().numpy()
    np.testing.assert_array_equal(codes, distances.argmin(axis=1))
    expected = entries[codes] @ outward.weight.detach().numpy().T + outward.bias.detach().numpy()
    np.testing.assert_allclose(to_rows(out.z_q), expected, rtol=1e-4, atol=1e-5)
    between = np.square(low - entries[codes]).mean()
    assert out.commitment_loss.item() == pytest.approx(between, rel=1e-5)
    quantizer.float()
    assert torch.equal(quantizer.decode(out.codes), out.z_q)


@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize("build", BOTH)
def test_gradients_reach_both_projections_and_z_e(build, cosine):
    quantizer = build_trained(build, z_channels=5, cosine=cosine)
    z_e = torch.randn(2, 5, 9, requires_grad=True)
    out = quantizer(z_e)
    out.z_q.square().mean().backward()
    for name in ("project_in", "project_out"):
        for tensor in getattr(quantizer, name).parameters():
            assert tensor.grad.abs().sum() > 0, f"{name} gets no gradient"
    assert (z_e.grad.abs().sum(dim=(0, 2)) > 0).all()


@pytest.mark.parametrize("build", BOTH)
def test_the_gradient_goes_back_through_both_projections_as_if_nothing_were_between(build):
    quantizer = build_trained(build, z_channels=5)
    z_e = torch.randn(2, 5, 9, requires_grad=True)
    incoming = torch.randn(2, 5, 9)
    (outgoing,) = torch.autograd.grad(quantizer(z_e).z_q, z_e, incoming)
    weights = quantizer.project_out.weight @ quantizer.project_in.weight
    expected = torch.einsum("oi,bon->bin", weights.detach(), incoming)
    torch.testing.assert_close(outgoing, expected)


def test_the_codebook_loss_reaches_the_codebook_alone():
    quantizer = build_trained(VectorQuantizer, z_channels=5)
    z_e = torch.randn(2, 5, 9, requires_grad=True)
    quantizer(z_e).codebook_loss.backward()
    assert quantizer.codebook.grad.abs().sum() > 0
    assert z_e.grad is None
    assert all(p.grad is None for p in quantizer.project_in.parameters())


@pytest.mark.parametrize("build", BOTH)
def test_as_many_channels_as_code_dim_need_no_projection(build):
    quantizer = build(codebook_size=6, code_dim=3, z_channels=3)
    assert quantizer.project_in is quantizer.project_out is None
    assert quantizer.is_nearest_neighbor
    assert build(codebook_size=6, code_dim=3).z_channels == 3


@pytest.mark.parametrize("options", [{"cosine": True}, {"z_channels": 4}])
@pytest.mark.parametrize("build", BOTH)
def test_what_is_no_nearest_neighbor_lookup_says_so(build, options):
    assert not build(codebook_size=6, code_dim=3, **options).is_nearest_neighbor


@pytest.mark.parametrize("build", BOTH)
def test_a_step_moves_no_projection(build):
    quantizer = build_trained(build, z_channels=5)
    before = copy.deepcopy(quantizer.state_dict())
    for _ in range(3):
        quantizer(torch.randn(2, 5, 9))
    changed = find_differences(before, quantizer.state_dict())
    assert not [name for name in changed if name.startswith("project")]
