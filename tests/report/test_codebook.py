"""The report on a codebook: figures against loops, advice provoked, pictures, what stays put."""

import copy
import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset

import vqvideo
from vqvideo.config import GeneratorConfig, PartConfig, build_generator
from vqvideo.likelihoods import LIKELIHOODS
from vqvideo.quantizers import (
    CompositeQuantizer,
    EMAQuantizer,
    FiniteScalarQuantizer,
    ProductQuantizer,
    ResidualQuantizer,
)
from vqvideo.report import codebook_report
from vqvideo.report.codebook_metrics import count_duplicates
from vqvideo.report.codebook_statistics import CodebookStatistics
from vqvideo.vqvae import VQVAE

AXES = {1: (24,), 2: (8, 12), 3: (4, 8, 12)}
STRIDES = {1: ((2,), (2,)), 2: ((2, 2), (2, 1)), 3: ((2, 2, 2), (1, 2, 1))}
PART = {"codebook_size": 6, "code_dim": 3}
QUANTIZERS = {
    "ema": PART,
    "vector": {**PART, "cosine": True, "z_channels": 5},
    "product": {"num_codebooks": 3, "part": PART},
    "residual": {"num_codebooks": 3, "part": PART},
    "finite-scalar": {"levels": (3, 2)},
}


def build_trained(rank, name) -> vqvideo.Generator:
    torch.manual_seed(rank)
    nets = {"widths": (6, 8), "num_blocks": (1, 1)}
    config = GeneratorConfig(
        channels=3,
        strides=STRIDES[rank],
        sample_shape=AXES[rank],
        rate=8.0,
        encoder=PartConfig("patchify", nets),
        quantizer=PartConfig(name, QUANTIZERS[name]),
        decoder=PartConfig("patchify", nets),
        likelihood=PartConfig("gaussian"),
        prior=PartConfig("masked3d"),
    )
    generator = build_generator(config, with_prior=False)
    generator.vqvae.encoder.layers[-1].weight.data *= 20  # z_e that differ
    for seed in range(4):
        generator.vqvae.train().loss(make_batch(rank, 3, seed))
    return generator


def make_batch(rank, items, seed=9):
    draw = torch.Generator().manual_seed(seed)
    return torch.rand(items, 3, *AXES[rank], generator=draw) * 2 - 1


class Windows(Dataset):
    """Samples as a `ClipDataset` has them, more than the picture."""

    def __init__(self, x):
        self.x = x

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return {"x": self.x[index], "actions": torch.zeros(index + 1)}


class IdentityEncoder(nn.Module):
    """An encoder that gives its data: so a test says what z_e is."""

    rank, downsampling = 1, (1,)

    def __init__(self, channels):
        super().__init__()
        self.channels = channels
        self.anything = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        return x


def make_report(quantizer, vectors):
    """The report on a quantizer that is given `vectors` `[n, d]`."""
    encoder = IdentityEncoder(quantizer.z_channels)
    vqvae = VQVAE(encoder, quantizer, nn.Identity(), LIKELIHOODS.build("gaussian", {}))
    return codebook_report(vqvae, [vectors.T[None].contiguous()])


def build_with_entries(entries, **options):
    """A started `ema` quantizer with these entries."""
    entries = torch.as_tensor(entries, dtype=torch.float32)
    quantizer = EMAQuantizer(codebook_size=len(entries), code_dim=entries.shape[1], **options)
    quantizer.codebook.copy_(entries)
    quantizer.initialized.fill_(True)
    return quantizer


def make_normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def make_clusters(entries, times, noise=0.01):
    """Vectors near entries, entry i `times[i]` times."""
    vectors = torch.as_tensor(entries).repeat_interleave(torch.as_tensor(times), dim=0)
    return vectors + noise * make_normal(*vectors.shape)


def snapshot_state(model):
    return copy.deepcopy(model.state_dict()), [part.training for part in model.modules()]


# -- figures --------------------------------------------------------------------------------


