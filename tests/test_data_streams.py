"""Data in pieces: `encode_stream` and `decode_stream` give the bits of the whole; so does
`Generator.stream`.
"""

import itertools
import random
import subprocess
import sys

import pytest
import torch

from vqvideo.cond import Cond
from vqvideo.config import GeneratorConfig, PartConfig, build_generator
from vqvideo.models import build

STRIDES = {1: ((2,), (2,)), 2: ((2, 2), (2, 1)), 3: ((2, 2, 2), (2, 1, 2))}
AXES = {1: (1100,), 2: (332, 10), 3: (44, 8, 12)}  # several blocks each, a short one at the end
PRIORS = {1: "wavenet", 2: "pixelcnn", 3: "masked3d"}
NETS = {
    "patchify": {"widths": (6, 8), "num_blocks": (1, 1)},
    "conv": {"width": 6, "num_blocks": 1},
    "causal conv": {"width": 6, "num_blocks": 1, "causal": True},
}
QUANTIZERS = {
    "ema": {"codebook_size": 13, "code_dim": 4},
    "product": {"num_codebooks": 2, "part": {"codebook_size": 7, "code_dim": 3}},
    "vector": {"codebook_size": 13, "code_dim": 4, "z_channels": 6},  # a projection
}


def build_small_generator(rank, nets="patchify", quantizer="ema", cond=None):
    part = PartConfig(nets.split()[-1], NETS[nets])
    down = (4, *(1,) * (rank - 1))
    config = GeneratorConfig(
        channels=3,
        strides=STRIDES[rank],
        sample_shape=tuple(n if i else 2 * down[0] for i, n in enumerate(AXES[rank])),
        rate=8.0,
        encoder=part,
        quantizer=PartConfig(quantizer, QUANTIZERS[quantizer]),
        decoder=part,
        likelihood=PartConfig("gaussian"),
        prior=PartConfig(
            PRIORS[rank], {"width": 8, "num_layers": 2, **({"cond": cond} if cond else {})}
        ),
    )
    torch.manual_seed(rank)
    generator = build_generator(config)
    for parameter in generator.vqvae.parameters():  # blocks begin at zero
        parameter.data += 0.1 * torch.randn_like(parameter)
    generator.vqvae.train().loss(make_data(rank))
    for parameter in generator.prior.parameters():
        torch.nn.init.normal_(parameter, std=0.8)
    return generator.eval()


def make_data(rank, batch=2):
    draw = torch.Generator().manual_seed(0)
    return torch.rand(batch, 3, *AXES[rank], generator=draw) * 2 - 1


def split_into_chunks(x, axis, seed):
    """Pieces of random lengths, none among them."""
    draw, start = random.Random(seed), 0
    while start < x.shape[axis]:
        length = min(draw.choice((0, 1, 2, 3, 5, 17, 70)), x.shape[axis] - start)
        yield x.narrow(axis, start, length)
        start += length


@pytest.mark.slow
@pytest.mark.parametrize("quantizer", QUANTIZERS)
@pytest.mark.parametrize("nets", NETS)
@pytest.mark.parametrize("rank", AXES)
def test_a_stream_in_any_chunks_is_the_whole_bit_for_bit(rank, nets, quantizer):
    vqvae, x = build_small_generator(rank, nets, quantizer).vqvae, make_data(rank)
    codes = vqvae.encode(x)
    again = vqvae.decode(codes)
    assert codes.unique().numel() > 3
    for seed in range(4):
        streamed = list(vqvae.encode_stream(split_into_chunks(x, 2, seed)))
        assert len(streamed) > 1
        assert torch.equal(torch.cat(streamed, dim=1), codes)
        frames = list(vqvae.decode_stream(split_into_chunks(codes, 1, seed)))
        assert len(frames) > 1
        assert torch.equal(torch.cat(frames, dim=2), again)


@pytest.mark.parametrize("nets", NETS)
@pytest.mark.parametrize("rank", AXES)
def test_chunks_give_what_the_networks_give_in_one_call(rank, nets):
    vqvae, x = build_small_generator(rank, nets).vqvae.double(), make_data(rank).double()
    with torch.no_grad():
        quantized = vqvae.quantizer(vqvae.encoder(x))
        expected = vqvae.decoder(quantized.z_q).clamp(-1, 1)
    assert torch.equal(vqvae.encode(x), quantized.codes)
    torch.testing.assert_close(vqvae.decode(quantized.codes), expected.float())


