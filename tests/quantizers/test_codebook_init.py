"""How a codebook starts: from data, from clusters, after warm-up, and once."""

import copy
import warnings

import pytest
import torch

from vqvideo.quantizers import EMAQuantizer, VectorQuantizer
from vqvideo.testing.grids import GRIDS, assert_equal, find_differences

BOTH = [EMAQuantizer, VectorQuantizer]


def build_manual(build, **options):
    """A quantizer of a loop that calls `update_codebook()` itself."""
    quantizer = build(**options).train()
    quantizer.auto_update = False
    return quantizer


def to_rows(z_e):
    return z_e.detach().movedim(1, -1).flatten(0, -2)


def make_clusters(number, dim, per_cluster, seed=0):
    """Vectors around `number` well separated centres, `[n, dim, 1]`."""
    draw = torch.Generator().manual_seed(seed)
    centres = 10 * torch.randn(number, dim, generator=draw)
    noise = 0.1 * torch.randn(per_cluster, number, dim, generator=draw)
    return (centres + noise).flatten(0, 1)[..., None], centres


def is_among(entries, vectors):
    """Of each entry, whether it is one of the vectors, to the bit."""
    return (entries.detach()[:, None] == vectors).all(dim=2).any(dim=1)


@pytest.mark.parametrize("rank", GRIDS)
@pytest.mark.parametrize("build", BOTH)
def test_the_first_training_step_becomes_the_codebook(build, rank):
    torch.manual_seed(0)
    z_e = torch.randn(2, 4, *GRIDS[rank])
    quantizer = build_manual(build, codebook_size=16, code_dim=4)
    quantizer(z_e)
    assert not quantizer.initialized
    quantizer.update_codebook()
    assert quantizer.initialized
    assert is_among(quantizer.codebook, to_rows(z_e)).all(), "an entry is no vector of the step"
    assert len(quantizer.codebook.unique(dim=0)) == 16


@pytest.mark.parametrize("build", BOTH)
def test_initialization_samples_from_all_micro_batches_of_the_step(build):
    torch.manual_seed(0)
    parts = [torch.randn(2, 4, 10) for _ in range(3)]
    quantizer = build_manual(build, codebook_size=30, code_dim=4)
    for part in parts:
        quantizer(part)
    quantizer.update_codebook()
    from_part = [int(is_among(quantizer.codebook, to_rows(part)).sum()) for part in parts]
    assert sum(from_part) == 30
    assert min(from_part) > 5, f"of the micro-batches came {from_part}"


@pytest.mark.parametrize("build", BOTH)
def test_the_first_initialization_does_not_depend_on_the_random_codebook(build):
    z_e = torch.randn(3, 4, 10, generator=torch.Generator().manual_seed(0))
    books = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        quantizer = build(codebook_size=8, code_dim=4).train()
        quantizer(z_e)
        books.append(quantizer.codebook)
    assert torch.equal(*books)


@pytest.mark.parametrize("build", BOTH)
def test_kmeans_init_is_nearer_to_clusters_than_init_from_data(build):
    z_e, centres = make_clusters(12, 4, per_cluster=30)
    errors, farthest = {}, {}
    for start in ("data", "kmeans"):
        quantizer = build(codebook_size=24, code_dim=4, init=start, dead_code_threshold=0).train()
        quantizer(z_e)
        entries = quantizer.codebook.detach()
        errors[start] = torch.cdist(to_rows(z_e), entries).min(dim=1).values.square().mean()
        farthest[start] = torch.cdist(centres, entries).min(dim=1).values.max()
    assert errors["kmeans"] < 0.8 * errors["data"], errors
    assert farthest["kmeans"] <= farthest["data"]


