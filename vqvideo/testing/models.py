"""The laws of whole models: all parts together, from data to a sample."""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import vqvideo
from vqvideo.config import GeneratorConfig, build_generator
from vqvideo.generator import Generator
from vqvideo.grid import compute_downsampling
from vqvideo.testing.evaluation import a_model_in_training_mode_is_evaluated_unchanged
from vqvideo.testing.grids import assert_equal, assert_equal_values
from vqvideo.testing.laws import check_laws, note_on_error
from vqvideo.testing.model_setup import Build, ModelCase, build_untrained_case, build_warmed_up_case
from vqvideo.testing.model_streams import (
    codes_of_a_prefix_are_those_of_the_prefix_alone,
    streams_match_the_whole,
)
from vqvideo.testing.model_training import (
    reconstruction_and_commitment_teach_the_encoder,
    training_reaches_every_parameter,
)
from vqvideo.testing.prior_setup import run_seeded, select_item

REFERENCE = "vqvideo.Generator"


def check_model(model: str | Callable[[], GeneratorConfig], **changes: Any) -> None:
    """Check all laws of a model.

    The parts have laws of their own; this function checks them together, at the size of the model.

    Args:
        model: a name (see `vqvideo.list_models`), or the registered function that returns a
            config.
        changes: config overrides, as for `vqvideo.build`. Choose a small `sample_shape` and narrow
            networks, so that the check takes seconds.

    >>> narrow = {"width": 4, "num_blocks": 1}
    >>> check_model("image", sample_shape=(8, 12), encoder=narrow, decoder=narrow,
    ...             prior={"width": 4, "num_layers": 2})
    """
    name = model if isinstance(model, str) else getattr(model, "__name__", "the model")
    build = functools.partial(_build_model, model, changes)
    check_laws(CONFIG_LAWS, name, build)
    with note_on_error(f"raised by {name} while its first stage was run on data"):
        case = build_warmed_up_case(build)
    check_laws(LAWS, name, case)


def the_config_builds(build: Build) -> None:
    """The config can be built with these parts and options."""
    try:
        build()
    except AssertionError:
        raise
    except Exception as error:
        raise AssertionError(f"building it raises {type(error).__name__}: {error}") from error


def the_config_survives_json(build: Build) -> None:
    """The config is plain data: a round trip through JSON, as in a checkpoint, preserves it."""
    config = build().config
    try:
        restored = GeneratorConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    except (TypeError, ValueError) as error:
        raise AssertionError(f"the config does not survive JSON: {error}") from error
    changed = [name for name in vars(config) if getattr(config, name) != getattr(restored, name)]
    assert not changed, (
        f"JSON changes {changed[0]} to {getattr(restored, changed[0])}, expected "
        f"{getattr(config, changed[0])}"
    )


@torch.no_grad()
def parts_have_matching_sizes(build: Build) -> None:
    """Encoder, decoder and prior have the sizes that config, quantizer and likelihood require."""
    case = build_untrained_case(build)
    vqvae, config = case.generator.vqvae, case.generator.config
    down = compute_downsampling(config.strides)
    encoder, quantizer = vqvae.encoder, vqvae.quantizer
    actual = (encoder.rank, encoder.channels, tuple(encoder.downsampling))
    configured = (config.rank, config.channels, down)
    assert actual == configured, (
        f"the encoder has rank, channels and downsampling {actual}, but the config has {configured}"
    )
    z_e, z_shape = encoder(case.x), [len(case.x), quantizer.z_channels, *case.grid]
    assert list(z_e.shape) == z_shape, f"z_e must be {z_shape}, got {list(z_e.shape)}"
    channels = vqvae.likelihood.num_parameters(config.channels)
    shape = [len(case.x), channels, *case.x.shape[2:]]
    parameters = vqvae.predict_parameters(z_e, case.generator.select_decoder_cond(case.cond))
    got = list(parameters.shape)
    assert got == shape, f"the decoder must return {shape}, got {got}"
    num_codebooks, prior = quantizer.num_codebooks, case.prior
    prior_sizes = (prior.rank, prior.codebook_size, prior.num_codebooks)
    code_sizes = (config.rank, quantizer.codebook_size, num_codebooks)
    assert prior_sizes == code_sizes, (
        f"the prior has rank, codebook_size and num_codebooks {prior_sizes}, "
        f"but the codes have {code_sizes}"
    )
    assert not prior.cond.has_actions or prior.cond.actions_per_code == down[0], (
        f"the prior takes {prior.cond.actions_per_code} actions per code frame, but a code frame "
        f"covers {down[0]} data frames"
    )
    codes = vqvae.encode(case.x)
    logits = prior.logits(codes, case.generator.select_prior_cond(case.cond))
    expected = [len(codes), prior.codebook_size, *codes.shape[1:]]
    assert list(logits.shape) == expected, f"logits must be {expected}, got {list(logits.shape)}"


