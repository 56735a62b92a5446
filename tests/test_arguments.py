"""Wrong arguments at the public entrances end in a ValueError that names the argument."""

import numpy as np
import pytest
import torch

import vqvideo
from vqvideo.arguments import check_seed, offset_seeds
from vqvideo.data.batch_sampler import InfiniteBatchSampler
from vqvideo.likelihoods import LIKELIHOODS
from vqvideo.sampling import generate, stream
from vqvideo.training import TrainingConfig

NETS = {"width": 8, "num_blocks": 1}
SMALL = {
    "sample_shape": (8, 12),
    "encoder": NETS,
    "decoder": NETS,
    "quantizer": {"codebook_size": 200, "code_dim": 4},
    "prior": {"width": 8, "num_layers": 2},
}
INTEGER_DTYPES = [torch.int32, torch.uint8, torch.uint16, torch.uint64]
WRONG_SEEDS = [2**64, -(2**63) - 1, 10**5000, 1.0, "1", None, True]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return vqvideo.build("image", **SMALL)


@pytest.fixture(scope="module")
def codes(model):
    return torch.randint(200, (2, 2, 3), generator=torch.Generator().manual_seed(0))


def seed_calls(model, codes):
    """Every public function that takes a seed, as a function of the seed."""
    prior, parameters = model.prior, torch.zeros(1, 3, 4, 4)
    gaussian, bernoulli = (LIKELIHOODS.build(name) for name in ("gaussian", "bernoulli"))
    return {
        "generate": lambda seed: generate(prior, (2, 3), seed=seed),
        "generate, one per sample": lambda seed: generate(prior, (2, 3), seed=[seed]),
        "stream": lambda seed: next(stream(prior, (3,), seed=seed)),
        "sample": lambda seed: model.sample(seed=seed),
        "continue_clip": lambda seed: model.continue_clip(torch.zeros(1, 3, 8, 12), 4, seed=seed),
        "decode": lambda seed: model.vqvae.decode(codes, temperature=1.0, seed=seed),
        "gaussian": lambda seed: gaussian.sample(parameters, seed=seed),
        "bernoulli": lambda seed: bernoulli.sample(parameters, seed=seed),
        "order of the data": lambda seed: InfiniteBatchSampler(3, batch_size=1, seed=seed),
        "training": lambda seed: TrainingConfig(steps=1, seed=seed),
    }


@pytest.mark.parametrize("wrong", WRONG_SEEDS, ids=lambda seed: type(seed).__name__)
def test_a_seed_that_is_no_integer_of_64_bits_is_refused_and_not_wrapped(model, codes, wrong):
    for name, call in seed_calls(model, codes).items():
        with pytest.raises(ValueError, match=r"seed (must be an|must lie in \[-2|for the whole b)"):
            call(wrong)
            pytest.fail(f"{name} takes the seed {wrong!r}")


@pytest.mark.parametrize("seed", [0, -1, 2**64 - 1, -(2**63), np.int64(3)], ids=str)
def test_every_seed_of_64_bits_is_taken_by_all_that_derive_others_from_it(model, codes, seed):
    for call in seed_calls(model, codes).values():
        call(seed)


def test_seeds_are_those_of_torch_and_derived_ones_stay_in_range():
    assert check_seed(np.uint64(2**64 - 1)) == 2**64 - 1
    assert offset_seeds([5, 2**64 - 1, -1], 10) == [15, 9, 9]
    for seed in (-1, -(2**63), 2**64 - 1, 7):
        one, other = (torch.Generator().manual_seed(s) for s in (seed, offset_seeds(seed, 0)))
        assert torch.equal(torch.rand(3, generator=one), torch.rand(3, generator=other))


@pytest.mark.parametrize("number", [0, -1, 2.0, True, "2"], ids=repr)
def test_a_number_of_samples_that_is_no_count_is_refused_by_its_name(model, number):
    calls = {
        "num_samples": lambda: model.sample(num_samples=number),
        "num_frames": lambda: model.continue_clip(torch.zeros(1, 3, 8, 12), number),
        "batch_size": lambda: model.stream(batch_size=number),
        "batch": lambda: generate(model.prior, (2, 3), batch=number),
    }
    for name, call in calls.items():
        with pytest.raises(ValueError, match=rf"^{name} must be (at least 1|an integer), got "):
            call()


