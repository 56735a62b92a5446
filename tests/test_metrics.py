"""Figures, each computed a second time by hand in NumPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from vqvideo.metrics import (
    bits_per_dim,
    code_histogram,
    codebook_usage,
    entropy_nats,
    perplexity,
    psnr_db,
    psnr_db_from_mse,
    student_t_quantile,
)

COUNTS = [[5, 0, 3, 9, 1], [7, 0, 0], [1, 1, 1, 1], [2**40, 2**40]]


def compute_entropy_by_hand(counts: list[int]) -> float:
    shares = [count / sum(counts) for count in counts if count]
    return -sum(share * math.log(share) for share in shares)


def test_psnr_is_peak_to_peak_over_mean_squared_error():
    x, reference = torch.rand(2, 3, 4, 5) * 2 - 1, torch.rand(2, 3, 4, 5) * 2 - 1
    error = np.mean((x.double().numpy() - reference.double().numpy()) ** 2)
    assert psnr_db(x, reference) == pytest.approx(10 * np.log10(2**2 / error))
    assert psnr_db(x, reference) == psnr_db(reference, x)


def test_equal_data_has_an_infinite_psnr_and_the_worst_data_zero_decibels():
    assert psnr_db(torch.ones(3), torch.ones(3)) == math.inf
    assert psnr_db(torch.ones(3), -torch.ones(3)) == 0


def test_psnr_does_not_lose_a_small_error_in_half_precision():
    reference = torch.zeros(4096, dtype=torch.float16)
    x = torch.full_like(reference, 1e-4)  # its square is below what float16 can hold
    assert psnr_db(x, reference) == pytest.approx(20 * math.log10(2 / float(x[0])))


def test_the_histogram_counts_each_code_once_and_names_the_unused():
    codes = torch.tensor([[[0, 4, 4], [2, 4, 0]]])
    histogram = code_histogram(codes, codebook_size=7)
    assert histogram.dtype == torch.int64
    assert histogram.tolist() == [int((codes == code).sum()) for code in range(7)]


@pytest.mark.parametrize("counts", COUNTS, ids=str)
def test_entropy_and_perplexity_are_those_of_the_shares(counts):
    entropy = compute_entropy_by_hand(counts)
    histogram = torch.tensor(counts)
    assert entropy_nats(histogram).item() == pytest.approx(entropy, abs=1e-6)
    assert perplexity(histogram).item() == pytest.approx(math.exp(entropy), rel=1e-6)


def test_no_code_at_all_has_no_entropy_and_perplexity_one():
    assert entropy_nats(torch.zeros(5, dtype=torch.int64)).item() == 0
    assert perplexity(torch.zeros(5, dtype=torch.int64)).item() == 1


@pytest.mark.parametrize(
    ("counts", "share"), [([5, 0, 3, 9, 1], 0.8), ([7, 0, 0, 0], 0.25), ([0, 0], 0), ([1, 2], 1)]
)
def test_usage_is_the_share_of_codes_that_occur(counts, share):
    assert codebook_usage(torch.tensor(counts)) == pytest.approx(share)


def test_bits_per_dim_change_the_base_and_divide_by_the_dimensions():
    nats = torch.tensor([0.0, 3.5, -2.0])
    expected = [float(n) / np.log(2) / 12 for n in nats]
    assert bits_per_dim(nats, num_dims=12).tolist() == pytest.approx(expected)


def test_a_uniform_guess_over_k_codes_costs_the_log_of_k_bits():
    assert bits_per_dim(torch.tensor([20 * math.log(512)]), num_dims=20).item() == pytest.approx(9)


def test_an_endless_error_has_an_endless_psnr():
    assert psnr_db_from_mse(0.0) == math.inf
    assert psnr_db_from_mse(math.inf) == -math.inf
    assert math.isnan(psnr_db_from_mse(math.nan))


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 7, 8, 29, 500])
def test_students_quantile_holds_95_percent_of_the_density(freedom):
    t, steps = student_t_quantile(freedom), 20_000
    log_scale = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)
    scale = math.exp(log_scale) / math.sqrt(freedom * math.pi)
    x = (np.arange(steps) + 0.5) / steps * t  # the middles of thin strips
    density = scale * (1 + x**2 / freedom) ** (-(freedom + 1) / 2)
    assert 2 * density.sum() * t / steps == pytest.approx(0.95, abs=1e-7)
