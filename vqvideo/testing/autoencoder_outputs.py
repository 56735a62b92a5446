"""Laws of what an encoder or decoder gives: its shape, what decides it, its gradient."""

from __future__ import annotations

import copy

import torch

from vqvideo.nets.autoencoder import Encoder
from vqvideo.testing.autoencoder_setup import Case, without_gradients
from vqvideo.testing.grids import require_equal, share

READ = "vqvideo.nets.Encoder"
FAINT = 1e-9  # a gradient below this share of what is passed back is none


def an_encoder_says_what_it_is(
    net: Encoder, rank: int, channels: int, down: tuple[int, ...]
) -> None:
    """Its `rank`, `channels` and `downsampling` are those that it was built for."""
    said = (net.rank, net.channels, tuple(net.downsampling))
    assert said == (rank, channels, down), (
        f"the encoder says rank, channels and downsampling are {said}, not {(rank, channels, down)}"
    )


def the_output_fits_the_grid(case: Case) -> None:
    """An encoder gives z_e `[b, z_channels, *grid]`, a decoder `[b, channels, *axes]`."""
    found = tuple(without_gradients(case.net, case.x).shape)
    assert found == case.shape, (
        f"the output for {list(case.x.shape)} must be {list(case.shape)}, got {list(found)}"
    )


def an_item_does_not_depend_on_its_batch(case: Case) -> None:
    """An item alone gives what it gives beside others, in evaluation."""
    whole = without_gradients(case.net, case.x)
    for item in range(len(case.x)):
        alone = without_gradients(case.net, case.x[item : item + 1])[0]
        error = (alone - whole[item]).abs().max().item()
        assert error < 1e-9 * (1 + whole.abs().max().item()), (
            f"item {item} of a batch gives something else than alone, by up to {error:.1e}"
        )


def the_input_decides_the_output(case: Case) -> None:
    """In evaluation the same input gives the same output, bit for bit: there is no noise in it."""
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        found.append(without_gradients(case.net, case.x))
    assert torch.equal(*found), (
        f"called again on the same input it gives {share(*found)} numbers otherwise"
    )


def every_channel_is_heard(case: Case) -> None:
    """Every channel of every item gets a finite gradient, not zero, from what comes out: in
    training as in evaluation.
    """
    for training, where in ((False, "in evaluation"), (True, "in training")):
        net, x = copy.deepcopy(case.net).train(training), case.x.clone().requires_grad_()
        out = net(x)
        assert out.requires_grad, f"{where} no gradient reaches the input: the output has none"
        (gradient,) = torch.autograd.grad(out, x, torch.randn_like(out), allow_unused=True)
        assert gradient is not None, f"{where} no gradient reaches the input"
        assert gradient.isfinite().all(), f"{where} the gradient holds NaN or infinity"
        deaf = (gradient.flatten(2).abs().amax(dim=2) < FAINT).nonzero().tolist()
        assert not deaf, f"{where} channel {deaf[0][1]} of item {deaf[0][0]} gets no gradient"


def a_loaded_network_is_the_one_that_was_saved(case: Case) -> None:
    """A network built anew that loads the `state_dict` gives the same output, bit for bit: nothing
    that decides it was left out.
    """
    torch.manual_seed(7)  # what is drawn and not saved is another now
    again = case.build().double().eval()
    again.load_state_dict(case.net.state_dict())
    require_equal(case.net, again, "loading changed")
    found, expected = (without_gradients(net, case.x) for net in (again, case.net))
    assert torch.equal(found, expected), (
        f"loaded into a network built under another seed, its state gives "
        f"{share(found, expected)} numbers otherwise: something is not in the state_dict"
    )
