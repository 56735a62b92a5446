"""The search against a float64 one over all pairs: sizes, tiles, chunks, ties, both ways."""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from vqvideo.quantizers import EMAQuantizer, VectorQuantizer, nearest_codes, search

ONEDNN = pytest.param(
    True, marks=pytest.mark.skipif(not search._has_fast_onednn(), reason="no fast oneDNN here")
)


@pytest.fixture(params=[False, ONEDNN], ids=["plain", "onednn"])
def both_backends(request, monkeypatch):
    monkeypatch.setattr(search, "_has_fast_onednn", lambda: request.param)


@pytest.fixture
def small_tiles(monkeypatch):
    monkeypatch.setattr(search, "TILE_SIZE", 64)
    monkeypatch.setattr(search, "MAX_CHUNK_SCORES", 64 * 7)


def compute_squared_distances(vectors, codebook):
    differences = vectors.double().numpy()[:, None] - codebook.double().numpy()[None]
    return np.square(differences).sum(axis=2)


def make_lattice_vectors(number, dim, seed):
    """Multiples of 1/2 in [-2, 2]: float32 is exact on them, and most nearest entries are ties."""
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(-4, 5, (number, dim), generator=draw) / 2


SIZES = [
    *[(0, 5, 3), (1, 1, 1), (1, 33, 2), (7, 1, 4), (50, 2, 3), (101, 31, 6), (101, 32, 1)],
    *[(64, 33, 5), (65, 63, 2), (66, 64, 3), (67, 65, 3), (130, 129, 4), (40, 200, 7)],
]


@pytest.mark.parametrize(("n", "codebook_size", "dim"), SIZES)
@pytest.mark.usefixtures("both_backends")
def test_the_search_is_exact_and_ties_go_to_the_lowest_index(n, codebook_size, dim):
    vectors, codebook = (
        make_lattice_vectors(n, dim, seed=1),
        make_lattice_vectors(codebook_size, dim, seed=2),
    )
    codes = nearest_codes(vectors, codebook)
    assert codes.dtype == torch.int64
    np.testing.assert_array_equal(
        codes, compute_squared_distances(vectors, codebook).argmin(axis=1)
    )


@pytest.mark.parametrize(("n", "codebook_size", "dim"), SIZES)
@pytest.mark.usefixtures("both_backends", "small_tiles")
def test_tiles_and_chunks_do_not_show(n, codebook_size, dim):
    vectors, codebook = (
        make_lattice_vectors(n, dim, seed=3),
        make_lattice_vectors(codebook_size, dim, seed=4),
    )
    expected = compute_squared_distances(vectors, codebook).argmin(axis=1)
    np.testing.assert_array_equal(nearest_codes(vectors, codebook), expected)


@pytest.mark.parametrize("codebook_size", [2047, 2048, 2049, 4096, 5000])
@pytest.mark.usefixtures("both_backends")
def test_several_tiles_of_full_size_are_searched_exactly(codebook_size):
    vectors, codebook = (
        make_lattice_vectors(203, 3, seed=5),
        make_lattice_vectors(codebook_size, 3, seed=6),
    )
    codebook[:-60] += 100  # the nearest stand in the last tile, or in the last two
    vectors[100:] += 100
    expected = compute_squared_distances(vectors, codebook).argmin(axis=1)
    np.testing.assert_array_equal(nearest_codes(vectors, codebook), expected)


@pytest.mark.parametrize("copies", [[3, 5], [5, 40], [31, 32], [10, 70, 150], [64, 127, 128]])
@pytest.mark.usefixtures("both_backends", "small_tiles")
def test_of_equal_entries_the_first_wins_within_a_group_across_groups_and_across_tiles(copies):
    codebook = make_lattice_vectors(200, 4, seed=7) + 50
    codebook[copies] = torch.tensor([1.0, -1.0, 0.5, 0.0])
    assert nearest_codes(make_lattice_vectors(30, 4, seed=8), codebook).tolist() == [copies[0]] * 30


def test_ties_go_to_the_lowest_index():
    codebook = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    assert nearest_codes(torch.tensor([[0.9, 0.0], [0.0, 0.9]]), codebook).tolist() == [0, 1]


@pytest.mark.parametrize(("dtype", "worse"), [(torch.float32, 1e-5), (torch.float64, 1e-13)])
@pytest.mark.usefixtures("both_backends")
def test_no_entry_is_nearer_than_the_chosen_by_more_than_rounding(dtype, worse):
    torch.manual_seed(0)
    vectors, codebook = torch.randn(301, 17, dtype=dtype), torch.randn(2500, 17, dtype=dtype)
    codes = nearest_codes(vectors, codebook)
    distances = compute_squared_distances(vectors, codebook)
    chosen = distances[np.arange(301), codes]
    assert (chosen - distances.min(axis=1)).max() < worse
    assert (codes.numpy() == distances.argmin(axis=1)).mean() > 0.99


@pytest.mark.usefixtures("both_backends")
def test_the_search_is_right_far_from_the_origin_and_beside_a_stray_entry():
    draw = torch.Generator().manual_seed(0)
    codebook = torch.randn(64, 8, generator=draw) + 10_000
    vectors = codebook[torch.arange(64)] + 0.01 * torch.randn(64, 8, generator=draw)
    assert torch.equal(nearest_codes(vectors, codebook), torch.arange(64))
    for stray in (0, 7, 63):
        beside = codebook.clone()
        beside[stray] = 1e6
        others = torch.arange(64) != stray
        assert torch.equal(nearest_codes(vectors[others], beside), torch.arange(64)[others])