def compute_metrics_by_loops(entries, vectors, codes, code_dim):
    """What the docstring of `CodebookMetrics` says, one vector at a time."""
    size, counts = len(entries), [0] * len(entries)
    z_e_squares = z_q_squares = 0.0
    for vector, code in zip(vectors, codes, strict=True):
        counts[code] += 1
        z_e_squares += (vector**2).sum()
        z_q_squares += (entries[code] ** 2).sum()
    shares = [count / len(codes) for count in counts if count]
    spread = np.sqrt(((entries - entries.mean(axis=0)) ** 2).sum(axis=1).mean())
    duplicates = sum(
        any(np.linalg.norm(entries[i] - entries[j]) <= 0.01 * spread for j in range(i))
        for i in range(size)
    )
    used = np.array([entries[code] for code in codes])
    eigenvalues = np.linalg.eigvalsh(np.atleast_2d(np.cov(used.T, bias=True)))
    return {
        "codebook_size": size,
        "code_dim": code_dim,
        "num_codes": len(codes),
        "usage": len(shares) / size,
        "perplexity": np.exp(-sum(share * np.log(share) for share in shares)),
        "num_dead": counts.count(0),
        "num_duplicates": duplicates,
        "effective_dimension": eigenvalues.sum() ** 2 / (eigenvalues**2).sum(),
        "norm_ratio": np.sqrt(z_e_squares / z_q_squares),
    }


@pytest.mark.slow
@pytest.mark.parametrize("rank", AXES)
@pytest.mark.parametrize("name", QUANTIZERS)
@torch.no_grad()
def test_metrics_are_those_of_a_loop_over_all_vectors(rank, name):
    generator = build_trained(rank, name)
    batches = [make_batch(rank, 3, seed=10), make_batch(rank, 2, seed=11)]
    report = codebook_report(generator, iter(batches))
    vqvae = generator.vqvae.eval()
    quantizer = vqvae.quantizer
    z_e = torch.cat([vqvae.encoder(x) for x in batches])
    codes = quantizer(z_e).codes.reshape(-1, quantizer.num_codebooks).numpy()
    rest = z_e.movedim(1, -1).reshape(-1, z_e.shape[1]).double().numpy()
    parts = getattr(quantizer, "parts", [quantizer])
    assert len(report.codebooks) == len(parts) == quantizer.num_codebooks
    for index, (part, found) in enumerate(zip(parts, report.codebooks, strict=True)):
        every = torch.arange(part.codebook_size)
        entries = np.array([part.decode(k.view(1, 1))[0, :, 0].double().numpy() for k in every])
        given = rest
        if name == "product":
            given = rest[:, 3 * index : 3 * index + 3]
        expected = compute_metrics_by_loops(
            entries, given, codes[:, index], 2 if name == "finite-scalar" else 3
        )
        assert vars(found) == pytest.approx(expected, rel=1e-4)
        if name == "residual":
            rest = rest - entries[codes[:, index]]


@pytest.mark.parametrize("rank", AXES)
@pytest.mark.parametrize("name", QUANTIZERS)
def test_nothing_of_the_model_moves(rank, name):
    model = build_trained(rank, name)
    model.vqvae.encoder.eval()  # a part in another mode than the rest
    state, modes = snapshot_state(model)
    random = torch.get_rng_state()
    codebook_report(model, Windows(make_batch(rank, 5)))
    again, modes_again = snapshot_state(model)
    torch.testing.assert_close(again, state, rtol=0, atol=0)
    assert modes_again == modes
    assert torch.equal(torch.get_rng_state(), random)
    assert all(getattr(part, "step_statistics", None) is None for part in model.modules())


def test_a_data_set_a_loader_and_batches_give_one_report():
    generator, x = build_trained(2, "residual"), make_batch(2, 19)
    shown = []
    report = codebook_report(
        generator, Windows(x), progress=lambda done, total: shown.append((done, total))
    )
    assert shown == [(8, 19), (16, 19), (19, 19)]
    for data in (x.split(8), DataLoader([{"x": each} for each in x], batch_size=8)):
        assert codebook_report(generator.vqvae, data) == report
    for one, other in zip(codebook_report(generator, [x]).codebooks, report.codebooks, strict=True):
        assert vars(one) == pytest.approx(vars(other), rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 2, 127, 300])
