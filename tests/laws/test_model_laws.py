"""The laws of models hold for every registered one, and each catches a planted fault."""

import numpy as np
import pytest
import torch
from torch import nn

import vqvideo
from vqvideo import testing
from vqvideo.config import Part
from vqvideo.likelihoods import LIKELIHOODS, GaussianLikelihood
from vqvideo.nets import DECODERS, ENCODERS
from vqvideo.nets.autoencoder import ConvEncoder, PatchifyDecoder, PatchifyEncoder
from vqvideo.presets import image
from vqvideo.priors import PRIORS, CausalPrior
from vqvideo.quantizers import QUANTIZERS, EMAQuantizer
from vqvideo.testing import models as laws

NETS = {"width": 8, "num_blocks": 1}
PATCHES = {"widths": (6, 8), "num_blocks": (1, 1)}
PRIOR = {"width": 8, "num_layers": 2}
CODEBOOK = {"codebook_size": 16, "code_dim": 4}
SMALL = {"encoder": NETS, "decoder": NETS, "quantizer": CODEBOOK, "prior": PRIOR}
IMAGE = {**SMALL, "sample_shape": (8, 12)}
VIDEO = {**SMALL, "encoder": PATCHES, "decoder": PATCHES, "sample_shape": (8, 8, 12)}
WAVENET = {**SMALL, "likelihood": {"features": 4, "prior": {"name": "wavenet", **PRIOR}}}
TWO_CODEBOOKS = {"num_codebooks": 2, "part": {"name": "ema", **CODEBOOK}}
TOP = {"width": 8, "bottom": {"name": "pixelcnn", **PRIOR}, "top": PRIOR}
SMALL_MODELS = {  # a model that is not here is checked as it is
    "audio": {**SMALL, "sample_shape": (512,)},
    "audio-128x": {**SMALL, "sample_shape": (1024,)},
    "audio-25hz": {**SMALL, "sample_shape": (2560,)},
    "audio-25hz-wavenet": {**WAVENET, "decoder": {"widths": (4, 4)}, "sample_shape": (1280,)},
    "audio-wavenet": {**WAVENET, "decoder": {"widths": (4,) * 6}, "sample_shape": (256,)},
    "image": IMAGE,
    "image-128": IMAGE,
    "image-84": IMAGE,
    "image-84-top": {**IMAGE, "sample_shape": (84, 84), "prior": TOP},
    "image-cifar": {**IMAGE, "quantizer": TWO_CODEBOOKS},
    "maze": VIDEO,
    "video": VIDEO,
    "video-timm": {
        **VIDEO,
        "sample_shape": (8, 32, 32),
        "encoder": {"model": "test_convnext", **NETS},
    },
}


@pytest.mark.parametrize("name", vqvideo.list_models())
def test_every_registered_model_keeps_the_laws(name):
    testing.check_model(name, **SMALL_MODELS.get(name, {}))


@pytest.mark.parametrize("name", ["image", "audio", "video"])
def test_a_model_that_is_told_who_speaks_and_what_it_sees_keeps_the_laws(name):
    told = {"num_speakers": 3, "num_classes": 2}
    prior = {**PRIOR, "cond": {**told, "local_channels": 2}}
    testing.check_model(name, **{**SMALL_MODELS[name], "cond": told, "prior": prior})


def test_a_function_that_returns_a_config_is_checked_like_a_registered_model():
    testing.check_model(image, **IMAGE)


# -- planted faults: each is a part under the name "broken", or a config -----------------------


def with_an_unknown_option():
    return image().updated(encoder={"widht": 8})


def with_a_number_of_numpy():
    return image().updated(commitment_weight=np.float32(0.25))


class SaysAnotherStride(ConvEncoder):
    def __init__(self, **options):
        super().__init__(**options)
        self.downsampling = (2, 2)


class LosesAColumn(PatchifyDecoder):
    def forward(self, z_q, past=None):
        return super().forward(z_q, past)[..., :-1]


class Small(CausalPrior):
    def __init__(self, *, rank, codebook_size):
        super().__init__(
            rank=rank, codebook_size=codebook_size, width=8, reaches=(1, 1), dilations=(1, 1)
        )


