"""How codebooks move and how they stand still, against a second computation."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from vqvideo.quantizers import EMAQuantizer, ResidualQuantizer, VectorQuantizer
from vqvideo.testing.grids import GRIDS, assert_equal, find_differences

BOTH = [EMAQuantizer, VectorQuantizer]


def build_trained(build, rank=1, steps=3, **options):
    torch.manual_seed(rank)
    quantizer = build(**{"codebook_size": 6, "code_dim": 3, **options}).train()
    for _ in range(steps):
        quantizer(torch.randn(3, quantizer.z_channels, *GRIDS[rank]))
    return quantizer


def to_rows(z_e):
    return np.moveaxis(z_e.detach().double().numpy(), 1, -1).reshape(-1, z_e.shape[1])


@pytest.mark.parametrize("decay", [0.99, 0.5, 0.0])
@pytest.mark.parametrize("rank", GRIDS)
def test_the_moving_average_follows_equations_6_to_8(rank, decay):
    options = {"ema_decay": decay, "dead_code_threshold": 0, "steps": 1}
    quantizer = build_trained(EMAQuantizer, rank, **options)
    cluster_size, sums = (
        quantizer.cluster_size.double().numpy(),
        quantizer.embed_sum.double().numpy(),
    )
    for _ in range(4):
        z_e = torch.randn(4, 3, *GRIDS[rank])
        before = quantizer.codebook.double().numpy().copy()
        vectors = to_rows(z_e)
        distances = np.square(vectors[:, None] - before[None]).sum(axis=2)
        codes = distances.argmin(axis=1)  # with the codebook as it was
        np.testing.assert_array_equal(quantizer(z_e).codes.flatten(), codes)
        for k in range(6):
            cluster_size[k] = decay * cluster_size[k] + (1 - decay) * (codes == k).sum()
            sums[k] = decay * sums[k] + (1 - decay) * vectors[codes == k].sum(axis=0)
        expected = (sums + 1e-5 * before) / (cluster_size + 1e-5)[:, None]  # 0/0 stays where it is
        np.testing.assert_allclose(quantizer.codebook, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("build", BOTH)
def test_usage_ema_is_a_moving_average_over_twenty_steps(build):
    quantizer = build_trained(build, steps=1, dead_code_threshold=0)
    expected = quantizer.usage_ema.double().numpy()
    np.testing.assert_allclose(expected, np.full(6, 33 / 6))
    for _ in range(5):
        codes = quantizer(torch.randn(3, 3, 11)).codes.numpy()
        for k in range(6):
            expected[k] = 0.95 * expected[k] + 0.05 * (codes == k).sum()
        np.testing.assert_allclose(quantizer.usage_ema, expected, rtol=1e-5)


@pytest.mark.parametrize("rank", GRIDS)
def test_the_gradient_codebook_gets_the_gradient_of_eq_3(rank):
    quantizer = build_trained(VectorQuantizer, rank)
    z_e = torch.randn(2, 3, *GRIDS[rank])
    out = quantizer(z_e)
    out.codebook_loss.backward()
    entries, vectors = quantizer.codebook.detach().numpy(), to_rows(z_e)
    expected = np.zeros((6, 3))
    loss = 0.0
    for code, vector in zip(out.codes.flatten().tolist(), vectors, strict=True):
        expected[code] += 2 * (entries[code] - vector) / z_e.numel()
        loss += np.square(entries[code] - vector).sum() / z_e.numel()
    np.testing.assert_allclose(quantizer.codebook.grad, expected, rtol=1e-4, atol=1e-6)
    assert out.codebook_loss.item() == pytest.approx(loss, rel=1e-5)


def test_a_step_moves_no_gradient_codebook_that_is_in_use():
    quantizer = build_trained(VectorQuantizer)
    before = quantizer.codebook.detach().clone()
    for _ in range(5):
        quantizer(torch.randn(2, 3, 9) + 1)
    assert torch.equal(quantizer.codebook, before)


def test_the_moving_average_codebook_has_no_parameter_and_no_loss():
    quantizer = build_trained(EMAQuantizer)
    assert not list(quantizer.parameters())
    out = quantizer(torch.randn(2, 3, 9))
    assert out.codebook_loss == 0
    assert out.commitment_loss > 0


def test_a_quantizer_is_a_module_whose_state_is_all_in_buffers():
    assert isinstance(EMAQuantizer(), nn.Module)
    common = {"usage_ema", "initialized", "steps", "codebook"}
    assert set(VectorQuantizer().state_dict()) == common
    assert set(EMAQuantizer().state_dict()) == {*common, "cluster_size", "embed_sum"}


@pytest.mark.parametrize("build", BOTH)
def test_nothing_moves_before_update_codebook(build):
    quantizer = build_trained(build)
    quantizer.auto_update = False
    before = copy.deepcopy(quantizer.state_dict())
    for _ in range(3):
        quantizer(torch.randn(2, 3, 9))
    assert not find_differences(before, quantizer.state_dict())
    quantizer.update_codebook()
    assert find_differences(before, quantizer.state_dict())


@pytest.mark.parametrize("build", BOTH)
def test_a_second_step_finds_nothing_left_to_do(build):
    quantizer = build_trained(build)
    before = copy.deepcopy(quantizer.state_dict())
    quantizer.update_codebook()
    assert not find_differences(before, quantizer.state_dict())


@pytest.mark.parametrize("build", BOTH)
def test_nothing_moves_in_evaluation(build):
    """As under the training of a prior, for which the quantizer stays in evaluation."""
    quantizer = build_trained(build).eval()
    before = copy.deepcopy(quantizer.state_dict())
    for _ in range(5):
        quantizer(torch.randn(2, 3, 9) + 7)
        quantizer.update_codebook()
    assert not find_differences(before, quantizer.state_dict())
    quantizer.train().update_codebook()  # and nothing was gathered for later
    assert not find_differences(before, quantizer.state_dict())


@pytest.mark.parametrize("build", BOTH)
def test_an_evaluation_between_two_micro_batches_does_not_count(build):
    quantizer = build_trained(build)
    quantizer.auto_update = False
    twin = copy.deepcopy(quantizer)
    z_e = torch.randn(4, 3, 9)
    for each in (quantizer, twin):
        each(z_e[:2])
        if each is twin:
            twin.eval()(torch.randn(2, 3, 9) + 7)
            twin.train()
        each(z_e[2:])
        each.update_codebook()
    assert_equal(quantizer, twin, "an evaluation changed")


@pytest.mark.parametrize("rank", GRIDS)
@pytest.mark.parametrize("build", BOTH)
def test_the_perplexity_is_two_to_the_entropy_of_the_codes_in_bits(build, rank):
    quantizer = build_trained(build, rank)
    mask = torch.rand(2, *GRIDS[rank]) < 0.5
    z_e = torch.randn(2, 3, *GRIDS[rank])
    for given, counted in [(None, torch.ones_like(mask)), (mask, mask)]:
        out = quantizer(z_e, given)
        chosen = out.codes[counted].tolist()
        shares = [chosen.count(code) / len(chosen) for code in set(chosen)]
        entropy_bits = -sum(share * math.log2(share) for share in shares)
        assert out.perplexity.item() == pytest.approx(2**entropy_bits, rel=1e-5)


def test_a_codebook_learns_the_centres_of_clusters():
    draw = torch.Generator().manual_seed(0)
    centres = 10 * torch.randn(8, 4, generator=draw)
    z_e = (centres + 0.1 * torch.randn(100, 8, 4, generator=draw)).flatten(0, 1)[..., None]
    quantizer = EMAQuantizer(codebook_size=32, code_dim=4, ema_decay=0.9).train()
    for _ in range(100):
        quantizer(z_e)
    nearest = torch.cdist(centres, quantizer.codebook).min(dim=1).values
    assert nearest.max() < 0.3, "of about 10 between centres"


# -- copies ---------------------------------------------------------------------------------


def list_copies(quantizer):
    yield copy.deepcopy(quantizer)
    yield pickle.loads(pickle.dumps(quantizer))


@pytest.mark.parametrize("build", BOTH)
def test_a_copy_trains_on_as_the_original_even_from_the_middle_of_a_step(build):
    quantizer = build_trained(build)
    quantizer.auto_update = False
    first, second = torch.randn(2, 2, 3, 9)
    quantizer(first)
    both = list(list_copies(quantizer))
    for each in (quantizer, *both):
        each(second)
        each.update_codebook()
    for each in both:
        assert_equal(quantizer, each, "a copy trains on to another")


@pytest.mark.parametrize("use_buffers", [False, True])
@pytest.mark.parametrize("residual", [False, True])
def test_an_averaged_model_has_the_buffers_of_its_source(residual, use_buffers):
    """Averaged weights, as `training` keeps them; a codebook by moving average is one already."""
    torch.manual_seed(0)
    parts = [EMAQuantizer(codebook_size=5, code_dim=3) for _ in range(2)]
    model = nn.Sequential(nn.Conv1d(2, 3, 1), ResidualQuantizer(parts) if residual else parts[0])
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=use_buffers)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(6):
        model.train()(torch.randn(2, 2, 9)).z_q.square().mean().backward()
        optimizer.step()
        averaged.update_parameters(model)
    own, source = dict(averaged.module.named_buffers()), dict(model.named_buffers())
    assert set(own) == set(source)
    if use_buffers:
        assert all(own[name].isfinite().all() for name in own)
    else:
        assert not find_differences(own, source)
    assert find_differences(
        dict(averaged.module.named_parameters()), dict(model.named_parameters())
    )
    assert not averaged.module[1].is_warming_up
    assert averaged.eval()(torch.randn(2, 2, 9)).z_q.isfinite().all()