def codes_fit_the_grid(case: ModelCase) -> None:
    """Codes are int64 `[b, *grid]`, or `[b, *grid, s]`, in [0, K). They decode to data of the
    original shape, in [-1, 1].
    """
    vqvae = case.generator.vqvae
    codes, size, inner_shape = vqvae.encode(case.x), vqvae.quantizer.codebook_size, []
    if vqvae.quantizer.num_codebooks > 1:
        inner_shape = [vqvae.quantizer.num_codebooks]
    expected = [len(case.x), *case.grid, *inner_shape]
    assert list(codes.shape) == expected and codes.dtype == torch.int64, (
        f"codes must be int64 {expected}, got {codes.dtype} {list(codes.shape)}"
    )
    low, high = int(codes.min()), int(codes.max())
    assert 0 <= low <= high < size, f"codes must lie in [0, {size}), got {low} to {high}"
    _assert_is_data("decoded", _decode(case, codes), case)


def items_are_encoded_independently(case: ModelCase) -> None:
    """The z_e of an item, and the likelihood parameters decoded from its codes, are the same alone
    as in a batch, within rounding. A second call gives bitwise the same result.
    """
    vqvae, cond = case.generator.vqvae, case.generator.select_decoder_cond(case.cond)
    codes = vqvae.encode(case.x)
    with torch.no_grad():
        for name, inputs, run in (
            ("z_e", case.x, lambda data, cond: vqvae.compute_z_e(data)),
            (
                "the decoder output",
                codes,
                lambda data, cond: vqvae.predict_parameters(vqvae.quantizer.decode(data), cond),
            ),
        ):
            batched = run(inputs, cond)
            assert_equal_values(name, run(inputs, cond), batched, "the network is called again")
            for item in range(len(case.x)):
                single = run(inputs[item : item + 1], select_item(cond, item))[0]
                error = (single - batched[item]).abs().max().item()
                assert error < 1e-3 * (1 + batched.abs().max().item()), (
                    f"{name} of item {item} differs between alone and in a batch, "
                    f"by up to {error:.1e}"
                )