class AlwaysOfFiveCodes(Small):
    def __init__(self, *, rank, codebook_size):
        super().__init__(rank=rank, codebook_size=5)


class OutOfRange(GaussianLikelihood):
    def mode(self, parameters):
        return super().mode(parameters) + 3


class NarrowCodes(EMAQuantizer):
    def quantize(self, z_e, mask):
        quantized = super().quantize(z_e, mask)
        return quantized._replace(codes=quantized.codes.int())


class CountsItsCalls(PatchifyEncoder):
    calls = 0

    def forward(self, x, past=None):
        self.calls += 1
        return super().forward(x, past).roll(self.calls, dims=1)


class CountsItsPieces(PatchifyDecoder):
    calls = 0

    def forward(self, z_q, past=None):
        self.calls += 1
        return super().forward(z_q, past) * self.calls


class NeverUsed(ConvEncoder):
    def __init__(self, **options):
        super().__init__(**options)
        self.unused = nn.Parameter(torch.zeros(3))


class RootOfNothing(ConvEncoder):
    def forward(self, x, past=None):
        z_e = super().forward(x, past)
        return z_e + (z_e * 0).sqrt()


class NewLogitsEachTime(Small):
    def logits(self, codes, cond=None):
        logits = super().logits(codes, cond)
        return logits + torch.randn_like(logits)

    def start(self, batch, grid, cond=None):
        return None


class ScoresNothing(Small):
    def log_prob(self, codes, cond=None):
        return super().log_prob(codes, cond).log()


class MoreThanCertain(Small):
    def log_prob(self, codes, cond=None):
        return -super().log_prob(codes, cond)


class GainInPython(EMAQuantizer):
    gain = 1.0

    def quantize(self, z_e, mask):
        if self.training:
            self.gain = -1.0
        return super().quantize(z_e * self.gain, mask)


class ForgetsItsLoad(EMAQuantizer):
    def __init__(self, **options):
        super().__init__(**options)
        self.register_buffer("codebook", self.codebook, persistent=False)


class MixesItems(ConvEncoder):
    def forward(self, x, past=None):
        return super().forward(x - x.mean(dim=0), past)


class Noisy(ConvEncoder):
    cut_as = lambda *given, **options: None  # noqa: E731 - pieces of it would differ

    def forward(self, x, past=None):
        return super().forward(x, past) + torch.randn(())


class SeesItself(Small):
    def logits(self, codes, cond=None):
        own = nn.functional.one_hot(codes, self.codebook_size).movedim(-1, 1)
        return super().logits(codes, cond) + own


class DeafInTraining(EMAQuantizer):
    def quantize(self, z_e, mask):
        quantized = super().quantize(z_e, mask)
        return quantized._replace(z_q=quantized.z_q.detach()) if self.training else quantized


class CannotBeLowered(EMAQuantizer):
    def quantize(self, z_e, mask):
        quantized = super().quantize(z_e, mask)
        return quantized._replace(commitment_loss=quantized.commitment_loss.detach())


class ForgetsATable(Small):
    def __init__(self, **sizes):
        super().__init__(**sizes)
        self.table = torch.randn(self.codebook_size)

    def logits(self, codes, cond=None):
        return super().logits(codes, cond) + self.table.view(-1, *(1,) * self.rank)

    def start(self, batch, grid, cond=None):
        return None


def of_another_kind():
    return {"sample_shape": (8, 12)}


