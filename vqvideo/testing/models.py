"""The laws of whole models: what must hold of parts together, from data to a sample."""

from __future__ import annotations

import copy
import functools
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import vqvideo
from vqvideo.config import GeneratorConfig, build_generator
from vqvideo.generator import Generator
from vqvideo.grid import downsampling
from vqvideo.testing.autoencoder_pieces import is_cut
from vqvideo.testing.grids import require_equal, share
from vqvideo.testing.laws import hold, noting
from vqvideo.testing.model_setup import Build, Case, untrained, used
from vqvideo.testing.model_training import (
    reconstruction_and_commitment_teach_the_encoder,
    training_reaches_every_parameter,
)
from vqvideo.testing.prior_setup import item_of, seeded

READ = "vqvideo.Generator"


def check_model(model: str | Callable[[], GeneratorConfig], **changes: Any) -> None:
    """All laws of a model.

    Parts have laws of their own; here they are together, at the size that the model has.

    Args:
        model: a name (see `vqvideo.list_models`), or the function that is registered, which
            returns a config.
        changes: entries of its config, as for `vqvideo.build`: a small `sample_shape`, narrow
            networks, so that it takes seconds.

    >>> narrow = {"width": 4, "num_blocks": 1}
    >>> check_model("image", sample_shape=(8, 12), encoder=narrow, decoder=narrow,
    ...             prior={"width": 4, "num_layers": 2})
    """
    name = model if isinstance(model, str) else getattr(model, "__name__", "the model")
    build = functools.partial(_built, model, changes)
    hold(LAWS_OF_A_CONFIG, name, build)
    with noting(f"raised by {name} as its first stage was shown data, before its other laws"):
        case = used(build)
    hold(LAWS, name, case)


def it_builds(build: Build) -> None:
    """A config with these parts and options can be built."""
    try:
        build()
    except AssertionError:
        raise
    except Exception as error:
        raise AssertionError(f"building it raises {type(error).__name__}: {error}") from error


def its_config_survives_json(build: Build) -> None:
    """The config is plain data: read back from JSON, as from a checkpoint, it is the same."""
    config = build().config
    try:
        again = GeneratorConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    except (TypeError, ValueError) as error:
        raise AssertionError(f"its config does not go through JSON: {error}") from error
    changed = [name for name in vars(config) if getattr(config, name) != getattr(again, name)]
    assert not changed, (
        f"JSON gives back another {changed[0]}: {getattr(again, changed[0])}, not "
        f"{getattr(config, changed[0])}"
    )


@torch.no_grad()
def its_parts_fit(build: Build) -> None:
    """Encoder, decoder and prior have the sizes that config, quantizer and likelihood ask for."""
    case = untrained(build)
    vqvae, config = case.generator.vqvae, case.generator.config
    down = downsampling(config.strides)
    encoder, quantizer = vqvae.encoder, vqvae.quantizer
    said = (encoder.rank, encoder.channels, tuple(encoder.downsampling))
    stated = (config.rank, config.channels, down)
    assert said == stated, (
        f"its encoder says rank, channels and downsampling are {said}, its config {stated}"
    )
    z_e, z_shape = encoder(case.x), [len(case.x), quantizer.z_channels, *case.grid]
    assert list(z_e.shape) == z_shape, f"z_e must be {z_shape}, got {list(z_e.shape)}"
    channels = vqvae.likelihood.num_parameters(config.channels)
    shape = [len(case.x), channels, *case.x.shape[2:]]
    parameters = vqvae.parameters_of(z_e, case.generator.for_decoder(case.cond))
    assert list(parameters.shape) == shape, (
        f"the decoder must give {shape}, got {list(parameters.shape)}"
    )
    several, prior = quantizer.num_codebooks, case.prior
    has = (prior.rank, prior.codebook_size, prior.num_codebooks)
    needed = (config.rank, quantizer.codebook_size, several)
    assert has == needed, (
        f"its prior has rank, codebook_size and num_codebooks {has}, its codes {needed}"
    )
    assert not prior.cond.takes_actions or prior.cond.actions_per_code == down[0], (
        f"its prior takes {prior.cond.actions_per_code} actions per code, which stands for "
        f"{down[0]} data frames"
    )
    codes = vqvae.encode(case.x)
    logits = prior.logits(codes, case.generator.for_prior(case.cond))
    expected = [len(codes), prior.codebook_size, *codes.shape[1:]]
    assert list(logits.shape) == expected, f"logits must be {expected}, got {list(logits.shape)}"