@pytest.mark.parametrize("nets", ["patchify", "causal conv"])
@pytest.mark.parametrize("rank", [1, 3])
def test_codes_of_the_first_frames_do_not_change_when_later_ones_do(rank, nets):
    vqvae, x = build_small_generator(rank, nets).vqvae, make_data(rank)
    codes = vqvae.encode(x)
    again = vqvae.decode(codes)
    for kept in (1, 3, codes.shape[1] - 1):
        alone = vqvae.encode(x[:, :, : 4 * kept])
        assert torch.equal(alone, codes[:, :kept])
        other = torch.cat([x[:, :, : 4 * kept], -x[:, :, 4 * kept :]], dim=2)
        assert torch.equal(vqvae.encode(other)[:, :kept], alone)
        assert torch.equal(vqvae.decode(alone), again[:, :, : 4 * kept])


@pytest.mark.parametrize("nets", NETS)
@pytest.mark.parametrize("rank", [2, 3])
def test_tiles_give_the_codes_of_whole_frames(rank, nets):
    generator = build_small_generator(rank, nets)
    vqvae, x = generator.vqvae.double(), make_data(rank).double()
    tile = (3,) if rank == 2 else (2, 1)
    codes = vqvae.encode(x)
    assert torch.equal(vqvae.encode(x, tile=tile), codes)
    torch.testing.assert_close(vqvae.decode(codes, tile=tile), vqvae.decode(codes))
    single, y = generator.vqvae.float(), x.float()
    streamed = torch.cat(list(single.encode_stream(split_into_chunks(y, 2, 0), tile=tile)), dim=1)
    assert torch.equal(streamed, single.encode(y, tile=tile))


def test_a_tile_must_fit_the_rank_and_the_network():
    vqvae, x = build_small_generator(3).vqvae, make_data(3)
    with pytest.raises(ValueError, match=r"tile must hold 2 integers >= 1.*got \(4,\)"):
        vqvae.encode(x, tile=(4,))
    with pytest.raises(ValueError, match=r"tile must hold 2 integers >= 1.*got \(0, 4\)"):
        vqvae.encode(x, tile=(0, 4))
    vqvae.encoder.context = None
    with pytest.raises(ValueError, match="has no finite context within a frame"):
        vqvae.encode(x, tile=(2, 2))


@pytest.mark.parametrize("rank", AXES)
def test_a_stream_that_ends_within_a_code_repeats_its_last_step_and_is_cropped(rank):
    vqvae = build_small_generator(rank).vqvae
    x = make_data(rank)[:, :, :-2]
    filled = torch.cat([x, x[:, :, -1:], x[:, :, -1:]], dim=2)
    codes = torch.cat(list(vqvae.encode_stream(split_into_chunks(x, 2, 1))), dim=1)
    assert torch.equal(codes, vqvae.encode(filled))
    length = x.shape[2]
    frames = torch.cat(
        list(vqvae.decode_stream(split_into_chunks(codes, 1, 1), length=length)), dim=2
    )
    assert torch.equal(frames, vqvae.decode(codes)[:, :, :length])


def test_what_does_not_fit_a_stream_is_refused():
    vqvae, x = build_small_generator(3).vqvae, make_data(3)
    with pytest.raises(ValueError, match="the chunks contain no data"):
        list(vqvae.encode_stream([]))
    with pytest.raises(ValueError, match="the chunks contain no data"):
        list(vqvae.encode_stream([x[:, :, :0]]))
    with pytest.raises(ValueError, match=r"differ in length only, got \[2, 3, 5, 8, 8\] after"):
        list(vqvae.encode_stream([x[:, :, :3], x[:, :, 3:8, :, :8]]))
    with pytest.raises(ValueError, match="width 10 is not divisible by the downsampling 4"):
        list(vqvae.encode_stream([x[..., :10]]))
    with pytest.raises(ValueError, match="the codes end 4 steps before the length 48"):
        list(vqvae.decode_stream([vqvae.encode(x)], length=48))
    with pytest.raises(ValueError, match=r"codes must be \[batch, \*grid\] with 3 grid axes"):
        vqvae.decode(vqvae.encode(x)[0])


def test_a_network_that_looks_at_all_of_its_input_cannot_be_streamed():
    vqvae, x = build_small_generator(3, "conv").vqvae, make_data(3)
    with torch.no_grad():
        whole = vqvae.quantizer(vqvae.encoder(x)).codes
    vqvae.encoder.context = vqvae.decoder.context = (None, None, None)
    with pytest.raises(ValueError, match="encoder declares no `context` along the first axis"):
        vqvae.encode_stream([x])
    with pytest.raises(ValueError, match="decoder declares no `context` along the first axis"):
        vqvae.decode_stream([whole])
    assert torch.equal(vqvae.encode(x), whole)


