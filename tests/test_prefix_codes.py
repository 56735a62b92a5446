"""The codes of the first steps do not depend on what follows, whatever precedes the search."""

import pytest
import torch

from vqvideo.config import GeneratorConfig, PartConfig, build_generator
from vqvideo.data.codes import (
    CodeClip,
    CodeFile,
    CodeFileError,
    CodeHeader,
    PackedClip,
    write_codes,
)
from vqvideo.data.packing import pack_codes
from vqvideo.identity import fingerprint

SMALL = {"codebook_size": 16, "code_dim": 3}
PROJECTED = {**SMALL, "z_channels": 5}
QUANTIZERS = {
    "plain": ("ema", SMALL),
    "projected": ("ema", PROJECTED),
    "cosine": ("vector", {**PROJECTED, "cosine": True}),
    "product": ("product", {"num_codebooks": 2, "part": {"name": "ema", **PROJECTED}}),
    "residual": ("residual", {"num_codebooks": 2, "part": {"name": "ema", **SMALL}}),
    "finite-scalar": ("finite-scalar", {"levels": (3, 4, 5)}),
}
HAVE_PROJECTIONS = {"projected", "cosine", "product"}
STRIDES = {1: ((2,), (2,)), 2: ((2, 2), (2, 1)), 3: ((2, 2, 2), (1, 2, 1))}
CHUNK = 3  # codes, of each chunk
AXES = {1: (), 2: (6,), 3: (8, 4)}  # except the first


def build_vqvae(rank, name, *, causal=True):
    torch.manual_seed(rank)
    net = PartConfig("conv", {"width": 6, "num_blocks": 1, "causal": causal})
    kind, options = QUANTIZERS[name]
    config = GeneratorConfig(
        channels=2,
        strides=STRIDES[rank],
        sample_shape=(16, *AXES[rank]),
        rate=8.0,
        encoder=net,
        quantizer=PartConfig(kind, options),
        decoder=net,
        likelihood=PartConfig("gaussian"),
        prior=PartConfig("transformer"),
    )
    vqvae = build_generator(config, with_prior=False).vqvae.eval()
    vqvae.encoder.chunk_size = CHUNK
    return vqvae


def make_data(vqvae, num_codes):
    axes = AXES[vqvae.rank]
    return torch.rand(2, 2, num_codes * vqvae.downsampling[0], *axes) * 2 - 1


def record_shapes(vqvae):
    shapes = []
    vqvae.quantizer.register_forward_pre_hook(lambda part, args: shapes.append(args[0].shape))
    return shapes


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("name", QUANTIZERS)
def test_every_prefix_has_its_codes_and_all_products_have_one_shape(name, rank):
    vqvae = build_vqvae(rank, name)
    x, stride = make_data(vqvae, 8), vqvae.downsampling[0]
    shapes = record_shapes(vqvae)
    whole = vqvae.encode(x)
    for length in (1, 2, 3, 5, 7):
        prefix = x[:, :, : length * stride]
        assert torch.equal(vqvae.encode(prefix), whole[:, :length])
    streamed = vqvae.encode_stream(prefix.split(3, dim=2))
    assert torch.equal(torch.cat(list(streamed), dim=1), whole[:, :7])
    assert len(set(shapes)) == 1
    assert shapes[0][2] == CHUNK


@pytest.mark.parametrize("rank", [2, 3])
def test_tiles_of_a_prefix_have_the_codes_of_the_tiles_of_the_whole(rank):
    vqvae = build_vqvae(rank, "projected")
    x, tile = make_data(vqvae, 5), {2: (2,), 3: (1, 2)}[rank]
    whole = vqvae.encode(x, tile=tile)
    for length in (1, 3, 4):
        prefix = x[:, :, : length * vqvae.downsampling[0]]
        assert torch.equal(vqvae.encode(prefix, tile=tile), whole[:, :length])


def test_a_network_that_looks_ahead_is_quantized_at_the_length_of_its_output():
    vqvae = build_vqvae(1, "projected", causal=False)
    shapes = record_shapes(vqvae)
    vqvae.encode(make_data(vqvae, 5))
    assert [shape[2] for shape in shapes] == [3, 2]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("name", QUANTIZERS)
def test_the_rule_of_chunks_is_in_the_fingerprint_of_models_whose_codes_it_may_change(name, causal):
    vqvae = build_vqvae(1, name, causal=causal)
    before = fingerprint(vqvae.encoder, vqvae.quantizer, context=(vqvae.downsampling, causal))
    assert vqvae.quantizer.has_projection == (name in HAVE_PROJECTIONS)
    has_rule = causal and vqvae.quantizer.has_projection
    assert (vqvae.fingerprint() != before) == has_rule
    assert vqvae.compatible_fingerprints() == (
        (vqvae.fingerprint(), before) if has_rule else (before,)
    )


def test_codes_from_before_the_rule_are_decoded_and_those_of_another_model_refused(tmp_path):
    vqvae = build_vqvae(1, "projected")
    codes = vqvae.encode(make_data(vqvae, 4))
    for index, written_with in enumerate(vqvae.compatible_fingerprints()):
        header = CodeHeader(
            codebook_size=16,
            num_codebooks=1,
            downsampling=vqvae.downsampling,
            fingerprint=written_with,
        )
        clip = CodeClip(source="a.wav", start=0, length=16, grid=(4,), rate=8.0)
        packed = PackedClip(clip, pack_codes(codes[0], header.bits))
        path = tmp_path / f"{index}.safetensors"
        write_codes(path, header, [packed])
        file = CodeFile(path)
        file.check_fingerprint(*vqvae.compatible_fingerprints())
        assert torch.equal(file.get_codes(0), codes[0])
        with pytest.raises(CodeFileError, match="holds codes of another tokenizer"):
            file.check_fingerprint(*build_vqvae(1, "plain").compatible_fingerprints())
