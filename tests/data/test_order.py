"""The order of training: every item once in a pass, by the seed, and to be taken up anywhere."""

from __future__ import annotations

from itertools import islice

import pytest
import torch
from accelerate.data_loader import prepare_data_loader
from torch.utils.data import DataLoader, Dataset

from vqvideo.data.batch_sampler import InfiniteBatchSampler
from vqvideo.training import TrainingConfig
from vqvideo.training.training_data import TrainingData


def list_batches(number: int, length: int = 10, size: int = 3, **options) -> list[list[int]]:
    return list(
        islice(InfiniteBatchSampler(length, batch_size=size, **{"seed": 0, **options}), number)
    )


def test_a_pass_has_every_item_at_most_once_and_leaves_other_ones_out_each_time():
    whole = list_batches(3 * 40)
    left_out = set()
    for number in range(40):
        seen = [index for batch in whole[3 * number : 3 * number + 3] for index in batch]
        assert len(set(seen)) == 9
        assert set(seen) <= set(range(10))
        left_out |= set(range(10)) - set(seen)
    assert left_out == set(range(10))


def test_all_items_are_seen_where_they_fill_the_batches():
    seen = [index for batch in list_batches(4, length=12) for index in batch]
    assert sorted(seen) == list(range(12))
    assert seen != sorted(seen)


def test_passes_differ_and_so_do_seeds_and_the_same_is_the_same():
    whole = list_batches(30)
    assert whole == list_batches(30)
    assert len({str(whole[3 * number : 3 * number + 3]) for number in range(10)}) == 10
    assert len({str(list_batches(6, seed=seed)) for seed in (0, 1, 2, -1, 2**40)}) == 5


@pytest.mark.parametrize("start", [0, 1, 2, 3, 4, 7, 50])
def test_from_any_batch_on_the_order_is_that_of_the_whole(start):
    assert list_batches(8, start=start) == list_batches(start + 8)[start:]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 11}, "batch_size must be from 1 to 10, got 11"),
        ({"size": 0}, "batch_size must be from 1 to 10, got 0"),
        ({"start": -1}, "start must be at least 0, got -1"),
    ],
)
def test_an_order_that_makes_no_sense_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        list_batches(1, **options)


class Numbers(Dataset):
    """Item i is a sample that holds i."""

    def __len__(self) -> int:
        return 11

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"x": torch.tensor([index, 2 * index])}


def make_config(num_workers: int = 0, batch_size: int = 4) -> TrainingConfig:
    return TrainingConfig(steps=1, batch_size=batch_size, seed=3, num_workers=num_workers)


def make_loader(config: TrainingConfig, steps_done: int = 0) -> DataLoader:
    return TrainingData(Numbers(), config).build_loader(steps_done)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_interrupted_training_resumes_with_the_same_batches(num_workers):
    """Eleven items in batches of four make two batches a pass: both halves cross passes."""
    whole = [batch["x"] for batch in islice(make_loader(make_config()), 9)]
    first = make_loader(make_config(num_workers))
    seen = [batch["x"] for batch in islice(first, 5)]  # workers have read further
    rest = make_loader(make_config(num_workers), len(seen))
    seen += [batch["x"] for batch in islice(rest, 4)]
    assert all(torch.equal(a, b) for a, b in zip(seen, whole, strict=True))


def test_a_batch_is_never_larger_than_the_data():
    batch = next(iter(make_loader(make_config(batch_size=100))))
    assert sorted(batch["x"][:, 0].tolist()) == list(range(11))


def test_the_order_is_not_that_of_the_global_random_state():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    one = next(iter(make_loader(make_config())))["x"]
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert torch.equal(next(iter(make_loader(make_config())))["x"], one)


@pytest.mark.parametrize("start", [0, 6])
def test_several_processes_take_turns_at_the_batches(start):
    whole = [batch["x"] for batch in islice(make_loader(make_config()), 12)]
    for process in range(2):
        own: DataLoader = prepare_data_loader(
            make_loader(make_config(), start), num_processes=2, process_index=process
        )
        seen = [batch["x"] for batch in islice(own, 3)]
        expected = whole[start + process : start + 6 : 2]
        assert all(torch.equal(a, b) for a, b in zip(seen, expected, strict=True))
