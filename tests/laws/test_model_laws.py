"""The laws of models hold for every registered one, and each catches a planted fault."""

import numpy as np
import pytest
import torch
from torch import nn

import vqvideo
from vqvideo import testing
from vqvideo.config import PartConfig
from vqvideo.likelihoods import LIKELIHOODS, GaussianLikelihood
from vqvideo.nets import DECODERS, ENCODERS
from vqvideo.nets.autoencoder import ConvEncoder
from vqvideo.nets.patchify import PatchifyDecoder, PatchifyEncoder
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
WAVENET = {**SMALL, "likelihood": {"num_features": 4, "prior": {"name": "wavenet", **PRIOR}}}
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


@pytest.mark.slow
@pytest.mark.parametrize("name", vqvideo.list_models())
def test_every_registered_model_keeps_the_laws(name):
    testing.check_model(name, **SMALL_MODELS.get(name, {}))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["image", "audio", "video"])
def test_a_model_conditioned_on_speaker_and_class_keeps_the_laws(name):
    told = {"num_speakers": 3, "num_classes": 2}
    prior = {**PRIOR, "cond": {**told, "local_channels": 2}}
    testing.check_model(name, **{**SMALL_MODELS[name], "cond": told, "prior": prior})


def test_a_function_that_returns_a_config_is_checked_like_a_registered_model():
    testing.check_model(image, **IMAGE)


# -- planted faults: each is a part under the name "broken", or a config -----------------------


def build_unknown_option_config():
    return image().merge(encoder={"widht": 8})


def build_numpy_config():
    return image().merge(commitment_weight=np.float32(0.25))


class WrongStrideEncoder(ConvEncoder):
    def __init__(self, **options):
        super().__init__(**options)
        self.downsampling = (2, 2)


class CroppingDecoder(PatchifyDecoder):
    def forward(self, z_q, past=None):
        return super().forward(z_q, past)[..., :-1]


class SmallPrior(CausalPrior):
    def __init__(self, *, rank, codebook_size):
        super().__init__(
            rank=rank, codebook_size=codebook_size, width=8, kernel_radii=(1, 1), dilations=(1, 1)
        )


class FixedCodebookSizePrior(SmallPrior):
    def __init__(self, *, rank, codebook_size):
        super().__init__(rank=rank, codebook_size=5)


class OutOfRangeModeLikelihood(GaussianLikelihood):
    def mode(self, parameters):
        return super().mode(parameters) + 3


class NarrowCodesQuantizer(EMAQuantizer):
    def quantize(self, z_e, mask):
        quantized = super().quantize(z_e, mask)
        return quantized._replace(codes=quantized.codes.int())


class CallCountingEncoder(PatchifyEncoder):
    calls = 0

    def forward(self, x, past=None):
        self.calls += 1
        return super().forward(x, past).roll(self.calls, dims=1)


class CallCountingDecoder(PatchifyDecoder):
    calls = 0

    def forward(self, z_q, past=None):
        self.calls += 1
        return super().forward(z_q, past) * self.calls


class UnusedParameterEncoder(ConvEncoder):
    def __init__(self, **options):
        super().__init__(**options)
        self.unused = nn.Parameter(torch.zeros(3))


class NonFiniteGradientEncoder(ConvEncoder):
    def forward(self, x, past=None):
        z_e = super().forward(x, past)
        return z_e + (z_e * 0).sqrt()


class RandomLogitsPrior(SmallPrior):
    def logits(self, codes, cond=None):
        logits = super().logits(codes, cond)
        return logits + torch.randn_like(logits)

    def init_state(self, batch, grid, cond=None):
        return None


class ZeroLogProbPrior(SmallPrior):
    def log_prob(self, codes, cond=None):
        return super().log_prob(codes, cond).log()


class PositiveLogProbPrior(SmallPrior):
    def log_prob(self, codes, cond=None):
        return -super().log_prob(codes, cond)


class UnsavedGainQuantizer(EMAQuantizer):
    gain = 1.0

    def quantize(self, z_e, mask):
        if self.training:
            self.gain = -1.0
        return super().quantize(z_e * self.gain, mask)