@pytest.mark.parametrize("dtype", INTEGER_DTYPES, ids=str)
def test_codes_of_any_integer_dtype_mean_the_same(model, codes, dtype):
    given = codes.to(dtype)
    vqvae, prior = model.vqvae, model.prior
    assert torch.equal(vqvae.decode(given), vqvae.decode(codes))
    assert torch.equal(torch.cat(list(vqvae.decode_stream([given])), dim=2), vqvae.decode(codes))
    assert torch.equal(vqvae.quantizer.decode(given), vqvae.quantizer.decode(codes))
    with torch.no_grad():
        assert torch.equal(prior.log_prob(given), prior.log_prob(codes))
        assert torch.equal(prior(given), prior(codes))
    mask = torch.tensor([[True, True, False], [False, False, False]])
    one, other = (generate(prior, (2, 3), batch=2, known=k, mask=mask) for k in (given, codes))
    assert torch.equal(one, other)
    one, other = (next(stream(prior, (3,), batch=2, known=k)) for k in (given, codes))
    assert torch.equal(one, other)


NO_CODES = {
    "floats": lambda codes: codes.float(),
    "bool": lambda codes: codes.bool(),
    "complex": lambda codes: codes * 1j,
    "list": lambda codes: codes.tolist(),
    "array": lambda codes: codes.numpy(),
}


@pytest.mark.parametrize("kind", NO_CODES)
def test_codes_that_are_no_tensor_of_integers_are_refused_by_name(model, codes, kind):
    given = NO_CODES[kind](codes)
    mask = torch.ones(2, 3, dtype=torch.bool)
    calls = [
        lambda: model.vqvae.decode(given),
        lambda: list(model.vqvae.decode_stream([given])),
        lambda: model.vqvae.quantizer.decode(given),
        lambda: model.prior.log_prob(given),
        lambda: model.prior.logits(given),
        lambda: model.prior(given),
        lambda: generate(model.prior, (2, 3), batch=2, known=given, mask=mask),
        lambda: stream(model.prior, (3,), batch=2, known=given),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"^(codes|known) must be (integers|a torch\.Tensor)"):
            call()


DATA = {
    "float64": (torch.zeros(2, 3, 8, 12).double(), "data is torch.float64 and the model torch.fl"),
    "bfloat16": (torch.zeros(2, 3, 8, 12).bfloat16(), "data is torch.bfloat16 and the model torch"),
    "bytes": (torch.zeros(2, 3, 8, 12).byte(), r"data must be floats in \[-1, 1\] with 3 channels"),
    "complex": (torch.zeros(2, 3, 8, 12) * 1j, r"data must be floats in \[-1, 1\] with 3 channels"),
    "channels": (torch.zeros(2, 1, 8, 12), r"data must be floats in \[-1, 1\] with 3 channels"),
    "axes": (torch.zeros(3, 8, 12), r"data must be \[batch, channels, \*axes\] with 2 axes"),
    "array": (np.zeros((2, 3, 8, 12), np.float32), "data must be a torch.Tensor, got ndarray"),
    "device": (torch.zeros(2, 3, 8, 12, device="meta"), "data is on meta and the model on cpu"),
}


@pytest.mark.parametrize("kind", DATA)
def test_data_of_another_dtype_device_or_shape_is_refused_by_name(model, kind):
    x, message = DATA[kind]
    calls = [
        lambda: model.vqvae(x),
        lambda: model.vqvae.loss(x),
        lambda: model.vqvae.compute_z_e(x),
        lambda: model.vqvae.encode(x),
        lambda: list(model.vqvae.encode_stream([x])),
        lambda: model.continue_clip(x, 4),
        lambda: model.stream(x),
        lambda: model.log_prob(x),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=f"^{message}"):
            call()


def test_data_of_another_precision_is_taken_under_autocast_and_by_a_converted_model(model):
    x = torch.rand(1, 3, 8, 12) * 2 - 1
    with torch.autocast("cpu", torch.bfloat16):
        assert model.vqvae.encode(x.bfloat16()).shape == (1, 2, 3)
    double = vqvideo.build("image", **SMALL).double()
    assert double.vqvae.encode(x.double()).shape == (1, 2, 3)
    with pytest.raises(ValueError, match=r"data is torch\.float32 and the model torch\.float"):
        double.vqvae.encode(x)