def test_chunks_of_the_search_do_not_show(monkeypatch):
    torch.manual_seed(0)
    vectors, codebook = torch.randn(101, 6), torch.randn(33, 6)
    whole = nearest_codes(vectors, codebook)
    monkeypatch.setattr(search, "MAX_CHUNK_SCORES", 64 * 7)
    assert torch.equal(nearest_codes(vectors, codebook), whole)
    assert torch.equal(torch.cdist(vectors, codebook).argmin(dim=1), whole)


@pytest.mark.usefixtures("both_backends")
def test_the_search_is_float32_under_autocast():
    draw = torch.Generator().manual_seed(0)
    vectors, codebook = torch.randn(200, 8, generator=draw), torch.randn(70, 8, generator=draw)
    plain = nearest_codes(vectors, codebook)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(nearest_codes(vectors, codebook), plain)


def test_the_codes_of_a_transposed_view_are_those_of_its_copy():
    draw = torch.Generator().manual_seed(0)
    vectors, codebook = torch.randn(6, 90, generator=draw), torch.randn(6, 40, generator=draw)
    expected = nearest_codes(vectors.T.contiguous(), codebook.T.contiguous())
    assert torch.equal(nearest_codes(vectors.T, codebook.T), expected)


def test_inputs_of_the_search_are_left_as_they_are():
    vectors, codebook = make_lattice_vectors(20, 3, seed=0), make_lattice_vectors(40, 3, seed=1)
    before = vectors.clone(), codebook.clone()
    nearest_codes(vectors, codebook)
    assert torch.equal(vectors, before[0])
    assert torch.equal(codebook, before[1])


@pytest.mark.skipif(not search._has_fast_onednn(), reason="no fast oneDNN here")
@pytest.mark.parametrize(("n", "codebook_size", "dim"), [(999, 512, 64), (500, 3001, 9)])
def test_onednn_and_the_plain_way_choose_the_same_codes(monkeypatch, n, codebook_size, dim):
    draw = torch.Generator().manual_seed(0)
    vectors = torch.randn(n, dim, generator=draw)
    codebook = torch.randn(codebook_size, dim, generator=draw)
    by_onednn = nearest_codes(vectors, codebook)
    monkeypatch.setattr(search, "_has_fast_onednn", lambda: False)
    plainly = nearest_codes(vectors, codebook)
    differ = by_onednn != plainly  # but where two entries are equally near within rounding
    distances = compute_squared_distances(vectors[differ], codebook)
    rows = np.arange(len(distances))
    apart = distances[rows, by_onednn[differ]] - distances[rows, plainly[differ]]
    assert differ.float().mean() < 0.01
    assert not np.any(np.abs(apart) > 1e-4)


@pytest.fixture
def reset_guard(monkeypatch):
    """The question whether oneDNN may be used, asked anew on a processor that has AVX-512."""
    fitting = {"cpu_name": "AMD EPYC", "avx512_f": True}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: fitting, raising=False)
    search._has_fast_onednn.cache_clear()
    yield fitting
    search._has_fast_onednn.cache_clear()


def compute_scores(vectors, entries, bias):
    return vectors @ entries.T + bias


def test_onednn_is_used_where_it_gives_the_right_numbers(monkeypatch, reset_guard):
    monkeypatch.setattr(search, "_score_by_onednn", compute_scores)
    assert search._has_fast_onednn()
    assert search._is_onednn_faster(torch.zeros(3, 2))
    assert not search._is_onednn_faster(torch.zeros(3, 2, dtype=torch.float64))
    assert not search._is_onednn_faster(torch.zeros(3, 2, device="meta"))


@pytest.mark.parametrize("error", [RuntimeError("built without"), AttributeError("no such op")])
def test_onednn_is_not_used_where_it_raises(monkeypatch, reset_guard, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(search, "_score_by_onednn", fail)
    assert not search._has_fast_onednn()


def test_onednn_is_not_used_where_it_gives_wrong_numbers(monkeypatch, reset_guard):
    monkeypatch.setattr(
        search, "_score_by_onednn", lambda x, e, bias: compute_scores(x, e, bias) + 1
    )
    assert not search._has_fast_onednn()


@pytest.mark.parametrize("change", [{"cpu_name": "Intel(R) Xeon"}, {"avx512_f": False}])
def test_onednn_is_not_used_on_other_processors(monkeypatch, reset_guard, change):
    monkeypatch.setattr(search, "_score_by_onednn", compute_scores)
    reset_guard.update(change)
    assert not search._has_fast_onednn()


def test_onednn_is_not_used_where_torch_cannot_name_the_processor(monkeypatch, reset_guard):
    monkeypatch.setattr(search, "_score_by_onednn", compute_scores)
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert not search._has_fast_onednn()


class Largest(TorchDispatchMode):
    """Remembers the most elements that any operation gave back."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = func(*args, **(kwargs or {}))
        for each in given if isinstance(given, (tuple, list)) else [given]:
            if isinstance(each, torch.Tensor):
                self.numel = max(self.numel, each.numel())
        return given


@pytest.mark.parametrize("build", [EMAQuantizer, VectorQuantizer])
@pytest.mark.usefixtures("both_backends")
def test_no_matrix_of_all_pairs_is_ever_made(build):
    torch.manual_seed(0)
    quantizer = build(codebook_size=4096, code_dim=3).train()
    for _ in range(2):  # the step that starts the codebook, and one after
        with Largest() as largest:
            out = quantizer(torch.randn(2, 3, 50, 60, requires_grad=True))
            (out.z_q.sum() + out.commitment_loss + out.codebook_loss).backward()
        assert 0 < largest.numel <= search.MAX_CHUNK_SCORES < 6000 * 4096 / 8