@pytest.mark.parametrize("build", BOTH)
def test_kmeans_init_finds_cluster_centres(build):
    """With four entries per cluster each cluster has one, and its entries average to its centre."""
    z_e, centres = make_clusters(6, 3, per_cluster=40)
    quantizer = build(codebook_size=24, code_dim=3, init="kmeans", dead_code_threshold=0).train()
    quantizer(z_e)
    distance = torch.cdist(centres, quantizer.codebook.detach()).min(dim=1).values
    assert distance.max() < 0.25, "of about 10 between centres"


@pytest.mark.parametrize("init", ["data", "kmeans"])
@pytest.mark.parametrize("build", BOTH)
def test_initialized_entries_are_not_scaled_away_by_the_next_steps(build, init):
    """Elsewhere a start sets sums without counts and the entries shrink to a hundredth."""
    z_e, _ = make_clusters(8, 4, per_cluster=20)
    quantizer = build(codebook_size=8, code_dim=4, init=init, dead_code_threshold=0).train()
    quantizer(z_e)
    used = torch.bincount(quantizer(z_e).codes.flatten(), minlength=8) > 0
    before = quantizer.codebook.detach()[used].norm(dim=1)
    for _ in range(20):
        quantizer(z_e)
    grown = quantizer.codebook.detach()[used].norm(dim=1) / before
    assert grown.min() > 0.6
    assert grown.max() < 1.7


@pytest.mark.parametrize("init", ["data", "kmeans"])
def test_entries_that_win_their_mean_stay_where_they_were_initialized(init):
    """Eight vectors and eight entries: e = m / N holds from the first moving step on."""
    z_e = make_clusters(8, 4, per_cluster=1)[0]
    quantizer = EMAQuantizer(codebook_size=8, code_dim=4, init=init).train()
    quantizer(z_e)
    started = quantizer.codebook.clone()
    for _ in range(3):
        quantizer(z_e)
        torch.testing.assert_close(quantizer.codebook, started)


@pytest.mark.parametrize("split", [(6,), (2, 4), (2, 2, 2)])
@pytest.mark.parametrize("build", BOTH)
def test_while_warming_up_z_q_is_z_e_to_the_bit_and_the_codebook_untouched(build, split):
    torch.manual_seed(0)
    quantizer = build_manual(build, codebook_size=8, code_dim=4, warmup_steps=3)
    before = quantizer.codebook.detach().clone()
    for number in range(3):
        assert quantizer.is_warming_up
        z_e = torch.randn(6, 4, 9)
        for part in z_e.split(split):
            out = quantizer(part)
            assert torch.equal(out.z_q, part)
            assert out.commitment_loss == out.codebook_loss == 0
            assert 0 <= out.codes.min() <= out.codes.max() < 8
        assert torch.equal(quantizer.codebook, before)
        assert quantizer.steps == number
        quantizer.update_codebook()
    assert not quantizer.is_warming_up
    assert quantizer.steps == 3
    assert is_among(quantizer.codebook, to_rows(z_e)).all(), "not started from its last step"
    out = quantizer(z_e)
    assert torch.equal(out.z_q, quantizer.decode(out.codes))


@pytest.mark.parametrize("build", BOTH)
def test_warm_up_steps_are_counted_by_auto_update_too(build):
    quantizer = build(codebook_size=8, code_dim=4, warmup_steps=3).train()
    for expected in (True, True, False):
        quantizer(torch.randn(2, 4, 9))
        assert quantizer.is_warming_up is expected


@pytest.mark.parametrize("build", BOTH)
def test_evaluation_quantizes_before_the_codebook_is_initialized(build):
    quantizer = build(codebook_size=8, code_dim=4).eval()
    out = quantizer(torch.randn(2, 4, 9))
    assert torch.equal(out.z_q, quantizer.decode(out.codes))
    assert quantizer.is_warming_up
    assert quantizer.steps == 0


