"""The same bits everywhere: as they were, in other company, on another kind of machine."""

import math
import os
import subprocess
import sys
import zlib
from functools import partial

import pytest
import torch

from vqvideo.cond import Cond
from vqvideo.entropy import PriorCoder, elementary, functional
from vqvideo.priors import PRIORS, masked3d
from vqvideo.testing.prior_setup import COND_SPECS, build_noisy_prior, make_random_codes

SMALL = {
    "masked3d": {"width": 8, "num_layers": 3},
    "transformer": {"width": 12, "num_layers": 2, "num_heads": 2},
    "wavenet": {"width": 8, "num_layers": 3},
}


FUNCTIONS = ("exp", "sigmoid", "tanh", "gelu", "cos", "sin")


def compute_checksums():
    """CRC-32 of the bits that functions give for numbers that every machine holds exactly."""
    x = (torch.arange(-5000, 5000) * 37 % 4099 - 2048).double().view(100, 100) / 64
    results = {name: getattr(elementary, name)(x) for name in FUNCTIONS}
    results |= {"sqrt": elementary.sqrt(x.abs()), "logspace": elementary.logspace(0, -3, 50, 1e4)}
    results |= {"matmul": functional.matmul(x / 3, x / 7), "softmax": functional.softmax(x, -1)}
    results |= {
        "layer_norm": functional.layer_norm(x, (100,)),
        "scaled_dot_product_attention": functional.scaled_dot_product_attention(x, x.T, x),
    }
    return {
        name: zlib.crc32(result.contiguous().numpy().tobytes()) for name, result in results.items()
    }


def build_plain_prior(prior):
    """The prior with parameters that no random generator or library has a say in."""
    start = 0
    for parameter in prior.parameters():
        numbers = torch.arange(start, start + parameter.numel()) * 7919 % 1009 - 504
        parameter.data = (numbers.double() / 2048).view_as(parameter)
        start += parameter.numel()
    return prior.eval()


def encode_segments():
    """What codes become under priors of several kinds, as text."""
    texts = []
    for name, rank in (("masked3d", 3), ("transformer", 3), ("wavenet", 1)):
        options = {**SMALL[name], "cond": COND_SPECS["all conditions"]}
        prior = build_plain_prior(PRIORS.get(name)(rank=rank, codebook_size=11, **options))
        grid = (3, 3, 4)[:rank]
        codes = (torch.arange(2 * math.prod(grid)) ** 2 % 11).view(2, *grid)
        cond = Cond(
            class_id=torch.tensor([2, 0]),
            speaker=torch.tensor([0, 1]),
            actions=torch.arange(12).view(2, 6) % 4,
            local=torch.arange(4.0 * math.prod(grid)).view(2, 2, *grid) / 7,
        )
        texts += [segment.hex() for segment in PriorCoder(prior).encode(codes, cond)]
    return " ".join(texts)


# If these change, codes that were compressed can't be read any more: count up `coder.VERSION`.
CHECKSUMS = {
    "exp": 876275952,
    "sigmoid": 1511683570,
    "tanh": 1853544234,
    "gelu": 1343421448,
    "cos": 2990387669,
    "sin": 4058089418,
    "sqrt": 1451497480,
    "logspace": 848053754,
    "matmul": 503549880,
    "softmax": 3468860911,
    "layer_norm": 1906261016,
    "scaled_dot_product_attention": 4043035939,
}
SEGMENTS = (
    "d3be083a89089be0bc03372ddcb15618df1e2e464401 60a1bad7d6aa0b3845e0b955a81baac4f40b77dab5af "
    "d3be083ab4992f338e03d93890a486ac9195d5aa2309 60a1bad73990eed990dcf91f68fccdd3acdad5c7908c "
    "4b55e389d7021a839d03 4c493f0483a885c3fbdf"
)


def test_bits_are_what_they_were():
    assert compute_checksums() == CHECKSUMS
    assert encode_segments() == SEGMENTS


@pytest.mark.slow
def test_bits_are_the_same_with_other_vector_instructions_and_threads():
    """In another process, as on a machine without AVX."""
    script = (
        f"import runpy; here = runpy.run_path({__file__!r}); "
        f"print(here['compute_checksums'](), here['encode_segments']())"
    )
    simple = {"ATEN_CPU_CAPABILITY": "default", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"}
    simple |= {"MKL_NUM_THREADS": "3", "OMP_NUM_THREADS": "3", "MKL_CBWR": "COMPATIBLE"}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **simple},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout.strip() == f"{CHECKSUMS} {SEGMENTS}"


def test_a_network_with_its_channels_in_another_order_gives_the_same_frequencies():
    """That is, its sums in another order: without exact arithmetic the last bits differ."""
    prior, twin = (build_noisy_prior(partial(masked3d, **SMALL["masked3d"]), 3) for _ in range(2))
    codes = make_random_codes(prior, 2, (3, 2, 4))
    order = torch.randperm(8, generator=torch.Generator().manual_seed(3))
    both = torch.cat([order, order + 8])
    with torch.no_grad():
        for layer in twin.net.layers:
            for part in (layer.horizontal, layer.time_to_horizontal, layer.vertical_to_horizontal):
                part.weight.copy_(part.weight[both])
            layer.horizontal.bias.copy_(layer.horizontal.bias[both])
            layer.out.weight.copy_(layer.out.weight[:, order])
        assert not torch.equal(prior.logits(codes), twin.logits(codes))
    one, other = (PriorCoder(each).compute_frequencies(codes) for each in (prior, twin))
    assert torch.equal(one, other)
