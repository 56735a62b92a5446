"""Every registered prior learns what only one that sees what it says it sees can learn."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from vqvideo.priors import PRIORS

CODES = 4
RANKS = {"wavenet": (1,), "pixelcnn": (2,), "masked3d": (3,), "transformer": (1, 2, 3)}
OPTIONS = {
    "wavenet": {"width": 16, "num_layers": 3},
    "pixelcnn": {"width": 16, "num_layers": 2},
    "masked3d": {"width": 16, "num_layers": 3, "dropout": 0.0},
    "transformer": {"width": 32, "num_layers": 2, "num_heads": 4, "dropout": 0.0},
}


def list_priors(rank):
    return pytest.mark.parametrize("name", [name for name in RANKS if rank in RANKS[name]])


def compute_nll(prior, codes):
    """Nats of each code, `[b, *grid]`."""
    return cross_entropy(prior.logits(codes), codes, reduction="none")


def train_prior(name, rank, draw, *, steps, batch=32, lr=1e-2):
    """A small prior after so many batches of what `draw(batch)` gives."""
    torch.manual_seed(0)
    prior = PRIORS.build(name, OPTIONS[name], rank=rank, codebook_size=CODES)
    optimizer = torch.optim.Adam(prior.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    for _ in range(steps):
        optimizer.zero_grad()
        compute_nll(prior, draw(batch)).mean().backward()
        optimizer.step()
        schedule.step()
    return prior.eval()


def test_every_registered_prior_is_under_test():
    assert set(RANKS) | {"vqvae"} == set(PRIORS.list_names())  # which has a file of its own
    for name in set(RANKS):
        for rank in {1, 2, 3} - set(RANKS[name]):
            with pytest.raises(ValueError, match=f"got rank {rank}"):
                PRIORS.build(name, OPTIONS[name], rank=rank, codebook_size=CODES)


# What follows the code before, in a row each, and how often each code comes in the long run.
TRANSITION_MATRIX = torch.tensor(
    [[0.7, 0.1, 0.1, 0.1], [0.0, 0.5, 0.5, 0.0], [0.2, 0.0, 0.0, 0.8], [0.25, 0.25, 0.25, 0.25]]
)
STATIONARY = torch.linalg.matrix_power(TRANSITION_MATRIX.double(), 200)[0].float()


def sample_chains(number, length=32):
    """Stationary Markov chains `[number, length]`."""
    codes = [torch.multinomial(STATIONARY, number, replacement=True)]
    for _ in range(length - 1):
        codes.append(torch.multinomial(TRANSITION_MATRIX[codes[-1]], 1)[:, 0])
    return torch.stack(codes, dim=1)


@pytest.mark.slow
@list_priors(1)
def test_it_learns_a_markov_chain_down_to_its_entropy_rate(name):
    prior = train_prior(name, 1, sample_chains, steps=250)
    rate = -(STATIONARY[:, None] * torch.xlogy(TRANSITION_MATRIX, TRANSITION_MATRIX)).sum().item()
    codes = sample_chains(1500)
    with torch.no_grad():
        found = compute_nll(prior, codes)[:, 1:].mean().item()
    assert found == pytest.approx(rate, rel=0.02)


def make_sheared(number, height=5, width=7, shift=3):
    """Grids in which a code is that of the row above, `shift` columns to the right."""
    rows = [torch.randint(CODES, (number, width))]
    for _ in range(height - 1):
        rows.append(torch.cat([rows[-1][:, shift:], torch.randint(CODES, (number, shift))], dim=1))
    return torch.stack(rows, dim=1)


@pytest.mark.slow
@list_priors(2)
def test_it_learns_to_look_up_a_row_and_to_the_right(name):
    prior = train_prior(name, 2, make_sheared, steps=250)
    with torch.no_grad():
        found = compute_nll(prior, make_sheared(200))
    assert found[:, 1:, :-3].mean() < 0.1
    assert found[:, 0].mean() == pytest.approx(math.log(CODES), rel=0.05)


def make_rotated(number):
    """Clips in which each frame is the one before, turned by 180 degrees: the first code of a
    frame stood in the far corner.
    """
    frame = torch.randint(CODES, (number, 3, 4))
    return torch.stack([frame, frame.flip(1, 2), frame], dim=1)


@pytest.mark.slow
@list_priors(3)
def test_it_learns_that_each_frame_is_the_last_one_turned_by_180_degrees(name):
    prior = train_prior(name, 3, make_rotated, steps=500)
    with torch.no_grad():
        found = compute_nll(prior, make_rotated(200))
    assert found[:, 1:].mean() < 0.1
    assert found[:, 0].mean() == pytest.approx(math.log(CODES), rel=0.05)