class UnsavedUsageQuantizer(EMAQuantizer):
    def __init__(self, **options):
        super().__init__(**options)
        self.register_buffer("codebook", self.codebook, persistent=False)


class ItemMixingEncoder(ConvEncoder):
    def forward(self, x, past=None):
        return super().forward(x - x.mean(dim=0), past)


class NoisyEncoder(ConvEncoder):
    configure_chunks = lambda *given, **options: None  # noqa: E731 - pieces of it would differ

    def forward(self, x, past=None):
        return super().forward(x, past) + torch.randn(())


class NonCausalPrior(SmallPrior):
    def logits(self, codes, cond=None):
        own = nn.functional.one_hot(codes, self.codebook_size).movedim(-1, 1)
        return super().logits(codes, cond) + own


class DetachedQuantizer(EMAQuantizer):
    def quantize(self, z_e, mask):
        quantized = super().quantize(z_e, mask)
        return quantized._replace(z_q=quantized.z_q.detach()) if self.training else quantized


class ConstantLossQuantizer(EMAQuantizer):
    def quantize(self, z_e, mask):
        quantized = super().quantize(z_e, mask)
        return quantized._replace(commitment_loss=quantized.commitment_loss.detach())


class UnsavedTablePrior(SmallPrior):
    def __init__(self, **sizes):
        super().__init__(**sizes)
        self.table = torch.randn(self.codebook_size)

    def logits(self, codes, cond=None):
        return super().logits(codes, cond) + self.table.view(-1, *(1,) * self.rank)

    def init_state(self, batch, grid, cond=None):
        return None


class LookaheadEncoder(ConvEncoder):
    """A causal encoder that depends on the rest of the chunk."""

    def __init__(self, **options):
        super().__init__(**options, causal=True)

    def forward(self, x, state=None):
        z_e = super().forward(x, state)
        return z_e + z_e.mean(dim=2, keepdim=True)


class BoundDropoutEncoder(ConvEncoder):
    """A function keeps the module itself, so that a view of the encoder still calls it."""

    def __init__(self, **options):
        super().__init__(**options)
        self.dropout = dropout = nn.Dropout(0.5)
        self.drop = lambda x: dropout(x)

    def forward(self, x, state=None):
        return super().forward(self.drop(x), state)


def build_another_kind():
    return {"sample_shape": (8, 12)}