FAULTS = [  # the law, what breaks it and keeps those before it, what is said
    ("it_builds", with_an_unknown_option, "raises ValueError: .*no option 'widht'; did you mean"),
    (
        "it_builds",
        of_another_kind,
        r"a function that returns a vqvideo\.config\.GeneratorConfig; it",
    ),
    ("its_config_survives_json", with_a_number_of_numpy, "does not go through JSON: .*float32"),
    ("its_parts_fit", SaysAnotherStride, r"its encoder says .*\(2, 3, \(2, 2\)\), its config"),
    ("its_parts_fit", LosesAColumn, r"the decoder must give \[2, 3, 8, 12\], got \[2, 3, 8, 11\]"),
    ("its_parts_fit", AlwaysOfFiveCodes, r"its prior has .* \(2, 5, 1\), its codes \(2, 16, 1\)"),
    ("codes_fit_the_grid", NarrowCodes, r"codes must be int64 \[2, 2, 3\], got torch.int32"),
    ("codes_fit_the_grid", OutOfRange, r"what is decoded must lie in \[-1, 1\], got values from 2"),
    (
        "streams_are_the_whole",
        CountsItsCalls,
        "of codes are others where data comes in pieces of 1",
    ),
    ("streams_are_the_whole", CountsItsPieces, "of data are others where codes come in pieces of"),
    ("an_item_is_coded_by_itself", MixesItems, "z_e of item 0 is another alone than in a batch"),
    ("an_item_is_coded_by_itself", Noisy, "numbers of z_e are others where it is called again"),
    ("no_logit_sees_its_own_code_or_a_later_one", SeesItself, "changes the logits of place 0; it"),
    (
        "reconstruction_and_commitment_teach_the_encoder",
        DeafInTraining,
        "the reconstruction loss is .* gives the encoder no gradient",
    ),
    (
        "reconstruction_and_commitment_teach_the_encoder",
        CannotBeLowered,
        "the commitment loss is .* gives the encoder no gradient",
    ),
    ("a_loaded_model_is_the_one_that_was_saved", ForgetsATable, "numbers of .* are others where"),
    ("training_reaches_every_parameter", NeverUsed, "1 parameters .*: vqvae.encoder.unused"),
    ("training_reaches_every_parameter", RootOfNothing, "get a gradient with NaN or infinity: vqv"),
    ("a_seed_repeats_a_sample", NewLogitsEachTime, "where sampled with the same seed again"),
    ("the_score_is_finite_in_both_terms", ScoresNothing, r"the prior term is \[nan, nan\] nats"),
    ("the_score_is_finite_in_both_terms", MoreThanCertain, "codes are more than certain"),
    ("a_loaded_model_is_the_one_that_was_saved", GainInPython, "of codes are others where it was"),
    ("a_loaded_model_is_the_one_that_was_saved", ForgetsItsLoad, "of codes are others where it"),
]
KINDS = {
    ConvEncoder: (ENCODERS, "encoder", NETS),
    PatchifyEncoder: (ENCODERS, "encoder", PATCHES),
    PatchifyDecoder: (DECODERS, "decoder", PATCHES),
    CausalPrior: (PRIORS, "prior", {}),
    EMAQuantizer: (QUANTIZERS, "quantizer", CODEBOOK),
    GaussianLikelihood: (LIKELIHOODS, "likelihood", {}),
}


@pytest.mark.parametrize(("law", "broken", "message"), FAULTS)
def test_a_planted_fault_in_a_model_is_caught_by_its_law(law, broken, message, monkeypatch):
    model, changes = broken, IMAGE
    if isinstance(broken, type):
        registry, part, options = next(KINDS[base] for base in broken.mro() if base in KINDS)
        monkeypatch.setitem(registry._builders, "broken", broken)
        model, changes = image, {**IMAGE, part: Part("broken", options)}
    with pytest.raises(
        AssertionError, match=f"^{model.__name__} breaks the law {law}: .*{message}"
    ):
        testing.check_model(model, **changes)


def test_every_law_of_models_has_a_planted_fault():
    every = [*laws.LAWS_OF_A_CONFIG, *laws.LAWS]
    assert {law.__name__ for law in every} == {law for law, *_ in FAULTS}


def test_an_error_before_the_other_laws_goes_through_with_a_note(monkeypatch):
    class Raises(EMAQuantizer):
        def quantize(self, z_e, mask):
            if self.training:
                raise KeyError("codes")
            return super().quantize(z_e, mask)

    monkeypatch.setitem(QUANTIZERS._builders, "broken", Raises)
    with pytest.raises(KeyError) as raised:
        testing.check_model(image, **{**IMAGE, "quantizer": Part("broken", CODEBOOK)})
    assert raised.value.__notes__ == [
        "raised by image as its first stage was shown data, before its other laws"
    ]