@torch.no_grad()
def logits_are_strictly_causal(case: ModelCase) -> None:
    """Changing a code changes no logit at its own position or an earlier one, bit for bit. (For a
    prior with latents: given the latents.)
    """
    codes, cond = case.generator.vqvae.encode(case.x), case.generator.select_prior_cond(case.cond)
    cond = case.prior.sample_latents(len(codes), case.grid, cond, seed=1)
    prior = case.prior.code_prior
    before, num_codes = run_seeded(prior.logits, codes, cond).flatten(2), codes[0].numel()
    for position in sorted({0, num_codes // 2, num_codes - 1}):
        other = codes.clone()
        other.flatten(1)[:, position] = (codes.flatten(1)[:, position] + 1) % prior.codebook_size
        logits = run_seeded(prior.logits, other, cond).flatten(2)
        changed = (logits != before).any(dim=1).any(dim=0)
        assert not changed[: position + 1].any(), (
            f"the code at position {position} of {num_codes} changes the logits at position "
            f"{int(changed.nonzero()[0])}; it may only change logits at later positions"
        )


def a_seed_repeats_a_sample(case: ModelCase) -> None:
    """A sample is data of the `sample_shape`; its seed repeats it, another seed changes it."""
    one, repeated, other = (_sample(case, seed) for seed in (3, 3, 4))
    _assert_is_data("sampled", one, case)
    assert_equal_values("data", repeated, one, "sampled with the same seed again")
    assert not torch.equal(one, other), "every seed gives the same sample"


def the_score_is_finite_in_both_terms(case: ModelCase) -> None:
    """`log_prob` returns two finite terms `[b]` in nats, reconstruction and prior. They equal the
    `log_prob` of the likelihood and of the prior.
    """
    generator, x = case.generator, case.x
    score = generator.log_prob(x, case.cond)
    with torch.no_grad():
        parameters, quantized = generator.vqvae(x, generator.select_decoder_cond(case.cond))
        separate_terms = {
            "reconstruction": generator.vqvae.likelihood.log_prob(parameters, x),
            "prior": case.prior.log_prob(quantized.codes, generator.select_prior_cond(case.cond)),
        }
    for term, expected in separate_terms.items():
        value = getattr(score, term)
        assert value.shape == (len(x),), f"the {term} term must be [b], got {list(value.shape)}"
        assert value.isfinite().all(), f"the {term} term is {value.tolist()} nats"
        assert torch.allclose(value, expected), (
            f"the {term} term is {value.tolist()} nats; the part itself gives {expected.tolist()}"
        )
    log_prob = separate_terms["prior"]
    assert (log_prob < 1e-3).all(), f"codes have a log_prob above 0: {log_prob.tolist()} nats"


def a_loaded_model_is_the_one_that_was_saved(case: ModelCase) -> None:
    """A saved and loaded model has the same config and weights. It gives bitwise the same codes,
    decoded data, samples and scores, whatever the global seed of torch is at loading.
    """
    with tempfile.TemporaryDirectory() as folder:
        vqvideo.save(case.generator, Path(folder) / "model")
        torch.manual_seed(7)  # random values that are not saved differ now
        generator = vqvideo.load(Path(folder) / "model")
    assert generator.config == case.generator.config, "loading changed the config"
    assert_equal(case.generator, generator, "loading changed")
    loaded, codes = case._replace(generator=generator), case.generator.vqvae.encode(case.x)
    where = "the model was saved and loaded"
    assert_equal_values("codes", generator.vqvae.encode(case.x), codes, where)
    assert_equal_values("data", _decode(loaded, codes), _decode(case, codes), where)
    assert_equal_values("a sample", _sample(loaded, 3), _sample(case, 3), where)
    one, other = (each.log_prob(case.x, case.cond).elbo for each in (generator, case.generator))
    assert_equal_values("the score", one, other, where)


CONFIG_LAWS = (the_config_builds, the_config_survives_json, parts_have_matching_sizes)
LAWS = (
    codes_fit_the_grid,
    streams_match_the_whole,
    codes_of_a_prefix_are_those_of_the_prefix_alone,
    items_are_encoded_independently,
    logits_are_strictly_causal,
    training_reaches_every_parameter,
    reconstruction_and_commitment_teach_the_encoder,
    a_seed_repeats_a_sample,
    the_score_is_finite_in_both_terms,
    a_loaded_model_is_the_one_that_was_saved,
    a_model_in_training_mode_is_evaluated_unchanged,
)


def _build_model(model: str | Callable[[], GeneratorConfig], changes: dict[str, Any]) -> Generator:
    if isinstance(model, str):
        return vqvideo.build(model, **changes)
    assert callable(model), (
        f"model must be a name or the registered function, got {type(model).__name__}"
    )
    config = model()
    assert isinstance(config, GeneratorConfig), (
        f"the function of a model must return a vqvideo.config.GeneratorConfig, "
        f"got {type(config).__name__}"
    )
    return build_generator(config.merge(**changes))


def _sample(case: ModelCase, seed: int) -> Tensor:
    return case.generator.sample(num_samples=len(case.x), cond=case.cond, seed=seed)


def _decode(case: ModelCase, codes: Tensor) -> Tensor:
    return case.generator.vqvae.decode(codes, case.generator.select_decoder_cond(case.cond))


def _assert_is_data(origin: str, data: Tensor, case: ModelCase) -> None:
    assert data.shape == case.x.shape, (
        f"{origin} data must be {list(case.x.shape)}, got {list(data.shape)}"
    )
    assert data.abs().max() <= 1, (
        f"{origin} data must lie in [-1, 1], got values from {data.min().item():.3g} to "
        f"{data.max().item():.3g}"
    )