@pytest.mark.parametrize("dim", [1, 3])
def test_duplicates_are_those_of_a_loop_over_all_pairs(size, dim):
    entries = make_normal(size, dim, seed=size).double()
    entries[size // 2 :: 3] = entries[0].clone()
    entries[size // 3 :: 4] = entries[1 % size] + 0.005 * make_normal(dim).double()
    near = 0.01 * (entries - entries.mean(dim=0)).square().sum(dim=1).mean().sqrt()
    expected = 0
    for i in range(size):
        expected += any((entries[i] - entries[j]).norm() <= near for j in range(i))
    assert count_duplicates(entries) == expected


@pytest.mark.parametrize("value", [0.0, 0.1, 1e3])
def test_entries_that_are_all_the_same_are_all_duplicates_but_one(value):
    assert count_duplicates(torch.full((300, 5), value).double()) == 299


def test_metrics_of_a_single_entry_in_use_are_finite():
    found = make_report(build_with_entries([[0.0, 0.0], [9.0, 9.0]]), torch.zeros(30, 2)).codebooks[
        0
    ]
    assert (found.usage, found.perplexity, found.num_dead) == (0.5, 1.0, 1)
    assert (found.effective_dimension, found.norm_ratio) == (0.0, 0.0)


# -- advice ---------------------------------------------------------------------------------

CORNERS = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 4)  # 16 entries of length 2


def test_a_codebook_without_fault_is_healthy():
    report = make_report(build_with_entries(CORNERS), make_clusters(CORNERS, [10] * 16))
    assert report.advice == "healthy"


def test_too_few_codes_ask_for_more_data():
    report = make_report(build_with_entries(CORNERS), make_clusters(CORNERS, [9] * 16))
    assert report.advice == (
        "144 codes are too few to assess 16 entries; provide more data, at least 160 codes"
    )


def test_an_uninitialized_codebook_asks_for_training():
    report = make_report(EMAQuantizer(codebook_size=4, code_dim=2), make_normal(40, 2))
    assert report.advice == "the codebook is not initialized yet; train the model first"


@pytest.mark.parametrize("times", [[400, 400] + [0] * 38, [4000] + [1] * 39], ids=str)
def test_a_collapsed_codebook_is_called_so(times):
    """By few entries in use, or by one that takes almost all."""
    entries = 5 * make_normal(40, 8)
    report = make_report(build_with_entries(entries), make_clusters(entries, times))
    assert report.advice.startswith("collapsed to a perplexity of ")
    assert f"{40 - times.count(0)} of 40 entries in use" in report.advice


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        ({}, 'a smaller codebook_size, a dead_code_threshold above 0.02 or init="kmeans"'),
        (
            {"init": "kmeans", "dead_code_threshold": 0.1},
            "a smaller codebook_size or a dead_code_threshold above 0.1",
        ),
    ],
    ids=str,
)
def test_dead_entries_are_counted_and_the_remedy_is_one_not_yet_taken(options, remedy):
    report = make_report(
        build_with_entries(CORNERS, **options), make_clusters(CORNERS, [20] * 14 + [0] * 2)
    )
    assert report.advice == (f"2 of 16 entries are dead, never used; train again with {remedy}")


def test_dead_points_of_a_finite_scalar_quantizer_ask_for_fewer_levels():
    report = make_report(FiniteScalarQuantizer(levels=(5, 3)), make_normal(600, 2).clamp(-0.5, 0.5))
    assert report.advice.endswith("are dead, never used; train again with fewer levels")


@pytest.mark.parametrize("times", [10.0, 0.1])
def test_z_e_far_longer_or_shorter_than_z_q_asks_for_more_commitment(times):
    report = make_report(build_with_entries(CORNERS), times * make_clusters(CORNERS, [20] * 16))
    assert report.advice == (
        f"the norm of z_e is {times:.2g} times that of z_q; "
        f"train again with a higher commitment_weight"
    )


def test_lengths_are_not_compared_where_z_q_is_not_meant_to_be_as_long_as_z_e():
    vectors = 10 * make_clusters(CORNERS, [20] * 16)
    assert make_report(build_with_entries(CORNERS, cosine=True), vectors).advice == "healthy"
    levels = FiniteScalarQuantizer(levels=(2, 2, 2, 2))
    assert make_report(levels, vectors).advice == "healthy"
    rest = 0.1 * CORNERS  # a tenth of what the first stage leaves over
    stages = [build_with_entries(10 * CORNERS), build_with_entries(rest)]
    vectors = 10 * CORNERS.repeat(16, 1) + CORNERS.repeat_interleave(16, dim=0)
    report = make_report(ResidualQuantizer(stages), vectors)
    assert report.codebooks[1].norm_ratio == pytest.approx(10)
    assert report.advice == "healthy"


def test_duplicates_ask_for_fewer_entries():
    entries = torch.cat([CORNERS, CORNERS[:1] + 1e-3])
    report = make_report(build_with_entries(entries), make_clusters(CORNERS, [20] * 16))
    assert report.advice == (
        "1 of 17 entries are duplicates of others; train again with a smaller codebook_size"
    )


def test_entries_along_a_line_ask_for_shorter_ones():
    entries = torch.zeros(16, 17)
    entries[:, 4] = torch.arange(16) - 7.5
    report = make_report(build_with_entries(entries), make_clusters(entries, [20] * 16))
    assert report.advice == (
        "the entries spread over 1.0 of 17 dimensions; train again with a smaller code_dim"
    )


