"""Rank and strides: which grid belongs to which data, and which sizes a refusal offers."""

from __future__ import annotations

import pytest

from vqvideo.grid import (
    ceil_div,
    check_rank,
    check_strides,
    compute_downsampling,
    compute_grid_shape,
)

STRIDES = {1: ((4,), (3,)), 2: ((2, 1), (2, 3)), 3: ((2, 1, 3), (1, 2, 2))}
DOWN = {1: (12,), 2: (4, 3), 3: (2, 2, 6)}
GRIDS = {1: (11,), 2: (4, 5), 3: (3, 4, 5)}


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_downsampling_is_the_product_of_the_levels_along_each_axis(rank):
    assert check_rank(rank) == rank
    assert compute_downsampling(check_strides(rank, STRIDES[rank])) == DOWN[rank]


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_grid_has_one_code_for_each_block_of_the_downsampling(rank):
    data = tuple(size * factor for size, factor in zip(GRIDS[rank], DOWN[rank], strict=True))
    assert compute_grid_shape(data, DOWN[rank]) == GRIDS[rank]


def test_strides_may_be_lists_and_become_tuples():
    assert check_strides(2, [[2, 1], (3, 4)]) == ((2, 1), (3, 4))


@pytest.mark.parametrize("rank", [0, 4, -1, "3", None])
def test_other_ranks_are_refused(rank):
    with pytest.raises(ValueError, match=r"rank must be 1 \(audio\), 2 \(image\) or 3 \(video\)"):
        check_rank(rank)
    with pytest.raises(ValueError, match=f"got {rank!r}"):
        check_strides(rank, ())


@pytest.mark.parametrize(
    ("rank", "strides", "complaint"),
    [
        (
            2,
            ((2, 2), (2,)),
            r"must hold 2 integers >= 1 \(one per axis: height, width\), got \(2,\)",
        ),
        (3, ((2, 2, 0),), r"hold 3 integers .*: frames, height, width\), got \(2, 2, 0\)"),
        (1, ((2.0,),), r"hold 1 integers .*: length\), got \(2.0,\)"),
        (1, ((-2,),), r"got \(-2,\)"),
    ],
)
def test_a_level_with_other_strides_than_one_per_axis_is_refused(rank, strides, complaint):
    with pytest.raises(ValueError, match=complaint):
        check_strides(rank, strides)


@pytest.mark.parametrize(
    ("axes", "down", "complaint"),
    [
        (
            (90,),
            (8,),
            "length 90 is not divisible by the downsampling 8; crop or pad it to 88 or 96",
        ),
        (
            (8, 9),
            (4, 4),
            "width 9 is not divisible by the downsampling 4; crop or pad it to 8 or 12",
        ),
        ((7, 8, 8), (2, 4, 4), "frames 7 is not divisible by the downsampling 2; "),
        ((3,), (4,), "length 3 is not divisible by the downsampling 4; crop or pad it to 4"),
        ((0, 4), (4, 4), "height 0 is not divisible by the downsampling 4; crop or pad it to 4"),
        ((8, 8), (2, 2, 2), "data must have 3 axes (frames, height, width), got (8, 8)"),
        ((4, 8, 8), (2, 2), "data must have 2 axes (height, width), got (4, 8, 8)"),
    ],
)
def test_data_that_does_not_divide_is_refused_by_axis_with_sizes_that_do(axes, down, complaint):
    with pytest.raises(ValueError) as refused:
        compute_grid_shape(axes, down)
    text = str(refused.value)
    assert text.startswith(complaint) if complaint.endswith("; ") else text == complaint


@pytest.mark.parametrize("size", [1, 4, 5, 7, 8, 12])
@pytest.mark.parametrize("factor", [1, 3, 4])
def test_every_size_that_a_refusal_offers_is_accepted_and_next_to_what_was_asked(size, factor):
    works = [good for good in range(1, size + factor + 1) if good % factor == 0]
    if size in works:
        assert compute_grid_shape((size,), (factor,)) == (size // factor,)
        return
    with pytest.raises(ValueError, match="crop or pad it to") as refused:
        compute_grid_shape((size,), (factor,))
    offered = [int(good) for good in str(refused.value).split(" to ")[-1].split(" or ")]
    below, above = [good for good in works if good < size], [good for good in works if good > size]
    assert offered == [*below[-1:], above[0]]


@pytest.mark.parametrize("size", range(10))
@pytest.mark.parametrize("factor", [1, 2, 3, 4])
def test_codes_needed_are_the_fewest_that_cover_the_size(size, factor):
    covered = 0
    while covered * factor < size:
        covered += 1
    assert ceil_div(size, factor) == covered