FAULTS = [  # the law, what breaks it and keeps those before it, what is said
    (
        "the_config_builds",
        build_unknown_option_config,
        "raises ValueError: .*no option 'widht'; did you mean",
    ),
    (
        "the_config_builds",
        build_another_kind,
        r"must return a vqvideo\.config\.GeneratorConfig, got dict",
    ),
    ("the_config_survives_json", build_numpy_config, "does not survive JSON: .*float32"),
    (
        "parts_have_matching_sizes",
        WrongStrideEncoder,
        r"the encoder has .*\(2, 3, \(2, 2\)\), but the config has",
    ),
    (
        "parts_have_matching_sizes",
        CroppingDecoder,
        r"the decoder must return \[2, 3, 8, 12\], got \[2, 3, 8, 11\]",
    ),
    (
        "parts_have_matching_sizes",
        FixedCodebookSizePrior,
        r"the prior has .* \(2, 5, 1\), but the codes have \(2, 16, 1\)",
    ),
    (
        "codes_fit_the_grid",
        NarrowCodesQuantizer,
        r"codes must be int64 \[2, 2, 3\], got torch.int32",
    ),
    (
        "codes_fit_the_grid",
        OutOfRangeModeLikelihood,
        r"decoded data must lie in \[-1, 1\], got values from 2",
    ),
    (
        "streams_match_the_whole",
        CallCountingEncoder,
        "of codes differ when data is split into chunks of 1",
    ),
    (
        "streams_match_the_whole",
        CallCountingDecoder,
        "of data differ when codes are split into chunks of",
    ),
    (
        "codes_of_a_prefix_are_those_of_the_prefix_alone",
        LookaheadEncoder,
        "values of codes differ when the data ends after 1 of 66 codes",
    ),
    (
        "items_are_encoded_independently",
        ItemMixingEncoder,
        "z_e of item 0 differs between alone and in a batch",
    ),
    (
        "items_are_encoded_independently",
        NoisyEncoder,
        "values of z_e differ when the network is called again",
    ),
    (
        "logits_are_strictly_causal",
        NonCausalPrior,
        "changes the logits at position 0; it",
    ),
    (
        "reconstruction_and_commitment_teach_the_encoder",
        DetachedQuantizer,
        "the reconstruction loss is .* gives the encoder no gradient",
    ),
    (
        "reconstruction_and_commitment_teach_the_encoder",
        ConstantLossQuantizer,
        "the commitment loss is .* gives the encoder no gradient",
    ),
    (
        "a_loaded_model_is_the_one_that_was_saved",
        UnsavedTablePrior,
        "values of .* differ when the model was saved",
    ),
    (
        "training_reaches_every_parameter",
        UnusedParameterEncoder,
        "1 parameters .*: vqvae.encoder.unused",
    ),
    (
        "training_reaches_every_parameter",
        NonFiniteGradientEncoder,
        "get a gradient with NaN or infinity: vqv",
    ),
    ("a_seed_repeats_a_sample", RandomLogitsPrior, "differ when sampled with the same seed again"),
    ("the_score_is_finite_in_both_terms", ZeroLogProbPrior, r"the prior term is \[nan, nan\] nats"),
    ("the_score_is_finite_in_both_terms", PositiveLogProbPrior, "codes have a log_prob above 0"),
    (
        "a_loaded_model_is_the_one_that_was_saved",
        UnsavedGainQuantizer,
        "of codes differ when the model was saved",
    ),
    (
        "a_loaded_model_is_the_one_that_was_saved",
        UnsavedUsageQuantizer,
        "of codes differ when the model",
    ),
    (
        "a_model_in_training_mode_is_evaluated_unchanged",
        BoundDropoutEncoder,
        "a Dropout is evaluated in training mode",
    ),
]
KINDS = {
    ConvEncoder: (ENCODERS, "encoder", NETS),
    PatchifyEncoder: (ENCODERS, "encoder", PATCHES),
    PatchifyDecoder: (DECODERS, "decoder", PATCHES),
    CausalPrior: (PRIORS, "prior", {}),
    EMAQuantizer: (QUANTIZERS, "quantizer", CODEBOOK),
    GaussianLikelihood: (LIKELIHOODS, "likelihood", {}),
}


@pytest.mark.slow
@pytest.mark.parametrize(("law", "broken", "message"), FAULTS)
def test_a_planted_fault_in_a_model_is_caught_by_its_law(law, broken, message, monkeypatch):
    model, changes = broken, IMAGE
    if isinstance(broken, type):
        registry, part, options = next(KINDS[base] for base in broken.mro() if base in KINDS)
        monkeypatch.setitem(registry._builders, "broken", broken)
        model, changes = image, {**IMAGE, part: PartConfig("broken", options)}
    with pytest.raises(
        AssertionError, match=f"^{model.__name__} breaks the law {law}: .*{message}"
    ):
        testing.check_model(model, **changes)


def test_every_law_of_models_has_a_planted_fault():
    every = [*laws.CONFIG_LAWS, *laws.LAWS]
    assert {law.__name__ for law in every} == {law for law, *_ in FAULTS}


def test_an_error_before_the_other_laws_goes_through_with_a_note(monkeypatch):
    class Raises(EMAQuantizer):
        def quantize(self, z_e, mask):
            if self.training:
                raise KeyError("codes")
            return super().quantize(z_e, mask)

    monkeypatch.setitem(QUANTIZERS._builders, "broken", Raises)
    with pytest.raises(KeyError) as raised:
        testing.check_model(image, **{**IMAGE, "quantizer": PartConfig("broken", CODEBOOK)})
    assert raised.value.__notes__ == ["raised by image while its first stage was run on data"]
