"""Which vectors of a step are drawn, against a sort over all of them; and k-means by loops."""

import numpy as np
import pytest
import torch

from vqvideo import distributed
from vqvideo.quantizers.initialization import kmeans
from vqvideo.quantizers.reservoir import VectorReservoir

DIM = 2


def make_numbered(items, positions, first=0):
    """Vectors `[items, positions, 2]`, no two alike."""
    numbers = torch.arange(items * positions, dtype=torch.float32) + first
    return torch.stack([numbers, -numbers], dim=1).view(items, positions, DIM)


def make_reservoir(size, batches, seed=0):
    """A sample of `batches`, each a pair of vectors and a mask."""
    chosen = VectorReservoir(size, seed, torch.empty(0, DIM))
    for vectors, mask in batches:
        chosen.add(vectors, mask)
    return chosen


def sort_by_hand(batches, number, seed=0):
    """All counted vectors by (place in the order of positions, batch, item), the first few."""
    every = []
    for batch, (vectors, mask) in enumerate(batches):
        items, positions = vectors.shape[:2]
        order = torch.randperm(positions, generator=torch.Generator().manual_seed(seed)).tolist()
        for place, position in enumerate(order):
            for item in range(items):
                if mask is None or mask[item, position]:
                    every.append(((place, batch, item), vectors[item, position].tolist()))
    return [vector for _, vector in sorted(every)][:number]


def make_random_mask(items, positions, seed, share=0.5):
    draw = torch.Generator().manual_seed(seed)
    return torch.rand(items, positions, generator=draw) < share


@pytest.mark.parametrize("size", [1, 5, 24, 60, 1000])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("cut", [[6], [1, 5], [2, 2, 2], [5, 1], [1] * 6, [3, 0, 3]])
def test_the_sample_is_the_first_of_all_by_place_batch_and_item(size, masked, cut):
    mask = make_random_mask(6, 10, seed=1) if masked else torch.ones(6, 10, dtype=torch.bool)
    vectors = make_numbered(6, 10)
    parts = list(zip(vectors.split(cut), mask.split(cut), strict=True))
    if not masked:
        parts = [(part, None) for part, _ in parts]
    drawn = make_reservoir(size, parts).sample(size).tolist()
    assert drawn == sort_by_hand(parts, size)
    assert drawn == sort_by_hand([(vectors, mask)], size), "how the step is cut shows"
    assert len(drawn) == min(size, int(mask.sum()))


def test_the_sample_depends_on_no_random_state():
    batches = [(make_numbered(3, 20), None)]
    torch.manual_seed(1)
    one = make_reservoir(9, batches).sample(9)
    torch.manual_seed(2)
    assert torch.equal(make_reservoir(9, batches).sample(9), one)


def test_asking_draws_nothing_from_the_random_state():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    make_reservoir(9, [(make_numbered(3, 20), None)]).sample(9)
    assert torch.equal(torch.rand(3), expected)


def test_another_step_draws_other_positions():
    batches = [(make_numbered(1, 100), None)]
    one, other = (make_reservoir(10, batches, seed).sample(10)[:, 0].tolist() for seed in (3, 4))
    assert len(set(one) & set(other)) < 6


def test_all_positions_and_all_items_are_drawn_equally_often():
    """700 draws of 8 from 4 items and 14 positions: 100 of each vector, within five sigma."""
    counts = torch.zeros(4 * 14)
    for seed in range(700):
        counts[make_reservoir(8, [(make_numbered(4, 14), None)], seed).sample(8)[:, 0].long()] += 1
    assert counts.sum() == 5600
    assert (counts - 100).abs().max() < 50


def test_fewer_may_be_asked_for_and_never_more_than_the_size():
    chosen = make_reservoir(8, [(make_numbered(4, 14), None)])
    assert torch.equal(chosen.sample(3), chosen.sample(8)[:3])
    assert len(chosen.sample(100)) == 8


def test_a_sample_holds_no_more_than_its_size():
    chosen = make_reservoir(8, [(make_numbered(4, 14, first=56 * k), None) for k in range(5)])
    assert len(chosen.vectors) == len(chosen.keys) == 8


@pytest.mark.parametrize("items", [0, 2])
def test_a_sample_of_nothing_draws_nothing(items):
    nobody = torch.zeros(items, 7, dtype=torch.bool)
    assert make_reservoir(5, [(make_numbered(items, 7), nobody)]).sample(5).shape == (0, DIM)
    assert make_reservoir(5, []).sample(5).shape == (0, DIM)
    assert make_reservoir(0, [(make_numbered(items, 7), None)]).sample(5).shape == (0, DIM)


def test_a_batch_of_nobody_first_does_not_hinder_those_after():
    nobody = torch.zeros(2, 7, dtype=torch.bool)
    batches = [(make_numbered(2, 7), nobody), (make_numbered(2, 7, first=14), None)]
    assert make_reservoir(5, batches).sample(5).tolist() == sort_by_hand(batches, 5)


def test_a_sample_keeps_the_type_of_its_vectors_and_no_gradient():
    chosen = VectorReservoir(4, 0, torch.empty(0, DIM, dtype=torch.float64, requires_grad=True))
    assert chosen.sample(4).dtype == torch.float64
    chosen.add(make_numbered(2, 7).double())
    assert chosen.sample(4).dtype == torch.float64
    assert not chosen.sample(4).requires_grad


def test_later_changes_of_the_batch_do_not_reach_the_sample():
    vectors = make_numbered(2, 7)
    chosen = make_reservoir(4, [(vectors, None)])
    before = chosen.sample(4).clone()
    vectors.zero_()
    assert torch.equal(chosen.sample(4), before)


def test_a_single_process_gathers_its_own_rows():
    rows = torch.randn(3, 2)
    assert torch.equal(distributed.all_reduce_sum(rows), rows)
    assert torch.equal(distributed.all_gather_rows(rows), rows)


# -- k-means --------------------------------------------------------------------------------


def kmeans_by_loops(vectors, number, iterations):
    vectors = vectors.double().numpy()
    centres = vectors[:number].copy()
    for _ in range(iterations):
        members = [[] for _ in range(number)]
        for vector in vectors:
            members[int(np.square(centres - vector).sum(axis=1).argmin())].append(vector)
        for k, own in enumerate(members):
            if own:
                centres[k] = np.mean(own, axis=0)
    return centres


@pytest.mark.parametrize(("n", "number", "dim"), [(60, 5, 3), (41, 40, 2), (7, 7, 1), (30, 1, 4)])
@pytest.mark.parametrize("iterations", [0, 1, 10])
def test_kmeans_is_lloyds_algorithm_from_the_first_vectors(n, number, dim, iterations):
    vectors = torch.randn(n, dim, generator=torch.Generator().manual_seed(n))
    centres = kmeans(vectors, number, num_iters=iterations)
    expected = kmeans_by_loops(vectors, number, iterations)
    np.testing.assert_allclose(centres, expected, rtol=1e-4, atol=1e-5)


def test_a_cluster_without_vectors_keeps_its_centre():
    vectors = torch.tensor([[0.0], [0.0], [4.0], [0.0]])  # of two equal centres the first wins
    assert kmeans(vectors, 3).tolist() == [[0.0], [0.0], [4.0]]


def test_kmeans_does_not_change_the_vectors_it_is_given():
    vectors = torch.randn(20, 2, generator=torch.Generator().manual_seed(0))
    before = vectors.clone()
    kmeans(vectors, 4)
    assert torch.equal(vectors, before)
