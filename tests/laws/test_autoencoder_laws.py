"""Each law of encoders and decoders catches the faults planted for it.

That the registered ones keep them is tested in nets/.
"""

from functools import partial

import pytest
import torch
from torch import nn

from vqvideo import testing
from vqvideo.nets.patchify import PatchifyDecoder, PatchifyEncoder
from vqvideo.streaming import Context
from vqvideo.testing import autoencoders as laws

SMALL = {"widths": (6, 8), "num_blocks": (1, 1)}


class WrongChannelsEncoder(PatchifyEncoder):
    def __init__(self, **options):
        super().__init__(**options)
        self.channels = 1


class CroppingDecoder(PatchifyDecoder):
    def forward(self, z_q, past=None):
        return super().forward(z_q, past)[..., :-1]


class NoisyEncoder(PatchifyEncoder):
    def forward(self, x, past=None):
        return super().forward(x, past) + torch.randn(())


class ItemMixingEncoder(PatchifyEncoder):
    def forward(self, x, past=None):
        return super().forward(x - x.mean(dim=0), past)


class DetachedEncoder(PatchifyEncoder):
    def forward(self, x, past=None):
        return super().forward(x, past).detach()


class ZeroInTrainingEncoder(PatchifyEncoder):
    def forward(self, x, past=None):
        z_e = super().forward(x, past)
        return torch.zeros_like(z_e) if self.training else z_e


class ZeroDecoder(PatchifyDecoder):
    def forward(self, z_q, past=None):
        return super().forward(z_q, past) * 0


class DeadChannelDecoder(PatchifyDecoder):
    def forward(self, z_q, past=None):
        heard = torch.tensor([1.0, 0, 1, 1, 1], dtype=z_q.dtype).view(-1, *(1,) * (z_q.ndim - 2))
        return super().forward(z_q * heard, past)


class UnsavedTableEncoder(PatchifyEncoder):
    def __init__(self, **options):
        super().__init__(**options)
        self.table = torch.randn(())

    def forward(self, x, past=None):
        return super().forward(x, past) + self.table


class StatelessEncoder(PatchifyEncoder):
    def forward(self, x, past=None):
        return super().forward(x)


class LeakyStateEncoder(PatchifyEncoder):
    """Counts the pieces it is given, not the calls on a whole."""

    num_chunks = 0

    def forward(self, x, past=None):
        out = super().forward(x, past)
        if past is None:
            return out
        self.num_chunks += 1
        return out + 1e-12 * self.num_chunks if x.dtype == torch.double else out + self.num_chunks


class LookaheadDecoder(PatchifyDecoder):
    def forward(self, z_q, past=None):
        return super().forward(z_q + z_q.roll(-1, 2), past)


class LookaheadInFloat32Decoder(LookaheadDecoder):
    """Within a block alone, and where no comparison with the whole would see it."""

    def forward(self, z_q, past=None):
        return super().forward(z_q, past) if z_q.dtype == torch.float32 else self.layers(z_q, past)

    def configure_chunks(self, layers, down, *, causal):
        super().configure_chunks(layers, down, causal=causal)
        self.chunk_size = 4


class ShortContextEncoder(PatchifyEncoder):
    def configure_chunks(self, layers, down, *, causal):
        super().configure_chunks(layers, down, causal=causal)
        self.context = (self.context[0], Context(0, 1), *self.context[2:])


class BoundDropoutEncoder(PatchifyEncoder):
    """A function keeps the module itself, so that a view of the encoder still calls it."""

    def __init__(self, **sizes):
        super().__init__(**sizes)
        self.dropout = dropout = nn.Dropout(0.5)
        self.drop = lambda x: dropout(x)

    def forward(self, x, state=None):
        return super().forward(self.drop(x), state)


CHUNK_LAW = "chunks_and_tiles_match_the_whole"
FAULTS = [  # the law, the network that breaks it and keeps those before it, a rank, what is said
    (
        "encoder_attributes_match_its_options",
        WrongChannelsEncoder,
        2,
        r"rank, channels and downsampling .* must be \(2, 3, \(4, 4\)\), got \(2, 1, \(4, 4\)\)",
    ),
    (
        "the_output_fits_the_grid",
        CroppingDecoder,
        2,
        r"must be \[2, 3, 36, 12\], got \[2, 3, 36, 11\]",
    ),
    ("the_input_decides_the_output", NoisyEncoder, 2, "a second call on the same input changes"),
    (
        "an_item_does_not_depend_on_its_batch",
        ItemMixingEncoder,
        2,
        "the output for item 0 differs between in a batch and alone",
    ),
    (
        "every_channel_gets_a_gradient",
        DetachedEncoder,
        2,
        "in evaluation no gradient reaches the input",
    ),
    (
        "every_channel_gets_a_gradient",
        ZeroInTrainingEncoder,
        3,
        "in training no gradient reaches the input",
    ),
    (
        "every_channel_gets_a_gradient",
        ZeroDecoder,
        2,
        "in evaluation channel 0 of item 0 gets no gradient",
    ),
    (
        "every_channel_gets_a_gradient",
        DeadChannelDecoder,
        1,
        "in evaluation channel 1 of item 0 gets no gradie",
    ),
    (
        "a_loaded_network_is_the_one_that_was_saved",
        UnsavedTableEncoder,
        1,
        "the state_dict is incomplete",
    ),
    (CHUNK_LAW, StatelessEncoder, 3, "differ by .* the streaming state is incomplete"),
    (CHUNK_LAW, LookaheadDecoder, 1, "differ by .* from the whole"),
    (CHUNK_LAW, ShortContextEncoder, 3, "in tiles of .* the context .* too small"),
    (
        "splitting_the_input_changes_no_bit",
        LeakyStateEncoder,
        1,
        "keeps state between calls",
    ),
    (
        "a_causal_network_ignores_later_steps",
        LookaheadInFloat32Decoder,
        3,
        "changes their output",
    ),
    (
        "a_network_in_training_mode_is_evaluated_unchanged",
        BoundDropoutEncoder,
        1,
        "a Dropout is evaluated in training mode",
    ),
]


@pytest.mark.parametrize(("law", "broken", "rank", "message"), FAULTS)
def test_a_planted_fault_in_an_encoder_or_decoder_is_caught_by_its_law(law, broken, rank, message):
    is_encoder = issubclass(broken, PatchifyEncoder)
    check = testing.check_encoder if is_encoder else testing.check_decoder
    found = f"^{broken.__name__} breaks the law {law}: .*{message}"
    with pytest.raises(AssertionError, match=found):
        check(partial(broken, **SMALL), rank)


def test_every_law_of_encoders_and_decoders_has_a_planted_fault():
    every = [*laws.ENCODER_LAWS, *laws.LAWS]
    assert {law.__name__ for law in every} == {law for law, *_ in FAULTS}


def test_what_is_no_encoder_or_decoder_is_refused_with_the_base_class():
    for check, kind in ((testing.check_encoder, "Encoder"), (testing.check_decoder, "Decoder")):
        with pytest.raises(AssertionError, match=rf"^Linear is not a nets\.{kind}; derive it from"):
            check(lambda **sizes: nn.Linear(2, 2), 2)


def test_a_rank_that_no_grid_has_is_refused():
    with pytest.raises(ValueError, match="on grids of rank 1, 2 or 3, got rank 5"):
        testing.check_encoder(partial(PatchifyEncoder, **SMALL), 5)
