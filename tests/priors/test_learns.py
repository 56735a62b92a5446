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


def priors_of(rank):
    return pytest.mark.parametrize("name", [name for name in RANKS if rank in RANKS[name]])


def nats(prior, codes):
    """Nats of each code, `[b, *grid]`."""
    return cross_entropy(prior.logits(codes), codes, reduction="none")


def trained(name, rank, draw, *, steps, batch=32, lr=1e-2):
    """A small prior after so many batches of what `draw(batch)` gives."""
    torch.manual_seed(0)
    prior = PRIORS.build(name, OPTIONS[name], rank=rank, codebook_size=CODES)
    optimizer = torch.optim.Adam(prior.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    for _ in range(steps):
        optimizer.zero_grad()
        nats(prior, draw(batch)).mean().backward()
        optimizer.step()
        schedule.step()
    return prior.eval()


def test_every_registered_prior_is_under_test():
    assert set(RANKS) | {"vqvae"} == set(PRIORS.names())  # which has a file of its own
    for name in set(RANKS):
        for rank in {1, 2, 3} - set(RANKS[name]):
            with pytest.raises(ValueError, match=f"not {rank}"):
                PRIORS.build(name, OPTIONS[name], rank=rank, codebook_size=CODES)


# What follows the code before, in a row each, and how often each code comes in the long run.
FOLLOWS = torch.tensor(
    [[0.7, 0.1, 0.1, 0.1], [0.0, 0.5, 0.5, 0.0], [0.2, 0.0, 0.0, 0.8], [0.25, 0.25, 0.25, 0.25]]
)
SHARES = torch.linalg.matrix_power(FOLLOWS.double(), 200)[0].float()


def chains(number, length=32):
    """Stationary Markov chains `[number, length]`."""
    codes = [torch.multinomial(SHARES, number, replacement=True)]
    for _ in range(length - 1):
        codes.append(torch.multinomial(FOLLOWS[codes[-1]], 1)[:, 0])
    return torch.stack(codes, dim=1)


@priors_of(1)
def test_it_learns_a_markov_chain_down_to_its_entropy_rate(name):
    prior = trained(name, 1, chains, steps=250)
    rate = -(SHARES[:, None] * torch.xlogy(FOLLOWS, FOLLOWS)).sum().item()
    codes = chains(1500)
    with torch.no_grad():
        found = nats(prior, codes)[:, 1:].mean().item()
    assert found == pytest.approx(rate, rel=0.02)


def sheared(number, height=5, width=7, shift=3):
    """Grids in which a code is that of the row above, `shift` columns to the right."""
    rows = [torch.randint(CODES, (number, width))]
    for _ in range(height - 1):
        rows.append(torch.cat([rows[-1][:, shift:], torch.randint(CODES, (number, shift))], dim=1))
    return torch.stack(rows, dim=1)


@priors_of(2)
def test_it_learns_to_look_up_a_row_and_to_the_right(name):
    prior = trained(name, 2, sheared, steps=250)
    with torch.no_grad():
        found = nats(prior, sheared(200))
    assert found[:, 1:, :-3].mean() < 0.1
    assert found[:, 0].mean() == pytest.approx(math.log(CODES), rel=0.05)


def turned(number):
    """Clips in which each frame is the one before, turned by 180 degrees: the first code of a
    frame stood in the far corner.
    """
    frame = torch.randint(CODES, (number, 3, 4))
    return torch.stack([frame, frame.flip(1, 2), frame], dim=1)


@priors_of(3)
def test_it_learns_that_each_frame_is_the_last_one_turned_by_180_degrees(name):
    prior = trained(name, 3, turned, steps=500)
    with torch.no_grad():
        found = nats(prior, turned(200))
    assert found[:, 1:].mean() < 0.1
    assert found[:, 0].mean() == pytest.approx(math.log(CODES), rel=0.05)