def codes_fit_the_grid(case: Case) -> None:
    """Codes are int64 `[b, *grid]`, or `[b, *grid, s]`, in [0, K), and decode to data as large as
    it was, in [-1, 1].
    """
    vqvae = case.generator.vqvae
    codes, size, several = vqvae.encode(case.x), vqvae.quantizer.codebook_size, []
    if vqvae.quantizer.num_codebooks > 1:
        several = [vqvae.quantizer.num_codebooks]
    expected = [len(case.x), *case.grid, *several]
    assert list(codes.shape) == expected and codes.dtype == torch.int64, (
        f"codes must be int64 {expected}, got {codes.dtype} {list(codes.shape)}"
    )
    low, high = int(codes.min()), int(codes.max())
    assert 0 <= low <= high < size, f"codes must lie in [0, {size}), got {low} to {high}"
    _require_data("decoded", _decoded(case, codes), case)


def streams_are_the_whole(case: Case) -> None:
    """`encode_stream` and `decode_stream` give, bit for bit, what `encode` and `decode` give,
    whatever pieces data and codes come in. (Of networks that say how they can be cut.)
    """
    vqvae = copy.deepcopy(case.generator.vqvae)
    cond = case.generator.for_decoder(case.cond)
    vqvae.encoder.block = vqvae.decoder.block = 1  # so that there is something to keep
    codes = vqvae.encode(case.x)
    if is_cut(vqvae.encoder):
        for each in (1, vqvae.downsampling[0] + 1):
            streamed = torch.cat(list(vqvae.encode_stream(case.x.split(each, dim=2))), dim=1)
            _require_same("codes", streamed, codes, f"data comes in pieces of {each} steps")
    if is_cut(vqvae.decoder):
        for each in (1, 2):
            pieces: Iterator[Tensor] = vqvae.decode_stream(codes.split(each, dim=1), cond)
            streamed, whole = torch.cat(list(pieces), dim=2), vqvae.decode(codes, cond)
            _require_same("data", streamed, whole, f"codes come in pieces of {each} steps")


def an_item_is_coded_by_itself(case: Case) -> None:
    """An item alone has the z_e, and gets from its codes the parameters of the likelihood, that it
    has in a batch, within rounding; and called again has the same to the bit.
    """
    vqvae, cond = case.generator.vqvae, case.generator.for_decoder(case.cond)
    codes = vqvae.encode(case.x)
    with torch.no_grad():
        for what, given, run in (
            ("z_e", case.x, lambda each, told: vqvae.z_e(each)),
            (
                "what the decoder gives",
                codes,
                lambda each, told: vqvae.parameters_of(vqvae.quantizer.decode(each), told),
            ),
        ):
            whole = run(given, cond)
            _require_same(what, run(given, cond), whole, "it is called again")
            for item in range(len(case.x)):
                alone = run(given[item : item + 1], item_of(cond, item))[0]
                apart = (alone - whole[item]).abs().max().item()
                assert apart < 1e-3 * (1 + whole.abs().max().item()), (
                    f"{what} of item {item} is another alone than in a batch, by up to {apart:.1e}"
                )


