"""Each law of encoders and decoders catches the faults planted for it.

That the registered ones keep them is tested in nets/.
"""

from functools import partial

import pytest
import torch
from torch import nn

from vqvideo import testing
from vqvideo.nets.autoencoder import PatchifyDecoder, PatchifyEncoder
from vqvideo.nets.blocks import Reach
from vqvideo.testing import autoencoders as laws

SMALL = {"widths": (6, 8), "num_blocks": (1, 1)}


class ForgetsItsChannels(PatchifyEncoder):
    def __init__(self, **options):
        super().__init__(**options)
        self.channels = 1


class Cropped(PatchifyDecoder):
    def forward(self, z_q, past=None):
        return super().forward(z_q, past)[..., :-1]


class Noisy(PatchifyEncoder):
    def forward(self, x, past=None):
        return super().forward(x, past) + torch.randn(())


class MixesItems(PatchifyEncoder):
    def forward(self, x, past=None):
        return super().forward(x - x.mean(dim=0), past)


class Detached(PatchifyEncoder):
    def forward(self, x, past=None):
        return super().forward(x, past).detach()


class ZeroInTraining(PatchifyEncoder):
    def forward(self, x, past=None):
        z_e = super().forward(x, past)
        return torch.zeros_like(z_e) if self.training else z_e


class AlwaysZero(PatchifyDecoder):
    def forward(self, z_q, past=None):
        return super().forward(z_q, past) * 0


class DeafChannel(PatchifyDecoder):
    def forward(self, z_q, past=None):
        heard = torch.tensor([1.0, 0, 1, 1, 1], dtype=z_q.dtype).view(-1, *(1,) * (z_q.ndim - 2))
        return super().forward(z_q * heard, past)


class ForgetsATable(PatchifyEncoder):
    def __init__(self, **options):
        super().__init__(**options)
        self.table = torch.randn(())

    def forward(self, x, past=None):
        return super().forward(x, past) + self.table


class Forgetful(PatchifyEncoder):
    def forward(self, x, past=None):
        return super().forward(x)


class Remembering(PatchifyEncoder):
    """Counts the pieces it is given, not the calls on a whole."""

    pieces = 0

    def forward(self, x, past=None):
        out = super().forward(x, past)
        if past is None:
            return out
        self.pieces += 1
        return out + 1e-12 * self.pieces if x.dtype == torch.double else out + self.pieces


class Ahead(PatchifyDecoder):
    def forward(self, z_q, past=None):
        return super().forward(z_q + z_q.roll(-1, 2), past)


class AheadInFloat32(Ahead):
    """Within a block alone, and where no comparison with the whole would see it."""

    def forward(self, z_q, past=None):
        return super().forward(z_q, past) if z_q.dtype == torch.float32 else self.layers(z_q, past)

    def cut_as(self, layers, down, *, causal):
        super().cut_as(layers, down, causal=causal)
        self.block = 4


class ShortSighted(PatchifyEncoder):
    def cut_as(self, layers, down, *, causal):
        super().cut_as(layers, down, causal=causal)
        self.reach = (self.reach[0], Reach(0, 1), *self.reach[2:])


WHOLE = "blocks_and_tiles_are_the_whole"
FAULTS = [  # the law, the network that breaks it and keeps those before it, a rank, what is said
    (
        "an_encoder_says_what_it_is",
        ForgetsItsChannels,
        2,
        r"the encoder says rank, channels and downsampling are \(2, 1, \(4, 4\)\), not \(2, 3, ",
    ),
    ("the_output_fits_the_grid", Cropped, 2, r"must be \[2, 3, 36, 12\], got \[2, 3, 36, 11\]"),
    ("the_input_decides_the_output", Noisy, 2, "called again on the same input it gives"),
    ("an_item_does_not_depend_on_its_batch", MixesItems, 2, "item 0 of a batch gives something"),
    ("every_channel_is_heard", Detached, 2, "in evaluation no gradient reaches the input"),
    ("every_channel_is_heard", ZeroInTraining, 3, "in training no gradient reaches the input"),
    ("every_channel_is_heard", AlwaysZero, 2, "in evaluation channel 0 of item 0 gets no gradient"),
    ("every_channel_is_heard", DeafChannel, 1, "in evaluation channel 1 of item 0 gets no gradie"),
    ("a_loaded_network_is_the_one_that_was_saved", ForgetsATable, 1, "is not in the state_dict"),
    (WHOLE, Forgetful, 3, "differ by .* the past is not all"),
    (WHOLE, Ahead, 1, "differ by .* from the whole"),
    (WHOLE, ShortSighted, 3, "in tiles of .* the reach .* too small"),
    ("pieces_change_no_bit", Remembering, 1, "keeps something between two calls"),
    ("a_causal_network_sees_nothing_later", AheadInFloat32, 3, "changes what they stand for"),
]


@pytest.mark.parametrize(("law", "broken", "rank", "message"), FAULTS)
def test_a_planted_fault_in_an_encoder_or_decoder_is_caught_by_its_law(law, broken, rank, message):
    is_encoder = issubclass(broken, PatchifyEncoder)
    check = testing.check_encoder if is_encoder else testing.check_decoder
    found = f"^{broken.__name__} breaks the law {law}: .*{message}"
    with pytest.raises(AssertionError, match=found):
        check(partial(broken, **SMALL), rank)


def test_every_law_of_encoders_and_decoders_has_a_planted_fault():
    every = [*laws.LAWS_OF_AN_ENCODER, *laws.LAWS]
    assert {law.__name__ for law in every} == {law for law, *_ in FAULTS}


def test_what_is_no_encoder_or_decoder_is_told_what_to_derive_from():
    for check, kind in ((testing.check_encoder, "Encoder"), (testing.check_decoder, "Decoder")):
        with pytest.raises(AssertionError, match=rf"^Linear is no nets\.{kind}: derive it from"):
            check(lambda **sizes: nn.Linear(2, 2), 2)


def test_a_rank_that_no_grid_has_is_refused():
    with pytest.raises(ValueError, match="on grids of rank 1, 2 or 3, got rank 5"):
        testing.check_encoder(partial(PatchifyEncoder, **SMALL), 5)
