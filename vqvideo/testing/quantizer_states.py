"""Laws of what a quantizer keeps: what moves its codebook, and what must not."""

from __future__ import annotations

import copy
import math
import warnings

import torch

from vqvideo.testing.grids import GRIDS, differing, require_equal, share
from vqvideo.testing.quantizer_setup import ITEMS, WARM, Build, trained_quantizer

READ = "vqvideo.quantizers.Quantizer"


def warming_up_ends(build: Build) -> None:
    """A codebook that starts from data has started after some steps of training."""
    quantizer, _ = trained_quantizer(build, rank=2)
    assert not quantizer.warming_up, f"the quantizer still warms up after {WARM} steps"


def codebook_moves_in_training_only(build: Build) -> None:
    """Evaluation changes no buffer and no parameter."""
    quantizer, z_e = trained_quantizer(build, rank=2)
    before = copy.deepcopy(quantizer.state_dict())
    for _ in range(3):
        quantizer(z_e + 1)
        quantizer.step()
    changed = differing(before, quantizer.state_dict())
    assert not changed, f"evaluation changed {', '.join(changed)}"


def two_half_batches_are_one_whole(build: Build) -> None:
    """With `auto_step` off, nothing moves before `step()`, and a step over two half batches
    leaves what a step over the whole batch leaves, from the first step on.
    """
    torch.manual_seed(0)
    whole = build().train()
    whole.auto_step = False
    halves = copy.deepcopy(whole)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(6):
            z_e = torch.randn(ITEMS, whole.z_channels, *GRIDS[2])
            before = copy.deepcopy(halves.state_dict())
            whole(z_e)
            for half in z_e.chunk(2):
                halves(half)
            changed = differing(before, halves.state_dict())
            assert not changed, f"forward changed {', '.join(changed)} before step()"
            whole.step()
            halves.step()
    for name, tensor in whole.state_dict().items():
        other = halves.state_dict()[name]
        assert torch.allclose(other.double(), tensor.double(), rtol=1e-4, atol=1e-5), (
            f"two half batches leave another {name} than the whole batch, apart by up to "
            f"{(other.double() - tensor.double()).abs().max().item():.1e}"
        )


def masked_positions_count_nowhere(build: Build) -> None:
    """What stands under a false mask changes no loss, no perplexity, no other code, and nothing
    that a training step leaves behind.
    """
    quantizer, z_e = trained_quantizer(build, rank=2)
    mask = torch.rand(ITEMS, *GRIDS[2]) < 0.5
    spoilt = torch.where(mask[:, None], z_e, z_e * 3 + 5)
    one, other = quantizer(z_e, mask), quantizer(spoilt, mask)
    for name in ("commitment_loss", "codebook_loss", "perplexity"):
        difference = (getattr(one, name) - getattr(other, name)).abs().item()
        assert difference < 1e-5, f"masked positions change the {name} by {difference:.1e}"
    changed = int((one.codes[mask] != other.codes[mask]).sum())
    assert not changed, f"masked positions change {changed} codes of other positions"
    twin = copy.deepcopy(quantizer)
    quantizer.train()(z_e, mask)
    twin.train()(spoilt, mask)
    require_equal(quantizer, twin, "masked positions change")


def an_empty_batch_gives_no_codes(build: Build) -> None:
    """A batch of no items gives empty codes and finite losses, and moves nothing."""
    quantizer, _ = trained_quantizer(build, rank=2)
    before = copy.deepcopy(quantizer.state_dict())
    out = quantizer.train()(torch.zeros(0, quantizer.z_channels, *GRIDS[2]))
    assert out.codes.numel() == 0, f"an empty batch gave codes {list(out.codes.shape)}"
    assert out.commitment_loss.isfinite() and out.codebook_loss.isfinite(), (
        f"the losses of an empty batch are not finite: commitment_loss "
        f"{out.commitment_loss.item()}, codebook_loss {out.codebook_loss.item()}"
    )
    changed = differing(before, quantizer.state_dict())
    assert not changed, f"an empty batch changed {', '.join(changed)}"


def a_loaded_quantizer_is_the_one_that_was_saved(build: Build) -> None:
    """One built anew that loads the `state_dict` gives the same codes, z_q and decoded codes, bit
    for bit: nothing that decides them was left out.
    """
    quantizer, z_e = trained_quantizer(build, rank=2)
    torch.manual_seed(7)  # what is drawn and not saved is another now
    again = build().eval()
    again.load_state_dict(quantizer.state_dict())
    require_equal(quantizer, again, "loading changed")
    one, other = quantizer(z_e), again(z_e)
    for what, expected, found in (
        ("codes", one.codes, other.codes),
        ("z_q", one.z_q, other.z_q),
        ("what codes decode to", quantizer.decode(one.codes), again.decode(one.codes)),
    ):
        assert torch.equal(found, expected), (
            f"loaded into a quantizer built under another seed, its state gives "
            f"{share(found, expected)} numbers of {what} otherwise: something is not in the "
            f"state_dict"
        )


def a_loaded_quantizer_trains_on_as_if_never_saved(build: Build) -> None:
    """Loading a checkpoint changes no entry, and the next training step is the same with it as
    without: nothing is initialised again, no statistic is forgotten.
    """
    quantizer, z_e = trained_quantizer(build, rank=2)
    again = build()
    again.load_state_dict(quantizer.state_dict())
    require_equal(quantizer, again, "loading changed")
    for each in (quantizer, again):
        torch.manual_seed(5)
        each.train()(z_e * 1.1)
    require_equal(quantizer, again, "after loading and one more step, these differ:")


def nan_is_refused(build: Build) -> None:
    """NaN or infinity in z_e raises `ValueError` with its location, before it can enter a
    codebook.
    """
    for value in (math.nan, -math.inf):
        quantizer, z_e = trained_quantizer(build, rank=2)
        channel = quantizer.z_channels - 1
        z_e[1, channel, 3, 1] = value
        try:
            quantizer(z_e)
        except ValueError as error:
            place = [1, channel, 3, 1]
            assert str(place) in str(error), f"the error does not say where: {error}"
        else:
            raise AssertionError(f"{value} in z_e was accepted")
