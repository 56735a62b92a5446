"""Windows of files: every frame says by its brightness which one it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from vqvideo import media
from vqvideo.cond import CondSpec
from vqvideo.data.clips import SUFFIXES_BY_RANK, ClipDataset, Fit, cond_from_batch
from vqvideo.data.metadata import Item, write_metadata

SHAPE = (4, 16, 24)
LEVELS = 40  # frame numbers that brightness can tell apart


def make_frames(file: int, num_frames: int, size: tuple[int, int] = SHAPE[1:]) -> Tensor:
    """Video `[3, t, h, w]` whose frame t of file f is as bright as its number, 20 f + t."""
    numbers = 20.0 * file + torch.arange(num_frames)
    return (numbers / LEVELS * 2 - 1).view(1, -1, 1, 1).expand(3, -1, *size)


def read_numbers(x: Tensor) -> list[int]:
    """The numbers of the frames of a window `[3, t, h, w]`."""
    return ((x.mean(dim=(0, 2, 3)) + 1) / 2 * LEVELS).round().int().tolist()


def write_videos(folder: Path, *lengths: int) -> None:
    for file, length in enumerate(lengths):
        media.write_video(folder / f"{file}.mp4", make_frames(file, length), fps=8)


def windows(dataset: ClipDataset) -> list[list[int]]:
    return [read_numbers(dataset[index]["x"]) for index in range(len(dataset))]


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """Two videos of 7 and 12 frames, without a table: numbers 0 to 6, and 20 to 31."""
    folder = tmp_path_factory.mktemp("videos")
    write_videos(folder, 7, 12)
    return folder


def load_both_splits(folder: Path, step: int | None = None) -> list[list[int]]:
    splits = [
        ClipDataset(folder, SHAPE, split=split, clip_stride=step) for split in ("train", "test")
    ]
    return windows(splits[0]) + windows(splits[1])


# -- which windows --------------------------------------------------------------------------


def test_windows_lie_side_by_side_and_never_cross_the_end_of_a_file(videos):
    assert load_both_splits(videos) == [
        [0, 1, 2, 3],
        [20, 21, 22, 23],
        [24, 25, 26, 27],
        [28, 29, 30, 31],
    ]


@pytest.mark.parametrize("step", [1, 3, 5, 8])
def test_windows_start_every_so_many_frames(videos, step):
    expected = []
    for file, length in ((0, 7), (1, 12)):
        start = 0
        while start + 4 <= length:
            expected.append([20 * file + start + t for t in range(4)])
            start += step
    assert load_both_splits(videos, step) == expected


@pytest.mark.parametrize("step", [0, -1])
def test_a_step_that_leads_nowhere_is_refused(videos, step):
    with pytest.raises(ValueError, match=f"clip_stride must be at least 1, got {step}"):
        ClipDataset(videos, SHAPE, clip_stride=step)


def test_a_window_is_three_colours_of_the_shape_asked_for_in_minus_one_to_one(videos):
    x = ClipDataset(videos, (2, 8, 12))[0]["x"]
    assert x.shape == (3, 2, 8, 12)
    assert x.dtype == torch.float32
    assert -1 <= x.min() <= x.max() <= 1


def test_videos_of_another_shape_are_cropped_unless_that_is_refused(tmp_path):
    wide = torch.cat([make_frames(0, 4), make_frames(1, 4)], dim=3)  # left is dark, right is bright
    media.write_video(tmp_path / "a.mp4", wide, fps=8)
    write_metadata(tmp_path, [Item(tmp_path / "a.mp4", "test")])
    x = ClipDataset(tmp_path, SHAPE, split="test")[0]["x"]
    assert x.shape == (3, *SHAPE)
    assert read_numbers(x[..., :10]) == [0, 1, 2, 3]
    assert read_numbers(x[..., -10:]) == [20, 21, 22, 23]
    with pytest.raises(ValueError, match="image is 16x48"):
        ClipDataset(tmp_path, SHAPE, split="test", fit="refuse")[0]


def test_fit_is_one_of_three_words(tmp_path):
    assert get_args(Fit) == ("crop", "pad", "refuse")
    media.write_image(tmp_path / "a.png", torch.ones(3, 8, 16))
    write_metadata(tmp_path, [Item(tmp_path / "a.png", "test")])
    shape, split = (8, 8), "test"
    assert (ClipDataset(tmp_path, shape, split=split, fit="crop")[0]["x"] == 1).all()
    padded = ClipDataset(tmp_path, shape, split=split, fit="pad")[0]["x"]
    assert (padded[:, 2:6] == 1).all()
    assert (padded[:, [0, 1, 6, 7]] == -1).all()
    with pytest.raises(ValueError, match="image is 8x16"):
        ClipDataset(tmp_path, shape, split=split, fit="refuse")[0]
    with pytest.raises(ValueError, match="fit must be 'crop', 'pad' or 'refuse', got 'stretch'"):
        ClipDataset(tmp_path, shape, split=split, fit="stretch")[0]


def test_an_image_is_one_window_and_keeps_its_pixels(tmp_path):
    images = {name: torch.rand(3, 6, 10) * 2 - 1 for name in ("b", "a")}
    for name, image in images.items():
        media.write_image(tmp_path / f"{name}.png", image)
    (tmp_path / "notes.txt").write_text("no image")
    train = ClipDataset(tmp_path, (6, 10))
    test = ClipDataset(tmp_path, (6, 10), split="test")
    assert (len(train), len(test)) == (1, 1)
    for dataset, name in ((train, "a"), (test, "b")):
        x = dataset[0]["x"]
        torch.testing.assert_close(x, images[name], rtol=0, atol=1.01 / 255)


def test_audio_is_cut_by_the_sample(tmp_path):
    samples = torch.arange(-1000, 1000).view(1, -1) / 32768  # exact in 16 bits
    media.write_audio(tmp_path / "a.wav", samples, 8000)
    train = ClipDataset(tmp_path, (300,), clip_stride=500, sample_rate=8000)
    test = ClipDataset(tmp_path, (300,), split="test", clip_stride=500, sample_rate=8000)
    assert (len(train), len(test)) == (3, 1)
    for dataset, index, start in (
        (train, 0, 0),
        (train, 1, 500),
        (train, 2, 1000),
        (test, 0, 1500),
    ):
        assert torch.equal(dataset[index]["x"], samples[:, start : start + 300])


def test_audio_of_another_rate_is_resampled_before_it_is_cut(tmp_path):
    wave = torch.sin(torch.arange(4000) / 4000 * 2 * torch.pi * 20).view(1, -1) / 2
    media.write_audio(tmp_path / "a.wav", wave, 8000)
    dataset = ClipDataset(tmp_path, (500,), sample_rate=4000)
    assert len(dataset) == 3  # 2,000 samples at 4 kHz are 4 windows, the last of them for testing
    torch.testing.assert_close(dataset[1]["x"], wave[:, 1000:2000:2], rtol=0, atol=0.02)


# -- which split ----------------------------------------------------------------------------


def write_images(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        media.write_image(folder / name, torch.zeros(3, 4, 6))


def get_names(folder: Path, split: str) -> list[str]:
    dataset = ClipDataset(folder, (4, 6), split=split)
    return [window.item.path.relative_to(folder).as_posix() for window in dataset.windows]


def test_without_a_table_whole_files_are_the_test_split(tmp_path):
    write_videos(tmp_path, 20, 10)
    train = ClipDataset(tmp_path, SHAPE, clip_stride=1)  # 17 windows
    test = ClipDataset(tmp_path, SHAPE, split="test", clip_stride=1)  # 7 windows
    assert windows(train) == [[start + t for t in range(4)] for start in range(17)]
    assert windows(test) == [[20 + start + t for t in range(4)] for start in range(7)]


@pytest.mark.parametrize(
    ("number", "held_out"),
    [
        (2, [1]),
        (3, [1]),
        (9, [4]),
        (10, [5]),
        (19, [9]),
        (20, [5, 15]),
        (25, [6, 18]),
        (31, [5, 15, 25]),
    ],
)
@pytest.mark.parametrize("table", [False, True], ids=["no table", "a table without a split"])
def test_every_tenth_file_is_in_the_test_split_spread_evenly(tmp_path, number, held_out, table):
    names = [f"{file:02d}.png" for file in range(number)]
    write_images(tmp_path, *names)
    if table:
        write_metadata(tmp_path, [Item(tmp_path / name) for name in names])
    assert get_names(tmp_path, "test") == [names[file] for file in held_out]
    rest = [name for file, name in enumerate(names) if file not in held_out]
    assert get_names(tmp_path, "train") == rest


def test_every_folder_of_ten_files_gives_one_of_them(tmp_path):
    write_images(tmp_path, *(f"{folder}/{file}.png" for folder in "abc" for file in range(10)))
    assert get_names(tmp_path, "test") == ["a/5.png", "b/5.png", "c/5.png"]
    assert len(get_names(tmp_path, "train")) == 27


@pytest.mark.parametrize(
    ("num_frames", "step", "train", "test"),
    [
        (20, 1, range(13), [16]),  # 17 windows, the last from 16 on
        (24, 1, range(16), [19, 20]),  # 21 windows
        (24, 4, range(0, 20, 4), [20]),
        (24, 2, range(0, 17, 2), [20]),  # the window from 18 on shares two frames with it
        (9, 5, [0], [5]),
    ],
)
def test_of_a_single_file_the_last_tenth_of_its_windows_is_the_test_split_and_no_frame_is_shared(
    tmp_path, num_frames, step, train, test
):
    write_videos(tmp_path, num_frames)
    splits = [
        ClipDataset(tmp_path, SHAPE, split=split, clip_stride=step) for split in ("train", "test")
    ]
    for dataset, starts in zip(splits, (train, test), strict=True):
        assert windows(dataset) == [[start + t for t in range(4)] for start in starts]
    seen, held_out = ({frame for w in windows(dataset) for frame in w} for dataset in splits)
    assert not seen & held_out


def test_a_single_window_is_for_testing_and_leaves_nothing_to_train_on(tmp_path):
    write_videos(tmp_path, 7)
    assert windows(ClipDataset(tmp_path, SHAPE, split="test")) == [[0, 1, 2, 3]]
    complaint = "for the split 'train': 1 files, 1 of them in this split$"
    with pytest.raises(ValueError, match=complaint):
        ClipDataset(tmp_path, SHAPE)


def test_the_only_file_is_all_of_the_test_split_where_the_table_says_so(tmp_path):
    write_videos(tmp_path, 12)
    write_metadata(tmp_path, [Item(tmp_path / "0.mp4", "test")])
    test = ClipDataset(tmp_path, SHAPE, split="test")
    assert windows(test) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    complaint = "for the split 'train': 1 files, 0 of them in this split$"
    with pytest.raises(ValueError, match=complaint):
        ClipDataset(tmp_path, SHAPE)


def test_whole_files_are_the_test_split_where_the_table_says_so(tmp_path):
    write_videos(tmp_path, 9, 9)
    items = [Item(tmp_path / "0.mp4", "test"), Item(tmp_path / "1.mp4", "train")]
    write_metadata(tmp_path, items)
    test = ClipDataset(tmp_path, SHAPE, split="test")
    assert windows(test) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    train = ClipDataset(tmp_path, SHAPE)
    assert windows(train) == [[20, 21, 22, 23], [24, 25, 26, 27]]


def test_a_file_of_the_test_split_is_not_replaced_by_windows_for_training(tmp_path):
    write_videos(tmp_path, 20, 3)
    items = [Item(tmp_path / "0.mp4", "train"), Item(tmp_path / "1.mp4", "test")]
    write_metadata(tmp_path, items)
    assert len(ClipDataset(tmp_path, SHAPE)) == 5
    complaint = r"no window of .* for the split 'test': 2 files, 1 of them in this split$"
    with pytest.raises(ValueError, match=complaint):
        ClipDataset(tmp_path, SHAPE, split="test")  # 1.mp4 is too short


def test_there_are_two_splits(videos):
    with pytest.raises(ValueError, match="split must be 'train' or 'test', got 'val'"):
        ClipDataset(videos, SHAPE, split="val")


# -- what is known about a window -----------------------------------------------------------


def write_labelled(folder: Path) -> ClipDataset:
    """Three training videos of 4 frames with class and speaker; a fourth file is held out."""
    write_videos(folder, 4, 4)
    for name in ("2.mp4", "3.mp4"):
        (folder / name).write_bytes((folder / "0.mp4").read_bytes())
    about = [("walk", "zoe"), ("jump", "ann"), ("walk", "ann"), ("climb", "bob")]
    items = [
        Item(folder / f"{file}.mp4", "test" if file == 3 else "train", name, speaker)
        for file, (name, speaker) in enumerate(about)
    ]
    write_metadata(folder, items)
    return ClipDataset(folder, SHAPE)


def test_ids_number_the_sorted_names_of_the_files_of_both_splits(tmp_path):
    train = write_labelled(tmp_path)
    assert train.classes == ["climb", "jump", "walk"]
    assert train.speakers == ["ann", "bob", "zoe"]
    assert [int(train[i]["class_id"]) for i in range(3)] == [2, 1, 2]
    assert [int(train[i]["speaker"]) for i in range(3)] == [2, 0, 0]
    test = ClipDataset(tmp_path, SHAPE, split="test")
    assert (int(test[0]["class_id"]), int(test[0]["speaker"])) == (0, 1)


def test_without_a_table_the_folder_is_the_class(tmp_path):
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
        media.write_image(tmp_path / name / "x.png", torch.zeros(3, 4, 6))
    dataset = ClipDataset(tmp_path, (4, 6))
    assert dataset.classes == ["a", "b"]
    assert dataset[0]["class_id"].dtype == torch.int64
    assert int(dataset[0]["class_id"]) == 0
    assert int(ClipDataset(tmp_path, (4, 6), split="test")[0]["class_id"]) == 1


def test_what_is_not_known_is_not_in_a_sample(videos):
    assert set(ClipDataset(videos, SHAPE)[0]) == {"x"}


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize(
    ("field", "value", "key"),
    [
        ("class_name", "walk", "class_id"),
        ("speaker", "zoe", "speaker"),
        ("actions", "0.npy", "actions"),
    ],
)
def test_what_is_known_of_every_file_is_offered_and_of_all_but_one_is_not(
    tmp_path, split, field, value, key
):
    """Also where the one that lacks it is in the other split: both offer the same."""
    write_videos(tmp_path, 4, 4)
    np.save(tmp_path / "0.npy", np.zeros(3, dtype=np.int8))
    told = {field: tmp_path / value if field == "actions" else value}
    files = [(tmp_path / "0.mp4", "train"), (tmp_path / "1.mp4", "test")]
    write_metadata(tmp_path, [Item(*file, **told) for file in files])
    everywhere = ClipDataset(tmp_path, SHAPE, split=split)
    assert set(everywhere[0]) == {"x", key}
    for lacks in (0, 1):
        items = [Item(*file, **({} if i == lacks else told)) for i, file in enumerate(files)]
        write_metadata(tmp_path, items)
        dataset = ClipDataset(tmp_path, SHAPE, split=split)
        assert set(dataset[0]) == {"x"}
        assert (dataset.classes, dataset.speakers, dataset.has_actions) == ([], [], False)


def test_what_all_files_have_stays_where_something_else_is_missing(tmp_path):
    write_videos(tmp_path, 4, 4)
    items = [
        Item(tmp_path / "0.mp4", "train", "walk", "zoe"),
        Item(tmp_path / "1.mp4", "test", "jump"),
    ]
    write_metadata(tmp_path, items)
    dataset = ClipDataset(tmp_path, SHAPE)
    assert (dataset.classes, dataset.speakers) == (["jump", "walk"], [])
    sample = dataset[0]
    assert set(sample) == {"x", "class_id"}
    assert int(sample["class_id"]) == 1


def test_a_file_beside_the_folders_leaves_all_without_a_class(tmp_path):
    write_images(tmp_path, "a/x.png", "b/x.png", "x.png")
    dataset = ClipDataset(tmp_path, (4, 6))
    assert dataset.classes == []
    assert set(dataset[0]) == {"x"}


def write_with_actions(folder: Path, actions: np.ndarray, num_frames: int = 12) -> Path:
    write_videos(folder, num_frames)
    np.save(folder / "0.npy", actions)
    write_metadata(folder, [Item(folder / "0.mp4", "test", actions=folder / "0.npy")])
    return folder


def test_an_action_is_the_one_that_led_into_its_frame_and_none_led_into_the_first(tmp_path):
    recorded = np.arange(101, 112, dtype=np.int8)  # action t leads from frame t to frame t + 1
    dataset = ClipDataset(
        write_with_actions(tmp_path, recorded), SHAPE, split="test", clip_stride=3
    )
    for index in range(len(dataset)):
        sample = dataset[index]
        numbers = read_numbers(sample["x"])
        expected = [int(recorded[number - 1]) if number else 0 for number in numbers]
        assert sample["actions"].tolist() == expected
        assert sample["actions"].dtype == torch.int64
    assert dataset[0]["actions"].tolist() == [0, 101, 102, 103]


def test_continuous_actions_keep_their_values_and_their_axis(tmp_path):
    recorded = np.random.default_rng(0).normal(size=(11, 2))
    dataset = ClipDataset(write_with_actions(tmp_path, recorded), SHAPE, split="test")
    actions = dataset[0]["actions"]
    assert actions.dtype == torch.float32
    torch.testing.assert_close(actions[0], torch.zeros(2))
    torch.testing.assert_close(actions[1:], torch.from_numpy(recorded[:3]).float())
    torch.testing.assert_close(dataset[1]["actions"], torch.from_numpy(recorded[3:7]).float())


def test_actions_that_are_no_whole_numbers_are_not_cut_down_to_some(tmp_path):
    dataset = ClipDataset(write_with_actions(tmp_path, np.linspace(0, 1, 11)), SHAPE, split="test")
    with pytest.raises(ValueError, match=r"0\.npy"):
        dataset[0]


def test_actions_that_end_before_the_frames_are_missed_by_number(tmp_path):
    dataset = ClipDataset(
        write_with_actions(tmp_path, np.zeros(9, dtype=np.int8)), SHAPE, split="test"
    )
    assert len(dataset[1]["actions"]) == 4  # frames 4 to 7 need seven actions
    with pytest.raises(ValueError, match=r"0\.npy holds 9 actions; frames 8 to 11 need 11$"):
        dataset[2]


def test_actions_are_numbers_and_never_pickled_objects(tmp_path):
    objects = np.array([print] * 11, dtype=object)
    dataset = ClipDataset(write_with_actions(tmp_path, objects), SHAPE, split="test")
    with pytest.raises(ValueError, match=r"must be a \.npy file of integers"):
        dataset[0]


# -- folders that do not do -----------------------------------------------------------------


@pytest.mark.parametrize("shape", [(300,), (8, 12), SHAPE], ids=str)
def test_a_folder_without_files_of_its_rank_says_which_endings_it_looked_for(tmp_path, shape):
    (tmp_path / "notes.txt").write_text("nothing to see")
    endings = ", ".join(SUFFIXES_BY_RANK[len(shape)])
    with pytest.raises(ValueError, match=f"holds no file ending in {endings} and no metadata.jso"):
        ClipDataset(tmp_path, shape, sample_rate=8000)


def test_a_folder_that_does_not_exist_is_not_an_empty_one(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere' does not exist"):
        ClipDataset(tmp_path / "nowhere", SHAPE)


def test_files_that_are_too_short_are_counted_in_the_refusal(videos):
    with pytest.raises(
        ValueError,
        match=r"no window of \[13, 16, 24\] for the split 'train': "
        r"2 files, 1 of them in this split$",
    ):
        ClipDataset(videos, (13, 16, 24))


def test_a_file_that_is_no_video_is_named(tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"this is no video at all")
    with pytest.raises(media.MediaError, match=r"broken\.mp4"):
        ClipDataset(tmp_path, SHAPE)


# -- what a model is told -------------------------------------------------------------------


def test_a_model_gets_the_conditions_it_takes_and_nothing_else(tmp_path):
    batch = next(iter(DataLoader(write_labelled(tmp_path), batch_size=3)))
    assert cond_from_batch(batch, CondSpec().keys) is None
    cond = cond_from_batch(batch, CondSpec(num_speakers=3).keys)
    assert cond.speaker.tolist() == [2, 0, 0]
    assert (cond.class_id, cond.actions, cond.local) == (None, None, None)
    both = cond_from_batch(batch, CondSpec(num_speakers=3, num_classes=3).keys)
    assert (both.class_id.tolist(), both.speaker.tolist()) == ([2, 1, 2], [2, 0, 0])
    both.check(CondSpec(num_speakers=3, num_classes=3), 3, (2, 4, 6))


@pytest.mark.parametrize("sizes", [{"num_actions": 4}, {"action_dim": 2}])
def test_actions_of_both_kinds_are_conditions(sizes):
    actions = torch.zeros(2, 4)
    assert cond_from_batch({"actions": actions}, CondSpec(**sizes).keys).actions is actions


@pytest.mark.parametrize(
    ("sizes", "missing"),
    [
        ({"num_classes": 3}, "class_id"),
        ({"num_speakers": 3}, "speaker"),
        ({"num_actions": 3}, "actions"),
        ({"action_dim": 3}, "actions"),
        ({"local_channels": 3}, "local"),
    ],
)
def test_data_that_lacks_what_a_model_takes_is_refused(videos, sizes, missing):
    batch = next(iter(DataLoader(ClipDataset(videos, SHAPE), batch_size=2)))
    with pytest.raises(ValueError, match=f"the model takes {missing}, which the data does not hav"):
        cond_from_batch(batch, CondSpec(**sizes).keys)


def test_audio_needs_a_sample_rate(tmp_path):
    with pytest.raises(ValueError, match="need a sample_rate in Hz"):
        ClipDataset(tmp_path, (100,))


def test_the_frames_of_videos_are_images_too(tmp_path, write_numbers, read_numbers):
    write_numbers(tmp_path / "b.mp4", range(10, 16))
    media.write_image(tmp_path / "a.png", torch.ones(3, 16, 24))
    np.save(tmp_path / "acts.npy", np.zeros(5, np.int8))
    rows = [
        {"file": "a.png", "split": "test"},
        {"file": "b.mp4", "actions": "acts.npy"},
    ]
    (tmp_path / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    images = ClipDataset(tmp_path, (8, 12))
    assert len(images) == 6
    assert not images.has_actions
    assert read_numbers(torch.stack([images[i]["x"] for i in range(6)], dim=1)) == list(
        range(10, 16)
    )
    every_second = ClipDataset(tmp_path, (8, 12), clip_stride=2, cache_dir=tmp_path / "cache_dir")
    x = torch.stack([every_second[i]["x"] for i in range(3)], dim=1)
    assert read_numbers(x) == [10, 12, 14]
    assert len(ClipDataset(tmp_path, (8, 12), split="test")) == 1
