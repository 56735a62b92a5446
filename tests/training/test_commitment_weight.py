"""Section 3.2 of the paper: results hardly depend on beta between 0.1 and 2.0."""

import pytest
import torch

import vqvideo
from vqvideo.metrics import code_histogram, perplexity, psnr_db


def make_squares(number, seed):
    """Pictures of one bright square on a coloured ground `[n, 3, 16, 16]`."""
    draw = torch.Generator().manual_seed(seed)
    ground = torch.rand(number, 3, 1, 1, generator=draw) * 2 - 1
    pictures = ground.expand(-1, -1, 16, 16).clone()
    colours = torch.rand(number, 3, 1, 1, generator=draw) * 2 - 1
    corners = torch.randint(0, 10, (number, 2), generator=draw).tolist()
    for picture, colour, (top, left) in zip(pictures, colours, corners, strict=True):
        picture[:, top : top + 6, left : left + 6] = colour
    return pictures


def train_model(beta, steps=400):
    torch.manual_seed(0)
    vqvae = vqvideo.build(
        "image",
        encoder={"width": 32, "num_blocks": 1},
        decoder={"width": 32, "num_blocks": 1},
        quantizer={"codebook_size": 64, "code_dim": 16},
        commitment_weight=beta,
    ).vqvae.train()
    optimizer = torch.optim.Adam(vqvae.parameters(), lr=1e-3)
    for step in range(steps):
        vqvae.loss(make_squares(16, seed=step)).total.backward()
        optimizer.step()
        optimizer.zero_grad()
    held_out = make_squares(128, seed=10**6)
    codes = vqvae.encode(held_out)
    return (
        psnr_db(vqvae.decode(codes), held_out),
        perplexity(code_histogram(codes, 64)).item(),
    )


@pytest.mark.slow
def test_beta_from_a_tenth_to_two_changes_little():
    found = {beta: train_model(beta) for beta in (0.1, 0.5, 2.0)}
    psnr, used = zip(*found.values(), strict=True)
    assert min(psnr) > 17, found
    assert max(psnr) - min(psnr) < 1, found
    assert min(used) > 16 and max(used) / min(used) < 1.3, found
