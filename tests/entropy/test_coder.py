"""Codes to bytes and back, under every prior, and what is refused."""

import copy
import math
import sys
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from vqvideo.cond import Cond, CondSpec
from vqvideo.entropy import PriorCoder, coder
from vqvideo.entropy.segment import pack_segment
from vqvideo.priors import PRIORS, Prior, VQVAEPrior, get_default_prior
from vqvideo.sampling import generate
from vqvideo.testing.entropy import check_entropy_coding
from vqvideo.testing.prior_setup import build_noisy_prior, make_cond, make_random_codes

SMALL = {"transformer": {"width": 12, "num_layers": 2, "num_heads": 2}}
BUILT_IN = [(get_default_prior(rank), rank) for rank in (1, 2, 3)]
BUILT_IN += [("transformer", rank) for rank in (1, 2, 3)]
GRID = (3, 2, 4)


def build_small_prior(name, **options):
    return partial(PRIORS.get(name), **SMALL.get(name, {"width": 8, "num_layers": 3}), **options)


@pytest.fixture(scope="module")
def prior():
    """Of codes at places with a row, a column and a class each."""
    return build_noisy_prior(
        build_small_prior("masked3d", coordinates=True), 3, 37, CondSpec(num_classes=3)
    )


@pytest.fixture(scope="module")
def encoded_clip(prior):
    """The coder of the prior; five items of codes, their conditions and their segments."""
    codes, cond = make_random_codes(prior, 5, GRID), make_cond(prior, 5, GRID)
    made = PriorCoder(prior)
    return made, codes, cond, made.encode(codes, cond)


def test_every_registered_prior_is_under_test():
    of_plugins = {each.name for each in PRIORS.list_plugins() if each.status != "shadowed"}
    ours = set(PRIORS.list_names()) - of_plugins
    exact = {name for name in ours if PRIORS.get(name) is not VQVAEPrior}
    assert {name for name, _ in BUILT_IN} == exact


@pytest.mark.slow
@pytest.mark.parametrize("num_codebooks", [1, 2])
@pytest.mark.parametrize(("name", "rank"), BUILT_IN)
def test_every_registered_prior_keeps_the_laws_of_entropy_coding(name, rank, num_codebooks):
    check_entropy_coding(build_small_prior(name), rank, num_codebooks=num_codebooks)


class UnigramPrior(Prior):
    """The least a prior can be: no state, and no code depends on another."""

    def __init__(self, *, rank, codebook_size, num_codebooks=1):
        super().__init__()
        self.rank, self.codebook_size, self.cond = rank, codebook_size, CondSpec()
        self.num_codebooks = num_codebooks
        self.scores = nn.Parameter(torch.zeros(codebook_size))

    def logits(self, codes, cond=None):
        shape = (1, -1, *(1,) * (codes.ndim - 1))
        return self.scores.view(shape).expand(len(codes), -1, *codes.shape[1:])


@pytest.mark.parametrize("num_codebooks", [1, 2])
def test_a_prior_without_a_state_can_keep_the_laws(num_codebooks):
    check_entropy_coding(UnigramPrior, 2, num_codebooks=num_codebooks)


# -- size ----------------------------------------------------------------------------------


def test_constriction_codes_by_the_very_frequencies(encoded_clip):
    """A range decoder written down in whole numbers reads its words."""
    made, codes, cond, segments = encoded_clip
    each = made.compute_frequencies(codes, cond).long().flatten(1, -2).tolist()
    for item, segment in enumerate(segments):
        words = [int.from_bytes(segment[i : i + 4], "little") for i in range(6, len(segment), 4)]
        words += [0] * 4
        low, width, point = 0, 2**64 - 1, words.pop(0) << 32 | words.pop(0)
        for code, row in zip(codes[item].flatten().tolist(), each[item], strict=True):
            unit, before = width >> 24, sum(row[:code])
            assert before <= (point - low) % 2**64 // unit < before + row[code]
            low, width = (low + unit * before) % 2**64, unit * row[code]
            if width < 2**32:
                low, width = (low << 32) % 2**64, width << 32
                point = (point << 32 | words.pop(0)) % 2**64