def test_a_stream_leaves_modes_and_gradients_as_they_are():
    vqvae, x = build_small_generator(3).vqvae.train(), make_data(3)
    before = {name: value.clone() for name, value in vqvae.state_dict().items()}
    for codes in vqvae.encode_stream(split_into_chunks(x, 2, 0)):
        assert vqvae.training
        assert torch.is_grad_enabled()
        assert not codes.requires_grad
    assert all(torch.equal(before[name], value) for name, value in vqvae.state_dict().items())


@pytest.mark.slow
@pytest.mark.parametrize("nets", NETS)
@pytest.mark.parametrize("rank", AXES)
def test_frames_of_a_stream_are_those_that_continue_a_clip(rank, nets):
    generator = build_small_generator(rank, nets)
    first = make_data(rank)[:, :, :8]
    clip = generator.continue_clip(first, 9, seed=3, temperature=0.8)
    stream = generator.stream(first, seed=3, temperature=0.8)
    frames = torch.stack(list(itertools.islice(stream, 9)), dim=2)
    if generator.vqvae.decoder.is_causal:
        assert torch.equal(frames, clip[:, :, 8:])
    else:  # a decoder that looks ahead sees codes after the end of the clip
        longer = generator.continue_clip(first, 40, seed=3, temperature=0.8)
        torch.testing.assert_close(frames, longer[:, :, 8:17], atol=1e-4, rtol=1e-4)


def test_a_stream_from_nothing_is_a_long_sample():
    generator = build_small_generator(3)
    sample = generator.sample(num_samples=2, shape=(24, 8, 12), seed=5)
    frames = list(itertools.islice(generator.stream(batch_size=2, seed=5), 22))
    assert torch.equal(torch.stack(frames, dim=2), sample[:, :, :22])


def test_actions_come_one_by_one_and_are_asked_for_when_they_are_needed():
    generator = build_small_generator(3, cond={"num_actions": 4, "num_classes": 2})
    first = make_data(3)[:, :, :8]
    actions = torch.randint(4, (2, 24), generator=torch.Generator().manual_seed(1))
    told = Cond(class_id=torch.tensor([0, 1]))
    clip = generator.continue_clip(first, 16, actions=actions, cond=told, seed=2)
    asked = []

    def keys():
        for frame in range(24):
            asked.append(frame)
            yield actions[:, frame]

    stream = generator.stream(first, actions=keys(), cond=told, seed=2)
    frames = [next(stream)]
    assert len(asked) == 12, "those of the first frames and of one code frame"
    frames += stream
    assert torch.equal(torch.stack(frames, dim=2), clip[:, :, 8:])
    whole = generator.stream(first, actions=actions, cond=told, seed=2)
    assert torch.equal(torch.stack(list(whole), dim=2), clip[:, :, 8:])
    other = torch.cat([actions[:, :12], 3 - actions[:, 12:]], dim=1)
    turned = torch.stack(list(generator.stream(first, actions=other, cond=told, seed=2)), dim=2)
    assert torch.equal(turned[:, :, :4], clip[:, :, 8:12])
    assert not torch.equal(turned, clip[:, :, 8:])


MEMORY = """
import resource, sys, torch
from vqvideo.models import build
torch.set_num_threads(1)
parts = {"name": "patchify", "widths": (8, 8), "num_blocks": (1, 1)}
vqvae = build("video", encoder=parts, decoder=parts).vqvae
draw = torch.Generator().manual_seed(0)
pieces = (torch.rand(1, 3, 16, 128, 128, generator=draw) for _ in range(int(sys.argv[1]) // 16))
count = sum(x.shape[2] for x in vqvae.decode_stream(vqvae.encode_stream(pieces)))
assert count == int(sys.argv[1])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_length_of_a_stream():
    def peak(frames):
        command = [sys.executable, "-c", MEMORY, str(frames)]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    assert peak(1024) < 1.1 * peak(64)


@pytest.mark.slow
def test_the_shipped_model_streams():
    vqvae = build("video", pretrained=True).vqvae
    x = torch.rand(1, 3, 32, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    codes = vqvae.encode(x)
    assert torch.equal(torch.cat(list(vqvae.encode_stream(x.split(7, 2))), dim=1), codes)
    frames = torch.cat(list(vqvae.decode_stream(codes.split(3, 1))), dim=2)
    assert torch.equal(frames, vqvae.decode(codes))
