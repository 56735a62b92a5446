"""Laws of the output of an encoder or decoder: its shape, its determinism, its gradient."""

from __future__ import annotations

import copy

import torch

from vqvideo.nets.autoencoder import Encoder
from vqvideo.testing.autoencoder_setup import AutoencoderCase, forward_no_grad
from vqvideo.testing.grids import assert_equal, format_mismatch

REFERENCE = "vqvideo.nets.Encoder"
MIN_GRADIENT = 1e-9  # relative to the incoming gradient; anything smaller counts as zero


def encoder_attributes_match_its_options(
    net: Encoder, rank: int, channels: int, down: tuple[int, ...]
) -> None:
    """The attributes `rank`, `channels` and `downsampling` match the options of the builder."""
    actual = (net.rank, net.channels, tuple(net.downsampling))
    assert actual == (rank, channels, down), (
        f"rank, channels and downsampling of the encoder must be {(rank, channels, down)}, "
        f"got {actual}"
    )


def the_output_fits_the_grid(case: AutoencoderCase) -> None:
    """An encoder returns z_e `[b, z_channels, *grid]`, a decoder `[b, channels, *axes]`."""
    shape = tuple(forward_no_grad(case.net, case.x).shape)
    assert shape == case.shape, (
        f"the output for {list(case.x.shape)} must be {list(case.shape)}, got {list(shape)}"
    )


def an_item_does_not_depend_on_its_batch(case: AutoencoderCase) -> None:
    """In evaluation, the output for an item is the same alone as in a batch."""
    batched = forward_no_grad(case.net, case.x)
    for item in range(len(case.x)):
        single = forward_no_grad(case.net, case.x[item : item + 1])[0]
        error = (single - batched[item]).abs().max().item()
        assert error < 1e-9 * (1 + batched.abs().max().item()), (
            f"the output for item {item} differs between in a batch and alone, by up to {error:.1e}"
        )


def the_input_decides_the_output(case: AutoencoderCase) -> None:
    """In evaluation, the same input gives bitwise the same output: the network adds no noise."""
    outputs = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        outputs.append(forward_no_grad(case.net, case.x))
    assert torch.equal(*outputs), (
        f"a second call on the same input changes {format_mismatch(*outputs)} output values"
    )


def every_channel_gets_a_gradient(case: AutoencoderCase) -> None:
    """Every input channel of every item gets a finite, nonzero gradient from the output, in
    training and in evaluation.
    """
    for training, where in ((False, "in evaluation"), (True, "in training")):
        net, x = copy.deepcopy(case.net).train(training), case.x.clone().requires_grad_()
        out = net(x)
        assert out.requires_grad, f"{where} no gradient reaches the input: the output has none"
        (gradient,) = torch.autograd.grad(out, x, torch.randn_like(out), allow_unused=True)
        assert gradient is not None, f"{where} no gradient reaches the input"
        assert gradient.isfinite().all(), f"{where} the gradient holds NaN or infinity"
        zero = (gradient.flatten(2).abs().amax(dim=2) < MIN_GRADIENT).nonzero().tolist()
        assert not zero, f"{where} channel {zero[0][1]} of item {zero[0][0]} gets no gradient"


def a_loaded_network_is_the_one_that_was_saved(case: AutoencoderCase) -> None:
    """A newly built network that loads the `state_dict` gives bitwise the same output: the state
    is complete.
    """
    torch.manual_seed(7)  # random values that are not saved differ now
    loaded = case.build().double().eval()
    loaded.load_state_dict(case.net.state_dict())
    assert_equal(case.net, loaded, "loading changed")
    actual, expected = (forward_no_grad(net, case.x) for net in (loaded, case.net))
    assert torch.equal(actual, expected), (
        f"loading the state_dict into a network built under another seed changes "
        f"{format_mismatch(actual, expected)} output values: the state_dict is incomplete"
    )