@pytest.mark.slow
def test_codes_that_the_prior_draws_take_within_2_percent_of_its_own_nats():
    """With far less entropy than plain packing, and checks and all."""
    prior = build_noisy_prior(build_small_prior("masked3d"), 3, 37).float()
    with torch.no_grad():
        prior.head.out[0].weight *= 3
    grid = (6, 14, 15)
    codes = generate(prior, grid, batch=2)
    nats = -prior.log_prob(codes).detach()
    assert nats.sum() < 0.75 * codes.numel() * math.log(37)
    lengths = [len(segment) for segment in PriorCoder(prior).encode(codes)]
    for length, own in zip(lengths, (nats / math.log(2) / 8).tolist(), strict=True):
        assert length < 1.02 * own
        assert length - 6 < own + 8


# -- the face -------------------------------------------------------------------------------


def test_items_are_decoded_in_any_grouping(encoded_clip, monkeypatch):
    made, codes, cond, segments = encoded_clip
    monkeypatch.setattr(coder, "BATCH_SIZE", 2)
    assert made.encode(codes, cond) == segments
    order = [4, 0, 2]
    back = made.decode([segments[i] for i in order], GRID, Cond(class_id=cond.class_id[order]))
    assert torch.equal(back, codes[order])


def test_progress_counts_the_codes_of_all_items(encoded_clip, monkeypatch):
    made, codes, cond, segments = encoded_clip
    monkeypatch.setattr(coder, "BATCH_SIZE", 2)
    for call in (partial(made.encode, codes), partial(made.decode, segments, GRID)):
        seen = []
        call(cond=cond, progress=lambda *given, seen=seen: seen.append(given))
        steps = [2] * 24 + [2] * 24 + [1] * 24
        assert seen == [(sum(steps[: i + 1]), codes.numel()) for i in range(len(steps))]


def test_the_prior_is_left_as_it_is(prior):
    single = copy.deepcopy(prior).float().train()
    before = {name: tensor.clone() for name, tensor in single.state_dict().items()}
    PriorCoder(single).encode(make_random_codes(single, 1, (1, 2, 3)))
    assert single.training
    assert all(parameter.requires_grad for parameter in single.parameters())
    after = single.state_dict()
    assert [(name, tensor.dtype) for name, tensor in after.items()] == [
        (name, torch.float32) for name in before
    ]
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_a_fingerprint_is_of_the_exact_numbers_and_is_compared_by_the_coder(prior):
    made, twin = (
        PriorCoder(prior),
        PriorCoder(build_noisy_prior(build_small_prior("masked3d"), 3, 37)),
    )
    made.check_fingerprint(PriorCoder(prior).fingerprint)
    message = f"with fingerprint {twin.fingerprint}, but this prior has"
    with pytest.raises(ValueError, match=message):
        made.check_fingerprint(twin.fingerprint)