@torch.no_grad()
def no_logit_sees_its_own_code_or_a_later_one(case: Case) -> None:
    """Another code somewhere changes no logit of its own place or of one before, to the bit. (Of a
    prior with latents, given those.)
    """
    codes, cond = case.generator.vqvae.encode(case.x), case.generator.for_prior(case.cond)
    cond = case.prior.draw_latents(len(codes), case.grid, cond, seed=1)
    prior = case.prior.drawn_from
    before, number = seeded(prior.logits, codes, cond).flatten(2), codes[0].numel()
    for place in sorted({0, number // 2, number - 1}):
        other = codes.clone()
        other.flatten(1)[:, place] = (codes.flatten(1)[:, place] + 1) % prior.codebook_size
        logits = seeded(prior.logits, other, cond).flatten(2)
        changed = (logits != before).any(dim=1).any(dim=0)
        assert not changed[: place + 1].any(), (
            f"the code at place {place} of {number} changes the logits of place "
            f"{int(changed.nonzero()[0])}; it must change those of later ones alone"
        )


def a_seed_repeats_a_sample(case: Case) -> None:
    """A sample is data of the `sample_shape`; its seed decides it, and others give others."""
    one, again, other = (_sample(case, seed) for seed in (3, 3, 4))
    _require_data("sampled", one, case)
    _require_same("data", again, one, "sampled with the same seed again")
    assert not torch.equal(one, other), "every seed gives the same sample"


def the_score_is_finite_in_both_terms(case: Case) -> None:
    """`log_prob` gives two terms `[b]` in nats, that of the reconstruction and that of the codes,
    each what likelihood and prior say by themselves, and finite.
    """
    generator, x = case.generator, case.x
    score = generator.log_prob(x, case.cond)
    with torch.no_grad():
        parameters, quantized = generator.vqvae(x, generator.for_decoder(case.cond))
        own = {
            "reconstruction": generator.vqvae.likelihood.log_prob(parameters, x),
            "prior": case.prior.log_prob(quantized.codes, generator.for_prior(case.cond)),
        }
    for term, expected in own.items():
        found = getattr(score, term)
        assert found.shape == (len(x),), f"the {term} term must be [b], got {list(found.shape)}"
        assert found.isfinite().all(), f"the {term} term is {found.tolist()} nats"
        assert torch.allclose(found, expected), (
            f"the {term} term is {found.tolist()} nats, by itself {expected.tolist()}"
        )
    nats = own["prior"]
    assert (nats < 1e-3).all(), f"codes are more than certain: log_prob gives {nats.tolist()} nats"


def a_loaded_model_is_the_one_that_was_saved(case: Case) -> None:
    """Saved and loaded, it has the same config and weights, and gives the same codes, the same data
    for them, the same samples and the same scores, bit for bit, whatever torch's seed is when it is
    loaded.
    """
    with tempfile.TemporaryDirectory() as folder:
        vqvideo.save(case.generator, Path(folder) / "model")
        torch.manual_seed(7)  # what is drawn and not saved is another now
        again = vqvideo.load(Path(folder) / "model")
    assert again.config == case.generator.config, "its config is another after loading"
    require_equal(case.generator, again, "loading changed")
    loaded, codes = case._replace(generator=again), case.generator.vqvae.encode(case.x)
    where = "it was saved and loaded"
    _require_same("codes", again.vqvae.encode(case.x), codes, where)
    _require_same("data", _decoded(loaded, codes), _decoded(case, codes), where)
    _require_same("a sample", _sample(loaded, 3), _sample(case, 3), where)
    one, other = (each.log_prob(case.x, case.cond).bound for each in (again, case.generator))
    _require_same("the score", one, other, where)


LAWS_OF_A_CONFIG = (it_builds, its_config_survives_json, its_parts_fit)
LAWS = (
    codes_fit_the_grid,
    streams_are_the_whole,
    an_item_is_coded_by_itself,
    no_logit_sees_its_own_code_or_a_later_one,
    training_reaches_every_parameter,
    reconstruction_and_commitment_teach_the_encoder,
    a_seed_repeats_a_sample,
    the_score_is_finite_in_both_terms,
    a_loaded_model_is_the_one_that_was_saved,
)


def _built(model: str | Callable[[], GeneratorConfig], changes: dict[str, Any]) -> Generator:
    if isinstance(model, str):
        return vqvideo.build(model, **changes)
    assert callable(model), (
        f"a model is a name, or the function that is registered, got {type(model).__name__}"
    )
    config = model()
    assert isinstance(config, GeneratorConfig), (
        f"a model is a function that returns a vqvideo.config.GeneratorConfig; it "
        f"returned {type(config).__name__}"
    )
    return build_generator(config.updated(**changes))


def _sample(case: Case, seed: int) -> Tensor:
    return case.generator.sample(num_samples=len(case.x), cond=case.cond, seed=seed)


def _decoded(case: Case, codes: Tensor) -> Tensor:
    return case.generator.vqvae.decode(codes, case.generator.for_decoder(case.cond))


def _require_data(how: str, data: Tensor, case: Case) -> None:
    assert data.shape == case.x.shape, (
        f"what is {how} must be {list(case.x.shape)}, got {list(data.shape)}"
    )
    assert data.abs().max() <= 1, (
        f"what is {how} must lie in [-1, 1], got values from {data.min().item():.3g} to "
        f"{data.max().item():.3g}"
    )


def _require_same(what: str, found: Tensor, expected: Tensor, where: str) -> None:
    assert found.shape == expected.shape, (
        f"{what} {list(expected.shape)} become {list(found.shape)} where {where}"
    )
    assert torch.equal(found, expected), (
        f"{share(found, expected)} numbers of {what} are others where {where}"
    )