@pytest.mark.parametrize("build", BOTH)
def test_steps_that_saw_nothing_do_not_count_as_warm_up(build):
    quantizer = build_manual(build, codebook_size=8, code_dim=4, warmup_steps=2)
    quantizer.update_codebook()
    quantizer(torch.randn(0, 4, 9))
    quantizer.update_codebook()
    quantizer(torch.randn(2, 4, 9), torch.zeros(2, 9, dtype=torch.bool))
    quantizer.update_codebook()
    assert quantizer.steps == 0
    assert quantizer.is_warming_up


@pytest.mark.parametrize("init", ["data", "kmeans"])
@pytest.mark.parametrize("build", BOTH)
def test_fewer_vectors_than_codes_warns_once_and_says_what_to_do(build, init):
    torch.manual_seed(0)
    quantizer = build(codebook_size=16, code_dim=4, init=init, warmup_steps=2).train()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(5):
            quantizer(torch.randn(2, 4, 3))
    (warning,) = caught
    assert str(warning.message) == (
        "the codebook is initialized from a step of 6 vectors for 16 codes, so 10 entries start as "
        "noisy copies; use larger batches or a smaller codebook_size to initialize all of them "
        "from data"
    )
    assert quantizer.codebook.isfinite().all()
    assert len(quantizer.codebook.unique(dim=0)) == 16


@pytest.mark.parametrize("build", BOTH)
def test_noisy_copies_stay_near_the_vectors_they_copy(build):
    torch.manual_seed(0)
    z_e = torch.randn(2, 4, 3) * torch.tensor([1.0, 10.0, 100.0, 0.0])[:, None]
    quantizer = build(codebook_size=50, code_dim=4).train()
    with pytest.warns(UserWarning, match="44 entries start as noisy copies"):
        quantizer(z_e)
    assert is_among(quantizer.codebook, to_rows(z_e)).sum() == 6
    spread = to_rows(z_e).std(dim=0, correction=0)
    is_near = (quantizer.codebook.detach()[:, None] - to_rows(z_e)).abs() <= 0.5 * spread + 1e-6
    assert is_near.all(dim=2).any(dim=1).all(), "a copy is more than half a deviation away"


@pytest.mark.parametrize("build", BOTH)
def test_one_vector_is_enough_to_initialize(build):
    quantizer = build(codebook_size=5, code_dim=3).train()
    with pytest.warns(UserWarning, match="1 vectors for 5 codes"):
        quantizer(torch.ones(1, 3, 1))
    torch.testing.assert_close(quantizer.codebook.detach(), torch.ones(5, 3))


@pytest.mark.parametrize("warmup_steps", [1, 4])
@pytest.mark.parametrize("build", BOTH)
def test_training_continues_after_loading_as_if_never_saved(build, warmup_steps):
    """Elsewhere the flag is no buffer, and a loaded codebook starts anew from one batch."""
    options = {"codebook_size": 8, "code_dim": 4, "warmup_steps": warmup_steps}
    torch.manual_seed(0)
    quantizer = build(**options).train()
    for _ in range(2):
        quantizer(torch.randn(3, 4, 9))
    again = build(**options).train()
    again.load_state_dict(quantizer.state_dict())
    assert again.is_warming_up is (warmup_steps == 4)
    for _ in range(4):
        z_e = torch.randn(3, 4, 9)
        torch.testing.assert_close(quantizer(z_e), again(z_e), rtol=0, atol=0)
        assert_equal(quantizer, again, "after loading and training on, these differ:")


@pytest.mark.parametrize("build", BOTH)
def test_an_initialized_codebook_is_never_initialized_again(build):
    torch.manual_seed(0)
    quantizer = build(codebook_size=8, code_dim=4, dead_code_threshold=0).train()
    quantizer(torch.randn(3, 4, 9))
    before = copy.deepcopy(quantizer.state_dict())
    quantizer.train(False).train()
    quantizer(torch.randn(3, 4, 9) + 1000)
    assert (quantizer.codebook - before["codebook"]).detach().abs().max() < 100
    assert "initialized" not in find_differences(before, quantizer.state_dict())
