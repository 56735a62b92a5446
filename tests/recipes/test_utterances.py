"""Whole utterances are the files as they are, and labels stand where their frames do."""

import itertools
import random

import pytest
import torch

from vqvideo import media
from vqvideo.data.metadata import Item, Segment, write_metadata
from vqvideo.recipes.speech.utterances import align_labels, list_labeled_items, read_utterances

LABELLED = (Segment(0.0, 0.05, "AH"),)


def write_sounds(folder, lengths, rate=16000):
    folder.mkdir()
    draw = torch.Generator().manual_seed(0)
    for name, length in lengths.items():
        samples = torch.randint(-9000, 9000, (1, length), generator=draw) / 32768
        media.write_audio(folder / name, samples, rate)


def get_label(segments, time):
    found = [label for start, end, label in segments if start <= time < end]
    return found[0] if found else None


@pytest.mark.parametrize("seed", range(20))
def test_a_frame_has_the_label_at_its_middle(seed):
    draw = random.Random(seed)
    times = sorted(draw.uniform(0, 1) for _ in range(10))
    segments = [
        Segment(start, end, draw.choice("ABC"))
        for start, end in itertools.pairwise(times)
        if draw.random() < 0.7
    ]
    expected = [get_label(segments, (frame + 0.5) * 0.04) for frame in range(30)]
    assert align_labels(segments, 30, 0.04) == expected


def test_a_segment_begins_with_its_start_and_is_over_at_its_end():
    segments = [Segment(0.5, 1.5, "A"), Segment(1.5, 2.5, "B")]
    assert align_labels(segments, 4, 1.0) == ["A", "B", None, None]


def test_without_segments_no_frame_has_a_label():
    assert align_labels([], 2, 0.04) == [None, None]


def test_utterances_are_whole_files_of_a_split_and_only_those_with_segments(tmp_path):
    folder = tmp_path / "speech"
    write_sounds(folder, {"a.wav": 700, "b.wav": 901, "c.wav": 500, "d.flac": 600})
    items = [
        Item(folder / "a.wav", speaker="p1", segments=LABELLED),
        Item(folder / "b.wav", "test", speaker="p2", segments=LABELLED),
        Item(folder / "c.wav"),
        Item(folder / "d.flac", segments=LABELLED),
    ]
    write_metadata(folder, items)
    assert list_labeled_items(folder, "train") == [items[0], items[3]]
    assert list_labeled_items(folder, "test") == [items[1]]
    told = []
    found = read_utterances(
        list_labeled_items(folder, "train"),
        sample_rate=16000,
        progress=lambda done, total: told.append((done, total)),
    )
    for utterance, item in zip(found, (items[0], items[3]), strict=True):
        assert utterance.item == item
        assert utterance.samples.equal(media.read_audio(item.path).samples)
    assert told == [(1, 2), (2, 2)]
    [slower] = read_utterances([items[1]], sample_rate=8000)
    assert slower.samples.shape == (1, 451)


def test_a_folder_without_segments_is_refused_with_an_example(tmp_path):
    folder = tmp_path / "speech"
    write_sounds(folder, {"a.wav": 700, "b.wav": 700})
    message = r"speech has 1 files for the split 'train' and none .* \"segments\": \[\[start_sec"
    with pytest.raises(ValueError, match=message):
        list_labeled_items(folder, "train")


def test_an_utterance_that_cannot_be_read_is_named(tmp_path):
    folder = tmp_path / "speech"
    write_sounds(folder, {"a.wav": 700})
    (folder / "a.wav").write_text("no sound")
    with pytest.raises(media.MediaError, match=r"a\.wav"):
        list(read_utterances([Item(folder / "a.wav")], sample_rate=16000))
