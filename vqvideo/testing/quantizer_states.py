"""Laws of the state of a quantizer: what may change its codebook, and what must not."""

from __future__ import annotations

import copy
import math
import warnings

import torch

from vqvideo.testing.grids import GRIDS, assert_equal, find_differences, format_mismatch
from vqvideo.testing.quantizer_setup import (
    BATCH_SIZE,
    MAX_WARMUP_STEPS,
    Build,
    build_trained_quantizer,
)

REFERENCE = "vqvideo.quantizers.Quantizer"


def warming_up_ends(build: Build) -> None:
    """A codebook that is initialized from data is initialized after some training steps."""
    quantizer, _ = build_trained_quantizer(build, rank=2)
    assert not quantizer.is_warming_up, (
        f"the quantizer is still warming up after {MAX_WARMUP_STEPS} steps"
    )


def the_codebook_changes_only_in_training(build: Build) -> None:
    """Evaluation changes no buffer and no parameter."""
    quantizer, z_e = build_trained_quantizer(build, rank=2)
    before = copy.deepcopy(quantizer.state_dict())
    for _ in range(3):
        quantizer(z_e + 1)
        quantizer.update_codebook()
    changed = find_differences(before, quantizer.state_dict())
    assert not changed, f"evaluation changed {', '.join(changed)}"


def two_half_batches_equal_one_batch(build: Build) -> None:
    """With `auto_update` off, nothing changes before `update_codebook()`. From the first step on,
    a step over two half batches leaves the same state as a step over the whole batch.
    """
    torch.manual_seed(0)
    full_batch = build().train()
    full_batch.auto_update = False
    half_batches = copy.deepcopy(full_batch)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(6):
            z_e = torch.randn(BATCH_SIZE, full_batch.z_channels, *GRIDS[2])
            before = copy.deepcopy(half_batches.state_dict())
            full_batch(z_e)
            for half in z_e.chunk(2):
                half_batches(half)
            changed = find_differences(before, half_batches.state_dict())
            assert not changed, f"forward changed {', '.join(changed)} before update_codebook()"
            full_batch.update_codebook()
            half_batches.update_codebook()
    for name, tensor in full_batch.state_dict().items():
        other = half_batches.state_dict()[name]
        assert torch.allclose(other.double(), tensor.double(), rtol=1e-4, atol=1e-5), (
            f"two half batches leave another {name} than the whole batch, different by up to "
            f"{(other.double() - tensor.double()).abs().max().item():.1e}"
        )


def masked_positions_are_ignored(build: Build) -> None:
    """Vectors at masked positions (mask False) change no loss, no perplexity, no code at other
    positions, and no state after a training step.
    """
    quantizer, z_e = build_trained_quantizer(build, rank=2)
    mask = torch.rand(BATCH_SIZE, *GRIDS[2]) < 0.5
    changed_z_e = torch.where(mask[:, None], z_e, z_e * 3 + 5)
    one, other = quantizer(z_e, mask), quantizer(changed_z_e, mask)
    for name in ("commitment_loss", "codebook_loss", "perplexity"):
        difference = (getattr(one, name) - getattr(other, name)).abs().item()
        assert difference < 1e-5, f"masked positions change the {name} by {difference:.1e}"
    changed = int((one.codes[mask] != other.codes[mask]).sum())
    assert not changed, f"masked positions change {changed} codes of other positions"
    twin = copy.deepcopy(quantizer)
    quantizer.train()(z_e, mask)
    twin.train()(changed_z_e, mask)
    assert_equal(quantizer, twin, "masked positions change")


def an_empty_batch_has_no_codes(build: Build) -> None:
    """An empty batch returns empty codes and finite losses, and changes no state."""
    quantizer, _ = build_trained_quantizer(build, rank=2)
    before = copy.deepcopy(quantizer.state_dict())
    out = quantizer.train()(torch.zeros(0, quantizer.z_channels, *GRIDS[2]))
    assert out.codes.numel() == 0, f"an empty batch returned codes {list(out.codes.shape)}"
    assert out.commitment_loss.isfinite() and out.codebook_loss.isfinite(), (
        f"the losses of an empty batch are not finite: commitment_loss "
        f"{out.commitment_loss.item()}, codebook_loss {out.codebook_loss.item()}"
    )
    changed = find_differences(before, quantizer.state_dict())
    assert not changed, f"an empty batch changed {', '.join(changed)}"


def a_loaded_quantizer_is_the_one_that_was_saved(build: Build) -> None:
    """A newly built quantizer that loads the `state_dict` gives bitwise the same codes, z_q and
    decoded codes: the state is complete.
    """
    quantizer, z_e = build_trained_quantizer(build, rank=2)
    torch.manual_seed(7)  # random values that are not saved differ now
    loaded = build().eval()
    loaded.load_state_dict(quantizer.state_dict())
    assert_equal(quantizer, loaded, "loading changed")
    one, other = quantizer(z_e), loaded(z_e)
    for name, expected, actual in (
        ("codes", one.codes, other.codes),
        ("z_q", one.z_q, other.z_q),
        ("decoded codes", quantizer.decode(one.codes), loaded.decode(one.codes)),
    ):
        assert torch.equal(actual, expected), (
            f"loading the state_dict into a quantizer built under another seed changes "
            f"{format_mismatch(actual, expected)} values of {name}: the state_dict is incomplete"
        )


def a_loaded_quantizer_trains_on_as_if_never_saved(build: Build) -> None:
    """Loading a checkpoint changes no entry, and the next training step has the same result with
    and without loading: nothing is initialized again, no statistic is lost.
    """
    quantizer, z_e = build_trained_quantizer(build, rank=2)
    loaded = build()
    loaded.load_state_dict(quantizer.state_dict())
    assert_equal(quantizer, loaded, "loading changed")
    for each in (quantizer, loaded):
        torch.manual_seed(5)
        each.train()(z_e * 1.1)
    assert_equal(quantizer, loaded, "after loading and one more step, these differ:")


def nan_is_refused(build: Build) -> None:
    """NaN or infinity in z_e raises a `ValueError` that states its position, before it can enter
    the codebook.
    """
    for value in (math.nan, -math.inf):
        quantizer, z_e = build_trained_quantizer(build, rank=2)
        channel = quantizer.z_channels - 1
        z_e[1, channel, 3, 1] = value
        try:
            quantizer(z_e)
        except ValueError as error:
            position = [1, channel, 3, 1]
            assert str(position) in str(error), (
                f"the error must state the position {position}, got: {error}"
            )
        else:
            raise AssertionError(f"{value} in z_e was accepted")