def test_of_several_codebooks_the_gravest_fault_is_reported_with_its_number():
    line = torch.zeros(16, 9)
    line[:, 0] = torch.arange(16) - 7.5
    parts = [build_with_entries(line), build_with_entries(CORNERS)]
    vectors = torch.cat([line.repeat(20, 1), CORNERS[:12].repeat(27, 1)[:320]], dim=1)
    report = make_report(ProductQuantizer(parts), vectors)
    assert report.advice.startswith("codebook 2 of 2: 4 of 16 entries are dead")


# -- the picture ----------------------------------------------------------------------------


def draw_plot(report, path):
    report.write_plot(path)
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture)


@pytest.mark.slow
def test_plots_of_different_codebooks_differ_and_of_the_same_do_not(tmp_path):
    vectors = make_clusters(CORNERS, [20] * 16)
    pictures = [
        draw_plot(make_report(build_with_entries(entries), vectors), tmp_path / f"{number}.png")
        for number, entries in enumerate([CORNERS, CORNERS, CORNERS * (1 + make_normal(16, 1) / 9)])
    ]
    assert np.array_equal(pictures[0], pictures[1])
    assert (pictures[0] != pictures[2]).mean() > 0.001


@pytest.mark.slow
def test_a_plot_has_a_row_for_each_codebook_up_to_four(tmp_path):
    height = {}
    for number in (1, 5):
        quantizer = ProductQuantizer([build_with_entries(CORNERS) for _ in range(number)])
        report = make_report(quantizer, make_clusters(CORNERS, [20] * 16).repeat(1, number))
        height[number] = len(draw_plot(report, tmp_path / f"{number}.png"))
    assert round(height[5] / height[1]) == 4


def test_the_plotted_z_e_are_a_fair_sample_of_the_whole_pass():
    seen = CodebookStatistics(build_with_entries(CORNERS), torch.device("cpu"))
    for number in range(10):
        z_e = torch.full((2, 4, 30, 20), float(number))
        z_e[:, 1] = torch.arange(1200.0).view(2, 30, 20)
        seen.update(z_e, torch.zeros(2, 30, 20, dtype=torch.int64))
    assert seen.z_e.shape == (3000, 4)
    assert len(seen.z_e.unique(dim=0)) == 3000
    of_each = torch.bincount(seen.z_e[:, 0].long())
    assert of_each.min() > 240
    assert of_each.max() < 360


@pytest.mark.slow
@pytest.mark.parametrize(
    "quantizer",
    [
        build_with_entries([[0.0], [1.0]]),
        build_with_entries([[0.0, 0.0], [100.0, 100.0]]),
        build_with_entries([[1.0, 0.0], [0.0, 1.0]], cosine=True),
        FiniteScalarQuantizer(levels=(3,)),
    ],
    ids=["one dimension", "one entry in use", "by angle", "no codebook"],
)
def test_whatever_the_codebook_there_is_a_plot(quantizer, tmp_path):
    report = make_report(quantizer, make_normal(30, quantizer.z_channels))
    assert draw_plot(report, tmp_path / "new.png").std() > 1


def test_without_matplotlib_the_error_says_which_extra_to_install(tmp_path, monkeypatch):
    report = make_report(build_with_entries(CORNERS), make_clusters(CORNERS, [1] * 16))
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"needs matplotlib; .*pip install 'vqvideo\[report\]'"):
        report.write_plot(tmp_path / "new.png")


# -- the rest -------------------------------------------------------------------------------


def test_a_report_is_plain_data_and_short_to_print():
    report = make_report(build_with_entries(CORNERS), make_clusters(CORNERS, [20] * 16))
    plain = json.loads(json.dumps(report.to_dict()))
    assert plain == {"advice": "healthy", "codebooks": [vars(report.codebooks[0])]}
    assert "tensor" not in repr(report)
    with pytest.raises(AttributeError):
        report.advice = "other"


def test_the_report_is_on_the_face_of_the_package():
    assert vqvideo.codebook_report is codebook_report


def test_no_data_and_data_of_another_model_are_refused():
    generator = build_trained(2, "ema")
    with pytest.raises(
        ValueError, match="the data is empty; a codebook report needs at least one batch"
    ):
        codebook_report(generator, [])
    with pytest.raises(ValueError, match=r"must be \[batch, channels, \*axes\] with 2 axes, got"):
        codebook_report(generator, make_batch(2, 3))  # one tensor instead of several


def test_codebooks_that_cannot_be_separated_are_refused():
    class Mixed(CompositeQuantizer):
        z_channels, quantize, dequantize = 4, None, None

    with pytest.raises(ValueError, match="a Mixed has 2 codebooks; a report supports several"):
        make_report(Mixed([build_with_entries(CORNERS) for _ in range(2)]), make_normal(30, 4))