def test_another_prior_or_other_conditions_do_not_decode_in_silence(prior, encoded_clip):
    made, _, cond, segments = encoded_clip
    twin = PriorCoder(prior)
    with torch.no_grad():
        next(iter(twin.prior.parameters()))[5, 3] += 1e-3
    for message, call in (
        ("the codes decoded from segment 0 fail", lambda: twin.decode(segments, GRID, cond)),
        ("the codes decoded from segment 0 fail", lambda: made.decode(segments, (3, 4, 2), cond)),
        (
            "the codes decoded from segment 1 fail",
            lambda: made.decode(segments[:2], GRID, Cond(class_id=cond.class_id[[0, 0]])),
        ),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_words_that_no_encoder_writes_are_refused_too(encoded_clip, monkeypatch):
    made, _, cond, segments = encoded_clip
    monkeypatch.setattr(
        coder, "unpack_segment", lambda *_: coder.np.full(9, 2**32 - 1, coder.np.uint32)
    )
    with pytest.raises(ValueError, match="the codes decoded from segment 0 fail"):
        made.decode(segments, GRID, cond)


def test_a_damaged_segment_is_refused_by_its_index_before_anything_is_decoded(encoded_clip):
    made, _, cond, segments = encoded_clip
    damaged = bytearray(segments[3])
    damaged[9] ^= 4
    for bad in (bytes(damaged), segments[3][:-1], segments[3][:-4], b""):
        with pytest.raises(ValueError, match="segment 3 is damaged"):
            made.decode([*segments[:3], bad, segments[4]], GRID, cond, progress=pytest.fail)


def test_what_does_not_fit_is_refused(encoded_clip):
    made, codes, cond, segments = encoded_clip
    for message, call in (
        ("3 grid axes .* got a batch of 0", lambda: made.encode(codes[:0])),
        ("3 grid axes .* grid \\[2, 4\\]", lambda: made.encode(codes[:, 0])),
        (
            "must not be empty; got a batch of 5 and grid \\[3, 0, 4\\]",
            lambda: made.encode(codes[:, :, :0]),
        ),
        ("codes must be integers, got torch.float32", lambda: made.encode(codes.float())),
        ("codes must lie in \\[0, 37\\), .* from -", lambda: made.encode(codes - 38)),
        (
            "class_id must have shape \\[5\\]",
            lambda: made.encode(codes, Cond(class_id=cond.class_id[:4])),
        ),
        ("got a batch of 0", lambda: made.decode([], GRID)),
        ("grid \\[3, 2\\]", lambda: made.decode(segments, (3, 2))),
        ("class_id must have shape \\[2\\]", lambda: made.decode(segments[:2], GRID, cond)),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_codes_of_another_number_of_codebooks_are_refused():
    made = PriorCoder(UnigramPrior(rank=1, codebook_size=5, num_codebooks=2))
    with pytest.raises(ValueError, match=r"must have 2 codebooks along their last axis, .* 3\]"):
        made.encode(torch.zeros(2, 4, 3, dtype=torch.int64))


def test_a_prior_that_gives_a_bound_or_has_one_code_is_refused():
    class Bound(UnigramPrior):
        has_exact_likelihood = False

    with pytest.raises(ValueError, match="Bound gives a bound on the likelihood of codes"):
        PriorCoder(Bound(rank=1, codebook_size=5))
    with pytest.raises(ValueError, match=r"codebook_size must lie in \[2, 2\*\*24\), got 1"):
        PriorCoder(UnigramPrior(rank=1, codebook_size=1))


def test_a_prior_with_a_function_that_has_no_exact_form_is_refused_by_its_name():
    class Odd(UnigramPrior):
        def logits(self, codes, cond=None):
            return super().logits(codes).erf()

    with pytest.raises(ValueError, match="uses torch's 'erf', which has no exact implementation"):
        PriorCoder(Odd(rank=1, codebook_size=5)).encode(torch.zeros(1, 3, dtype=torch.int64))


def test_a_missing_library_is_named_with_its_remedy(prior, monkeypatch):
    monkeypatch.setitem(sys.modules, "constriction", None)
    with pytest.raises(ImportError, match=r"pip install 'vqvideo\[compress\]'"):
        PriorCoder(prior)


@pytest.mark.parametrize("words", [[], [0], [1], [2**32 - 1], [0] * 50, [2**32 - 1] * 50, "random"])
def test_forged_words_under_valid_checksums_are_refused(encoded_clip, words):
    made, codes, cond, _ = encoded_clip
    draw = np.random.default_rng(0)
    words = draw.integers(2**32, size=20) if words == "random" else words
    forged = pack_segment(np.array(words, dtype=np.uint32), codes[0].numpy())
    first = Cond(class_id=cond.class_id[:1])
    with pytest.raises(ValueError, match="codes decoded from segment 0 fail the CRC-32"):
        made.decode([forged], GRID, first)


@pytest.mark.parametrize("dtype", [torch.float16, torch.complex64, torch.bool])
def test_codes_that_are_no_integers_are_refused(encoded_clip, dtype):
    made, codes, cond, _ = encoded_clip
    with pytest.raises(ValueError, match=f"codes must be integers, got {dtype}"):
        made.encode(codes.to(dtype), cond)
